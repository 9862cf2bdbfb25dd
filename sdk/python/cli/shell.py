"""`onmemos shell`: a terminal in a session for a person, its shell for lines from a pipe."""

import sys
from typing import TYPE_CHECKING

import click

from ..errors import ShellExited
from .complaints import Complaint
from .grammar import Command, examples
from .invocation import Invocation, pass_invocation
from .names import session_argument
from .output import written
from .progress import waiting

if TYPE_CHECKING:
    from ..client import OnMemOSClient


@click.command(
    cls=Command,
    epilog=examples("onmemos shell ws-demo-me-1756062811", "onmemos shell ws-demo-me-1756062811 < commands.txt"),
)
@session_argument
@pass_invocation
def shell(invocation: Invocation, *, session_id: str) -> None:
    """Open a terminal in a session.

    Where standard input is no terminal, each of its lines is run as a command in one shell, whose folder and variables
    last from line to line. The exit code is the shell's, or that of the last line.
    """
    run = _interactive if sys.stdin.isatty() else _lines
    raise click.exceptions.Exit(run(invocation.client, session_id))


def _interactive(client: "OnMemOSClient", session_id: str) -> int:
    try:
        from .terminal import attached, size_of
    except ImportError as exc:
        raise Complaint("a terminal needs Linux or macOS; give the commands on standard input instead") from exc
    rows, cols = size_of(sys.stdin.fileno())
    with waiting(f"connecting to {session_id}"):
        opened = client.open_terminal(session_id, rows, cols)
    with opened as terminal:
        attached(terminal, sys.stdin.fileno(), sys.stdout.fileno())
    if terminal.returncode is None:
        raise Complaint("the terminal was closed; how its shell ended is not known")
    return terminal.returncode


def _lines(client: "OnMemOSClient", session_id: str) -> int:
    returncode = 0
    with waiting(f"connecting to {session_id}"):
        opened = client.open_shell(session_id)
    with opened as running:
        for number, line in enumerate(sys.stdin.buffer, 1):
            try:
                command = line.decode().strip()
            except UnicodeDecodeError as exc:
                raise Complaint(f"line {number} of standard input is not UTF-8 text") from exc
            if not command:
                continue
            try:
                result = running.execute(command)
            except ShellExited:
                return returncode  # the line before was `exit`
            written(result["stdout"], result["stderr"])
            returncode = result["returncode"]
    return returncode
