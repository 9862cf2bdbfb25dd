"""`onmemos` itself: the options before every command, and what becomes of the errors."""

from pathlib import Path
from typing import Any

import click

from ..errors import OnMemOSError
from ..version import __version__
from . import execution, here, jobs, keys, places, service, sessions, shell, ssh
from .complaints import INTERRUPTED, Complaint, sentence
from .deployment import KEY_VARIABLE, URL_VARIABLE, deployment
from .grammar import Group, examples
from .invocation import Invocation, connect
from .output import Output
from .values import Duration


class Root(Group):
    """Turns what a command raises into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OnMemOSError as exc:
            raise Complaint(sentence(exc)) from exc
        except (KeyboardInterrupt, click.Abort) as exc:
            click.echo(err=True)  # the terminal has ^C in its line
            raise click.exceptions.Exit(INTERRUPTED) from exc


@click.group(
    cls=Root,
    epilog=examples(
        "onmemos run python -- python --version",
        "ID=$(onmemos sessions create python --ttl 2h)",
        "onmemos shell $ID",
    ),
)
@click.option("--url", envvar=URL_VARIABLE, metavar="URL", help=f"The API. [{URL_VARIABLE}, http://localhost:8080]")
@click.option("--api-key", envvar=KEY_VARIABLE, metavar="KEY", help=f"The key for it. [{KEY_VARIABLE}]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option(
    "--timeout",
    type=Duration("s"),
    default=30.0,
    metavar="TIME",
    help="How long to wait for an answer, beyond what a call takes by itself. [30]",
)
@click.version_option(__version__, prog_name="onmemos", message="%(prog)s %(version)s")
@click.pass_context
def root(ctx: click.Context, *, url: str | None, api_key: str | None, as_json: bool, timeout: float) -> None:
    """Isolated sessions where commands run.

    Where neither --url nor --api-key is given, the local stack that runs in this folder is meant (.onmemos/env).
    """
    chosen = deployment(url, api_key, timeout, Path())
    ctx.obj = Invocation(chosen, Output(as_json=as_json), ctx.obj or connect)
    ctx.call_on_close(ctx.obj.close)


root.add_command(execution.run)
root.add_command(execution.execute)
root.add_command(shell.shell)
root.add_command(ssh.ssh)
root.add_command(sessions.sessions)
root.add_command(places.suspend)
root.add_command(places.resume)
root.add_command(places.move)
root.add_command(jobs.jobs)
root.add_command(service.plan)
root.add_command(service.templates)
root.add_command(service.connect)
root.add_command(service.health)
root.add_command(keys.keys)
root.add_command(here.up)
root.add_command(here.completion)
