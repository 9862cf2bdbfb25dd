"""What concerns this machine alone: `onmemos up` and `onmemos completion`."""

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from .complaints import Complaint
from .grammar import Command, examples

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_ONMEMOS_COMPLETE"  # what click makes of the command's name


@click.command(cls=Command)
def up() -> None:
    """Start the local stack, where the repository is.

    Runs `make up` in the repository that this folder belongs to, in the foreground until Ctrl-C.
    """
    repository = find_repository(Path.cwd())
    if repository is None:
        raise Complaint(f"no OnMemOS repository in {Path.cwd()} or above it: wanted a Makefile beside infra/local")
    os.chdir(repository)
    try:
        os.execvp("make", ["make", "--no-print-directory", "up"])  # noqa: S606  # make takes this process' place, signals and all
    except FileNotFoundError as exc:
        raise Complaint("make is not installed") from exc


def find_repository(folder: Path) -> Path | None:
    """The folder itself, or the nearest above it, that holds OnMemOS."""
    for candidate in (folder, *folder.parents):
        if (candidate / "Makefile").is_file() and (candidate / "infra" / "local").is_dir():
            return candidate
    return None


@click.command(
    cls=Command,
    epilog=examples(
        'eval "$(onmemos completion bash)"    # in ~/.bashrc',
        'eval "$(onmemos completion zsh)"     # in ~/.zshrc',
        "onmemos completion fish | source     # in ~/.config/fish/config.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print the script that makes Tab complete.

    It completes commands, options, templates and the ids of sessions.
    """
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101  # click has all three
    click.echo(script(ctx.find_root().command, {}, "onmemos", VARIABLE).source())
