"""Resource names: projects/P/locations/L[/workstationClusters/C[/workstationConfigs/F[/workstations/W]]]."""

import re
from enum import IntEnum

from google.api_core.exceptions import InvalidArgument


class Level(IntEnum):
    """How deep a name is."""

    LOCATION = 0
    CLUSTER = 1
    CONFIG = 2
    WORKSTATION = 3


# Ids of projects are 6-30 characters in the cloud; a local project may be shorter. Numbers are project numbers.
_PROJECT = r"(?:(?:[a-z][a-z0-9.-]*:)?[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?|[0-9]{1,19})"
_ID = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"  # RFC 1035, as AIP-122 wants resource ids
_COLLECTIONS = ("workstationClusters", "workstationConfigs", "workstations")
_FORMS = ("{cluster}", "{config}", "{workstation}")


def parse(name: str, level: Level, field: str) -> str:
    """The name, which is well-formed and of that level. Raises InvalidArgument that names `field`."""
    return _parsed(name, level, field, _PROJECT, _ID)


def parse_parent(name: str, level: Level, field: str) -> str:
    """The same for a list's parent, where "-" stands for every id but the project's: AIP-159."""
    return _parsed(name, level, field, _PROJECT, f"(?:{_ID}|-)")


def check_id(given: str, field: str) -> None:
    """Raises InvalidArgument: no resource can have that id."""
    if re.fullmatch(_ID, given) is None:
        raise InvalidArgument(
            f"Violation in {field}: must begin with a letter, contain only lowercase letters, digits and hyphens, not "
            f"end with a hyphen, and have at most 63 characters, got {given!r}."
        )


def child(parent: str, level: Level, child_id: str) -> str:
    """The name of a resource of `level` below `parent`."""
    return f"{parent}/{_COLLECTIONS[level - 1]}/{child_id}"


def parent_of(name: str) -> str:
    return name.rsplit("/", 2)[0]


def id_of(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def location_of(name: str) -> str:
    return "/".join(name.split("/")[:4])


def is_below(name: str, parent: str) -> bool:
    """Whether `name` is a child of `parent`, which may hold "-"."""
    return all(
        wanted in ("-", seen) for wanted, seen in zip(parent.split("/"), parent_of(name).split("/"), strict=True)
    )


def _parsed(name: str, level: Level, field: str, project: str, ids: str) -> str:
    pattern = f"projects/{project}/locations/{ids}" + "".join(f"/{c}/{ids}" for c in _COLLECTIONS[:level])
    if re.fullmatch(pattern, name) is None:
        form = "projects/{project}/locations/{location}"
        form += "".join(f"/{c}/{f}" for c, f in zip(_COLLECTIONS[:level], _FORMS, strict=False))
        raise InvalidArgument(f"Violation in {field}: expected the form '{form}', got '{name}'.")
    return name
