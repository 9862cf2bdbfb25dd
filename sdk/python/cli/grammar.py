"""How the command line is read: groups with aliases, commands with a command of their own behind `--`."""

from collections.abc import Sequence
from typing import Any

import click

NAMES = {"help_option_names": ["-h", "--help"]}


class Command(click.Command):
    """A command that knows -h."""

    def __init__(self, name: str | None, **options: Any) -> None:
        super().__init__(name, context_settings=NAMES, **options)


class Carrier(Command):
    """A command that carries another one: `onmemos exec ID -- ls -la`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        separated = "--" in args  # click takes it away
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            if separated:
                raise
            message = f"{exc.message.rstrip('.')}; the command to run goes behind --."
            raise click.NoSuchOption(exc.option_name, message, exc.possibilities, ctx) from exc
        if not separated and not ctx.resilient_parsing:
            raise click.UsageError(
                "the command to run goes behind --", ctx
            )  # else an option of the command could be taken for one of ours
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        *before, command = super().collect_usage_pieces(ctx)
        return [*before, "--", command]


class Group(click.Group):
    """A group that prints its help when it is called alone, and whose `list` is its `ls`, `show` its `get`."""

    command_class = Command
    aliases = {"list": "ls", "show": "get"}  # noqa: RUF012  # click's own attributes are declared so

    def __init__(self, name: str | None = None, **options: Any) -> None:
        super().__init__(name, context_settings=NAMES, no_args_is_help=False, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which they were added: what is used most comes first

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))


def examples(*lines: str) -> str:
    """An epilog of commands, which click leaves as they are."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def spoken(command: Sequence[str]) -> dict[str, Any]:
    """What execute_session takes for the words behind `--`: one is a line for the shell, several are an argv."""
    return {"command": command[0]} if len(command) == 1 else {"argv": list(command)}
