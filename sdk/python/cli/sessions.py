"""`onmemos sessions`: to list them, look at one, make one, let it live longer, delete."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import click

from ..errors import OnMemOSError
from ..shapes import SessionDict
from .complaints import REFUSED, Complaint, complain, sentence
from .creation import PROVIDERS, creation
from .grammar import Group, examples
from .invocation import Invocation, json_option, pass_invocation
from .names import complete_session, session_argument
from .output import note, pairs, since, span
from .progress import waiting
from .values import Duration, Id, Pair, minutes

STATUSES = ("provisioning", "running", "suspending", "suspended", "moving", "failed")
PAGE = 1000  # the most that the API gives at once


def ends(session: SessionDict) -> str:
    """When its time is up, in short; of one that is suspended, what is left of it."""
    left_s = session.get("ttl_left_seconds")
    if session["expires_at"] is None and left_s is not None:
        return f"{span(left_s)} left"
    return since(session["expires_at"])


def ends_in_words(session: SessionDict) -> str:
    """The same for a sentence: `ends in 42m`, or `42m left`."""
    return f"{'' if session['expires_at'] is None else 'ends '}{ends(session)}"


COLUMNS = {
    "ID": lambda session: session["id"],
    "STATUS": lambda session: session["status"],
    "PROVIDER": lambda session: session["provider"],
    "TEMPLATE": lambda session: session["template"],
    "NAMESPACE": lambda session: session["namespace"],
    "USER": lambda session: session["user"],
    "AGE": lambda session: since(session["created_at"]),
    "ENDS": ends,
}


def filters(command: Any) -> Any:
    """Which sessions; the command gets them as keywords of iter_sessions."""
    options = (
        click.option("--namespace", metavar="NAME", help="Those of a namespace."),
        click.option("--user", metavar="NAME", help="Those of a user."),
        click.option(
            "--status", type=click.Choice(STATUSES), metavar="NAME", help=f"Those that are {', '.join(STATUSES)}."
        ),
        click.option(
            "--provider",
            type=click.Choice(PROVIDERS[1:]),
            metavar="NAME",
            help="Those of cloud_run, gke or workstations.",
        ),
        click.option("--label", "-l", metavar="K=V", help="Those with a label."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=Group, short_help="List, make and delete sessions.")
def sessions() -> None:
    """Sessions: list them, make one, look at one, let it live longer, delete."""


@sessions.command(
    epilog=examples("onmemos sessions ls --status running", "onmemos sessions ls --json | jq -r '.[].id'")
)
@filters
@click.option("--limit", type=click.IntRange(1), default=50, metavar="N", help="At most so many. [50]")
@json_option
@pass_invocation
def ls(invocation: Invocation, /, *, limit: int, **where: str | None) -> None:
    """List your sessions, newest first."""
    found = invocation.client.iter_sessions(**where, page_size=min(limit + 1, PAGE))
    shown = list(islice(found, limit))
    invocation.output.table(shown, COLUMNS)
    if len(shown) == limit and next(found, None) is not None:
        note(f"There are more than these {limit}: see --limit.")


@sessions.command(epilog=examples("onmemos sessions get ws-demo-me-1756062811"))
@session_argument
@json_option
@pass_invocation
def get(invocation: Invocation, *, session_id: str) -> None:
    """Show a session as it is now."""
    show(invocation, invocation.client.get_session(session_id))


@sessions.command(
    epilog=examples(
        "onmemos sessions create python --ttl 12h --label team=core",
        "ID=$(onmemos sessions create nodejs --cpu 2 --memory 4Gi)",
    )
)
@creation(template_required=True)
@click.option("--wait", type=Duration("s"), metavar="TIME", help="How long to wait until it runs; 0: not at all. [30]")
@json_option
@pass_invocation
def create(invocation: Invocation, *, spec: dict[str, Any], wait: float | None) -> None:
    """Make a session and print its id."""
    with waiting(f"creating a {spec['template']} session"):
        session = invocation.client.create_session(spec, wait=wait)
    invocation.output.words(session, session["id"])
    if session["status"] == "failed":
        raise Complaint(f"{session['id']} failed: {session.get('error') or 'no reason given'}")
    note(f"{session['status']} on {session['provider']}; {ends_in_words(session)}")


@sessions.command(epilog=examples("onmemos sessions extend ws-demo-me-1756062811 --ttl 2h"))
@session_argument
@click.option(
    "--ttl", type=Duration("m"), required=True, metavar="TIME", help="How long from now: 90 (minutes), 12h, 7d."
)
@json_option
@pass_invocation
def extend(invocation: Invocation, *, session_id: str, ttl: float) -> None:
    """Set anew how long a session lives, counted from now."""
    session = invocation.client.update_session(session_id, ttl_minutes=minutes(ttl))
    invocation.output.facts(session, {"id": session["id"], "ends": _end(session)})


@sessions.command(
    epilog=examples(
        "onmemos sessions update ws-demo-me-1756062811 --auto-resume",
        "onmemos sessions update ws-demo-me-1756062811 --label team=core --label stage=test",
    )
)
@session_argument
@click.option("--ttl", type=Duration("m"), metavar="TIME", help="How long it lives from now: 90 (minutes), 12h, 7d.")
@click.option(
    "--label", "-l", type=Pair(), multiple=True, metavar="K=V", help="Its labels, in the place of all others."
)
@click.option("--auto-resume/--no-auto-resume", default=None, help="Whether a command resumes it when it is suspended.")
@json_option
@pass_invocation
def update(
    invocation: Invocation,
    *,
    session_id: str,
    ttl: float | None,
    label: tuple[tuple[str, str], ...],
    auto_resume: bool | None,
) -> None:
    """Change what a session is to be like."""
    if ttl is None and not label and auto_resume is None:
        raise click.UsageError("wanted --ttl, --label, --auto-resume or --no-auto-resume")
    session = invocation.client.update_session(
        session_id,
        ttl_minutes=None if ttl is None else minutes(ttl),
        labels=dict(label) or None,
        auto_resume=auto_resume,
    )
    facts = {
        "id": session["id"],
        "labels": pairs(session["labels"]),
        "auto resume": session.get("auto_resume"),
        "ends": _end(session),
    }
    invocation.output.facts(session, facts)


@sessions.command(
    epilog=examples(
        "onmemos sessions rm ws-demo-me-1756062811 ws-demo-me-1756062812",
        "onmemos sessions rm --all --namespace demo --yes",
    )
)
@click.argument("session_ids", nargs=-1, type=Id(), metavar="[ID]...", shell_complete=complete_session)
@click.option("--all", "everything", is_flag=True, help="All of your sessions, or those that the filters leave.")
@filters
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
@pass_invocation
def rm(
    invocation: Invocation, /, *, session_ids: tuple[str, ...], everything: bool, yes: bool, **where: str | None
) -> None:
    """Delete sessions, and print the ids of those that are gone."""
    if bool(session_ids) == everything:
        raise click.UsageError("wanted either IDs or --all")
    if not everything and any(where.values()):
        raise click.UsageError("filters are for --all")
    client = invocation.client
    if everything:
        session_ids = tuple(session["id"] for session in client.iter_sessions(**where, page_size=PAGE))
        if session_ids and not yes:
            _ask(session_ids)
    gone, refused = [], False
    for session_id in dict.fromkeys(session_ids):
        try:
            gone.append(client.delete_session(session_id))
        except OnMemOSError as exc:
            refused = True
            complain(f"{session_id}: {sentence(exc)}")
        else:
            if not invocation.output.as_json:
                click.echo(session_id)
    if invocation.output.as_json:
        invocation.output.json(gone)
    if refused:
        raise click.exceptions.Exit(REFUSED)


def show(invocation: Invocation, session: SessionDict) -> None:
    """All that is to be known of a session."""
    storage: Mapping[str, object] = session.get("storage") or {}
    facts = {
        "id": session["id"],
        "status": session["status"],
        "error": session.get("error"),
        "provider": session["provider"],
        "template": session["template"],
        "namespace": session["namespace"],
        "user": session["user"],
        "labels": pairs(session["labels"]),
        "created": f"{session['created_at']} ({since(session['created_at'])} ago)",
        "suspended": f"{paused} ({since(paused)} ago)" if (paused := session.get("suspended_at")) else None,
        "ends": _end(session),
        "long lived": session.get("long_lived"),
        "auto resume": session.get("auto_resume"),
        "idle timeout": f"{idle} min" if (idle := session.get("idle_timeout_minutes")) else None,
        "url": session["url"],
        "websocket": session["websocket"],
        "ssh": session["ssh"],
        **{f"storage {name.replace('_', ' ')}": value for name, value in storage.items()},
        **{name.replace("_", " "): _flat(value) for name, value in session["details"].items()},
    }
    invocation.output.facts(session, facts)


def _end(session: SessionDict) -> str:
    if session["expires_at"] is None:
        return f"{session['status']}, {ends(session)}"
    return f"{session['expires_at']} ({since(session['expires_at'])})"


def _flat(value: object) -> object:
    return pairs(value) if isinstance(value, dict) else value


def _ask(session_ids: tuple[str, ...]) -> None:
    for session_id in session_ids:
        note(session_id)
    count = f"{len(session_ids)} session{'s' if len(session_ids) > 1 else ''}"
    if not click.confirm(f"Delete {'these ' if len(session_ids) > 1 else 'this '}{count}?", err=True):
        raise Complaint("nothing was deleted")
