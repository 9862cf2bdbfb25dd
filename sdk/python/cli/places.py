"""Where a session is: `onmemos suspend`, `resume` and `move`."""

from typing import TYPE_CHECKING

import click

from .creation import PROVIDERS
from .grammar import Command, examples
from .invocation import Invocation, json_option, pass_invocation
from .names import session_argument
from .output import note
from .progress import waiting
from .sessions import ends_in_words
from .values import Duration

if TYPE_CHECKING:
    from ..shapes import SessionDict

WAIT_S = 300.0
DONE = frozenset({"running", "suspended"})

wait_option = click.option(
    "--wait",
    type=Duration("s"),
    default=WAIT_S,
    metavar="TIME",
    help="How long to wait until it is done; 0: not at all. [300]",
)


@click.command(cls=Command, epilog=examples("onmemos suspend ws-demo-me-1756062811"))
@session_argument
@wait_option
@json_option
@pass_invocation
def suspend(invocation: Invocation, *, session_id: str, wait: float) -> None:
    """Let a session rest: files stay, processes end.

    Its time stands still, and nothing runs that costs by the hour. It stays suspended until somebody resumes it, or a
    command does, where it was made with --auto-resume.
    """
    session = invocation.client.sessions.get(session_id)
    with waiting(f"suspending {session_id}"):
        _tell(invocation, session.suspend(wait))


@click.command(cls=Command, epilog=examples("onmemos resume ws-demo-me-1756062811"))
@session_argument
@wait_option
@json_option
@pass_invocation
def resume(invocation: Invocation, *, session_id: str, wait: float) -> None:
    """Start a suspended session again, with its files."""
    session = invocation.client.sessions.get(session_id)
    with waiting(f"resuming {session_id}"):
        _tell(invocation, session.resume(wait))


@click.command(cls=Command, epilog=examples("onmemos move ws-demo-me-1756062811 --to workstations"))
@session_argument
@click.option(
    "--to",
    "provider",
    type=click.Choice(PROVIDERS[1:]),
    required=True,
    metavar="NAME",
    help="cloud_run, gke or workstations.",
)
@wait_option
@json_option
@pass_invocation
def move(invocation: Invocation, *, session_id: str, provider: str, wait: float) -> None:
    """Take a session to another provider, with its files.

    Its id stays, its processes end. Where the other provider cannot start it, it is still where it was, untouched.
    """
    session = invocation.client.sessions.get(session_id)
    with waiting(f"moving {session_id} to {provider}"):
        _tell(invocation, session.move(provider, wait))


def _tell(invocation: Invocation, session: "SessionDict") -> None:
    invocation.output.words(session, session["id"])
    said = [f"{session['status']} on {session['provider']}", ends_in_words(session)]
    if session["status"] not in DONE:
        said.append(f"it goes on, onmemos sessions get {session['id']} shows how")
    elif notice := session["details"].get("notice"):
        said.append(notice)
    note("; ".join(said))
