"""What Tab offers: the sessions, jobs and templates that there are. A shell waits for it, so it gives up soon."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ..errors import OnMemOSError
from .deployment import deployment
from .values import Id

if TYPE_CHECKING:
    from ..client import OnMemOSClient

PATIENCE_S = 2.0
OFFERED = 100


def complete_session(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids, newest first, each with what it is."""
    return _offered(ctx, incomplete, _sessions)


def complete_template(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Templates that can be used here."""
    return _offered(ctx, incomplete, _templates)


def complete_job(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the jobs of the session that stands before, newest first."""
    return _offered(ctx, incomplete, lambda client: _jobs(client, ctx.params.get("session_id") or ""))


session_argument = click.argument("session_id", metavar="ID", type=Id(), shell_complete=complete_session)

job_argument = click.argument("job_id", metavar="JOB", type=Id(), shell_complete=complete_job)

Found = Iterator[tuple[str, str]]


def _sessions(client: "OnMemOSClient") -> Found:
    for session in islice(client.iter_sessions(page_size=OFFERED), OFFERED):
        yield session["id"], f"{session['template']}, {session['status']}"


def _jobs(client: "OnMemOSClient", session_id: str) -> Found:
    for job in islice(client.iter_jobs(session_id, page_size=OFFERED), OFFERED):
        yield job["id"], f"{job['state']}, {job.get('command') or shlex.join(job.get('argv') or [])}"


def _templates(client: "OnMemOSClient") -> Found:
    for template in client.list_templates()["templates"]:
        if template["available"]:
            yield template["name"], template["description"]


def _offered(ctx: click.Context, incomplete: str, find: Callable[["OnMemOSClient"], Found]) -> list[CompletionItem]:
    try:
        with _client(ctx) as client:
            return [CompletionItem(name, help=what) for name, what in find(client) if name.startswith(incomplete)]
    except (OnMemOSError, ValueError):
        return []  # nobody can be told: what is printed now lands in the prompt


@contextmanager
def _client(ctx: click.Context) -> Iterator["OnMemOSClient"]:
    """The options before the command are parsed by now, but nothing was invoked: there is no Invocation."""
    from ..client import OnMemOSClient

    given = ctx.find_root().params
    found = deployment(given.get("url"), given.get("api_key"), PATIENCE_S, Path())
    with OnMemOSClient(found.url, found.api_key, timeout=PATIENCE_S, retries=0) as client:
        yield client
