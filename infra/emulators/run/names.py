"""Resource names of Cloud Run: projects/P/locations/L[/services/S[/revisions/R]]."""

import re
from dataclasses import dataclass
from typing import Self

from google.api_core.exceptions import InvalidArgument

# Ids of projects are 6-30 characters in the cloud; a local project may be shorter. Numbers are project numbers, and a
# prefix "example.com:" marks a domain-scoped project: cloud.google.com/resource-manager/docs/creating-managing-projects
_PROJECT = r"(?:[a-z][a-z0-9.-]*:)?[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?|[0-9]{1,19}"
_LOCATION = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ID = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"

_LOCATION_NAME = re.compile(rf"projects/(?P<project>{_PROJECT})/locations/(?P<location>{_LOCATION})")
_SERVICE_NAME = re.compile(rf"(?P<parent>{_LOCATION_NAME.pattern})/services/(?P<id>{_ID})")
_REVISION_NAME = re.compile(rf"(?P<service>{_SERVICE_NAME.pattern})/revisions/(?P<revision>{_ID})")


@dataclass(frozen=True, slots=True)
class Location:
    project: str
    location: str

    @classmethod
    def parse(cls, name: str, field: str) -> Self:
        """Raises InvalidArgument that names `field`: not of the form, or the wildcard "-" (refused by Cloud Run)."""
        match = _LOCATION_NAME.fullmatch(name)
        if match is None:
            raise _malformed(field, name, "projects/{project}/locations/{location}")
        return cls(match["project"], match["location"])

    def service(self, service_id: str) -> "ServiceName":
        return ServiceName(self, service_id)

    def __str__(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"


@dataclass(frozen=True, slots=True)
class ServiceName:
    parent: Location
    id: str

    @classmethod
    def parse(cls, name: str, field: str) -> Self:
        """Raises InvalidArgument that names `field`."""
        match = _SERVICE_NAME.fullmatch(name)
        if match is None:
            raise _malformed(field, name, "projects/{project}/locations/{location}/services/{service}")
        return cls(Location.parse(match["parent"], field), match["id"])

    def revision(self, revision_id: str) -> str:
        return f"{self}/revisions/{revision_id}"

    def __str__(self) -> str:
        return f"{self.parent}/services/{self.id}"


def parse_revision(name: str, field: str) -> tuple[ServiceName, str]:
    """The service and the id of a revision. Raises InvalidArgument that names `field`."""
    match = _REVISION_NAME.fullmatch(name)
    if match is None:
        raise _malformed(field, name, "projects/{project}/locations/{location}/services/{service}/revisions/{revision}")
    return ServiceName.parse(match["service"], field), match["revision"]


def _malformed(field: str, seen: str, wanted: str) -> InvalidArgument:
    return InvalidArgument(f"Violation in {field}: expected the form '{wanted}', got '{seen}'.")
