"""`onmemos run` and `onmemos exec`: a command in a session, with its output and its exit code as if it ran here."""

import sys
from typing import Any

import click

from .complaints import NotRun, complaining
from .creation import creation
from .grammar import Carrier, examples, spoken
from .invocation import Invocation, json_option, pass_invocation
from .lifetime import temporary_session
from .names import session_argument
from .progress import waiting
from .values import Duration, Pair

DEFAULT_TIMEOUT_S = 120.0

timeout_option = click.option(
    "--timeout",
    type=Duration("s"),
    default=DEFAULT_TIMEOUT_S,
    metavar="TIME",
    help="How long the command may take: 30 (seconds), 10m. [120]",
)
stdin_option = click.option("--stdin", "-i", is_flag=True, help="Give the command this standard input.")
command_argument = click.argument("command", nargs=-1, required=True, metavar="COMMAND...")


@click.command(
    cls=Carrier,
    epilog=examples(
        "onmemos run python -- python --version",
        "onmemos run python -- 'pip install httpx && python -c \"import httpx\"'",
        "onmemos run base --stdin --timeout 10m -- sh -s < build.sh",
    ),
)
@creation(template_required=True)
@timeout_option
@stdin_option
@click.option("--cwd", metavar="PATH", help="Where the command runs. [/workspace]")
@click.option("--keep", is_flag=True, help="Leave the session there.")
@json_option
@command_argument
@pass_invocation
def run(
    invocation: Invocation,
    *,
    spec: dict[str, Any],
    timeout: float,
    stdin: bool,
    cwd: str | None,
    keep: bool,
    command: tuple[str, ...],
) -> None:
    """Run a command in a new session, and delete the session.

    One word is a line for the shell; several are a program and its arguments. The exit code is the command's, or 125
    if it could not be run.
    """
    text = _standard_input() if stdin else None
    with complaining(NotRun), temporary_session(invocation.client, spec, keep=keep) as session:
        if session["status"] == "failed":
            raise NotRun(f"{session['id']} failed: {session.get('error') or 'no reason given'}")
        with waiting(f"running in {session['id']}"):
            result = invocation.client.execute_session(
                session["id"], timeout=timeout, stdin=text, cwd=cwd, **spoken(command)
            )
        invocation.output.result(session["id"], result)
    raise click.exceptions.Exit(result["returncode"])


@click.command(
    "exec",
    cls=Carrier,
    epilog=examples(
        "onmemos exec ws-demo-me-1756062811 -- ls -la",
        "onmemos exec ws-demo-me-1756062811 -- 'cd src && make | tail'",
        "onmemos exec ws-demo-me-1756062811 --stdin -- python - < program.py",
    ),
)
@session_argument
@timeout_option
@click.option("--cwd", metavar="PATH", help="Where the command runs. [/workspace]")
@click.option(
    "--env", "-e", type=Pair(inherits=True), multiple=True, metavar="K=V", help="A variable; K alone: as it is here."
)
@stdin_option
@json_option
@command_argument
@pass_invocation
def execute(
    invocation: Invocation,
    *,
    session_id: str,
    timeout: float,
    cwd: str | None,
    env: tuple[tuple[str, str], ...],
    stdin: bool,
    command: tuple[str, ...],
) -> None:
    """Run a command in a session that is there.

    One word is a line for the shell; several are a program and its arguments. The exit code is the command's, or 125
    if it could not be run.
    """
    text = _standard_input() if stdin else None
    with complaining(NotRun), waiting(f"running in {session_id}"):
        result = invocation.client.execute_session(
            session_id, timeout=timeout, stdin=text, cwd=cwd, env=dict(env) or None, **spoken(command)
        )
    invocation.output.result(session_id, result)
    raise click.exceptions.Exit(result["returncode"])


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as exc:
        raise NotRun(f"standard input is not UTF-8 text, at byte {exc.start}; encode it, in base64 say") from exc
