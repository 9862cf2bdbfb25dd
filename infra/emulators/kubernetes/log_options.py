"""PodLogOptions: what a request may ask of a container's log."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from infra.emulators.kubernetes.statuses import FieldError, forbidden, invalid


@dataclass(frozen=True, slots=True)
class LogOptions:
    """PodLogOptions. `since` is in nanoseconds since the epoch; `stream` is stdout, stderr or both ("")."""

    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: int | None = None
    limit_bytes: int | None = None
    stream: str = ""


def log_options(query: dict[str, str], now: Callable[[], float] = time.time) -> LogOptions:
    """Raises ValueError: a parameter that is no number or time. Bounds are `log_option_errors`' matter."""

    def number(name: str) -> int | None:
        return int(query[name]) if query.get(name) else None

    since = parse_rfc3339_ns(query["sinceTime"]) if query.get("sinceTime") else None
    if (seconds := number("sinceSeconds")) is not None:
        since = int((now() - seconds) * 1e9)
    return LogOptions(
        follow=query.get("follow") in ("true", "1"),
        timestamps=query.get("timestamps") in ("true", "1"),
        tail=number("tailLines"),
        since=since,
        limit_bytes=number("limitBytes"),
        stream={"Stdout": "stdout", "Stderr": "stderr"}.get(query.get("stream", ""), ""),
    )


def log_option_errors(query: dict[str, str]) -> Iterator[FieldError]:
    """Of what `log_options` could read."""
    for name, least, rule in (
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ):
        if query.get(name) and int(query[name]) < least:
            yield invalid(name, int(query[name]), rule)
    if query.get("sinceSeconds") and query.get("sinceTime"):
        yield forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified")


def parse_rfc3339_ns(text: str) -> int:
    """Raises ValueError."""
    whole, dot, rest = text.partition(".")
    if not dot:
        return int(datetime.fromisoformat(text).timestamp()) * 10**9
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    moment = datetime.fromisoformat(whole + rest[len(digits) :])
    return int(moment.timestamp()) * 10**9 + int(digits.ljust(9, "0")[:9])
