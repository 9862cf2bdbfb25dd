"""The kinds of value that options take, each with what it wants in its complaint."""

import math
import os
import re
from datetime import UTC, datetime
from typing import Any

import click

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """Seconds, from `90s`, `30m`, `12h`, `7d`, `2w`; a number alone is in `unit`."""

    name = "duration"

    def __init__(self, unit: str) -> None:
        self._unit = unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", value.strip(), re.ASCII)
        if found is None:
            names = {"s": "seconds", "m": "minutes", "d": "days"}
            self.fail(f"got {value!r}, wanted {names[self._unit]}, or a number with one of s, m, h, d, w", param, ctx)
        return float(found[1]) * SECONDS[found[2] or self._unit]


class Pair(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """`KEY=VALUE`. `inherits`: KEY alone takes the value that it has in this process' environment."""

    name = "key=value"

    def __init__(self, *, inherits: bool = False) -> None:
        self._inherits = inherits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if key and equals:
            return key, text
        if not self._inherits or not key:
            self.fail(f"got {value!r}, wanted KEY=VALUE", param, ctx)
        if key not in os.environ:
            self.fail(f"got {value!r}, which is not set here; wanted KEY=VALUE, or a variable that is", param, ctx)
        return key, os.environ[key]


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """ISO 8601, `2027-01-31` or `2027-01-31T18:00:00+01:00`; in UTC where it has no zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"got {value!r}, wanted ISO 8601 such as 2027-01-31 or 2027-01-31T18:00:00Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Id(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """The id of something. Ids that would address something else are refused here."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in {"", ".", ".."}:
            self.fail(f"got {value!r}, wanted an id", param, ctx)
        return str(value)


def minutes(seconds: float) -> int:
    """Whole minutes, never fewer than were asked for."""
    return math.ceil(seconds / 60)
