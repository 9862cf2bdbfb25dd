"""What goes wrong, as one line on stderr and an exit code."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import click

from ..errors import APIError, OnMemOSError, SessionSuspended, Unauthorized

HINTS: Mapping[type[OnMemOSError], str] = {
    Unauthorized: "; give a key with ONMEMOS_API_KEY or --api-key",
    SessionSuspended: "; onmemos resume starts it again, and onmemos sessions update --auto-resume lets commands do so",
}

REFUSED, NOT_RUN, INTERRUPTED = 1, 125, 130  # exit codes; misuse is click's 2


class Complaint(click.ClickException):
    """`onmemos: <message>` on stderr, and the exit code."""

    exit_code = REFUSED

    def show(self, file: IO[Any] | None = None) -> None:
        complain(self.message)


class NotRun(Complaint):
    """The command that was to run did not."""

    exit_code = NOT_RUN


def complain(message: str) -> None:
    """One line on stderr."""
    click.echo(f"onmemos: {one_line(message)}", err=True)


def sentence(exc: OnMemOSError) -> str:
    """An error in one line: the service's sentence, what it says of single fields, and what to quote when asking."""
    if not isinstance(exc, APIError):
        return one_line(str(exc))
    unsaid = {field: all_of for field, all_of in exc.errors.items() if f"{field}: " not in exc.detail}
    said = "; ".join([exc.detail, *(f"{field}: {complaint}" for field in unsaid for complaint in unsaid[field])])
    facts = [f"{exc.status} {exc.code}" if exc.code else str(exc.status)]
    if exc.request_id:
        facts.append(f"request {exc.request_id}")
    return one_line(f"{said}{HINTS.get(type(exc), '')} ({', '.join(facts)})")


@contextmanager
def complaining(kind: type[Complaint]) -> Iterator[None]:
    """The SDK's errors become complaints of this kind."""
    try:
        yield
    except OnMemOSError as exc:
        raise kind(sentence(exc)) from exc


def one_line(text: str) -> str:
    """Without line ends, and without what a terminal would obey: some of it was written by strangers."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
