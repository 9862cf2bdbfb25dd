"""`onmemos ssh`: into a session by SSH, as its platform does it."""

import os
import shlex
import sys

import click

from .complaints import Complaint
from .grammar import Command, examples
from .invocation import Invocation, pass_invocation
from .names import session_argument
from .progress import waiting

PROGRAM = "gcloud"  # what a service may have this machine run, and nothing else
WITH_SSH = "workstations"


@click.command(
    cls=Command,
    epilog=examples("onmemos ssh ws-demo-me-1756062811", "onmemos ssh ws-demo-me-1756062811 --print"),
)
@session_argument
@click.option("--print", "only_print", is_flag=True, help="Print the command, and do not run it.")
@pass_invocation
def ssh(invocation: Invocation, *, session_id: str, only_print: bool) -> None:
    """Open an SSH connection to a session.

    It is gcloud that does so, with your own login at Google Cloud, to sessions on workstations.
    """
    with waiting(f"connecting to {session_id}"):
        answer = invocation.client.connect_session(session_id)
        if not answer["ssh"]:
            provider = invocation.client.get_session(session_id)["provider"]
            raise Complaint(
                f"{session_id} is on {provider}, which has no SSH; {WITH_SSH} has: "
                f"onmemos move {session_id} --to {WITH_SSH}, or onmemos shell {session_id} here"
            )
    command = answer["ssh"]["command"]
    if only_print:
        click.echo(command)
        return
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation without an end
        words = []
    if words[:1] != [PROGRAM]:
        raise Complaint(f"the command is not {PROGRAM}'s, and is not run; --print shows it")
    invocation.close()
    sys.stdout.flush()
    try:
        os.execvp(PROGRAM, words)  # noqa: S606  # it takes this process' place, terminal, signals and all
    except FileNotFoundError as exc:
        raise Complaint(
            f"{PROGRAM} is not installed: cloud.google.com/sdk/docs/install; --print shows the command"
        ) from exc
