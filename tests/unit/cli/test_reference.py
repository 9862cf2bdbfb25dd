"""docs/cli.md tells the truth: every command and option in it exists, and the other way round."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sdk.python.cli.root import root

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))
CREATION = "Options of a creation"


def commands(command: click.Command = root, path: str = "onmemos") -> Iterator[tuple[str, click.Command]]:
    if command is root or not isinstance(command, click.Group):
        yield path, command
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from commands(one, f"{path} {name}")


def options(command: click.Command) -> set[str]:
    """As its help shows them, without --help, which all have."""
    ctx = click.Context(command, **command.context_settings)
    shown = {
        option
        for parameter in command.get_params(ctx)
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert all(option in command.get_help(ctx) for option in shown)
    return shown - {"--help", "-h"}


def documented(section: str) -> set[str]:
    text = SECTIONS[section]
    found = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(re.findall(r"`([^`]+)`", text))))
    if re.search(r"options\sof\sa\screation", text):
        found |= documented(CREATION)
    return found - {"--help", "-h"}


COMMANDS = dict(commands())


def test_the_reference_has_every_command_and_no_other() -> None:
    assert set(SECTIONS) - {CREATION} == set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_the_options_of_its_section_and_no_others(path: str) -> None:
    assert documented(path) == options(COMMANDS[path])


@pytest.mark.parametrize("path", COMMANDS)
def test_every_help_is_one_line_in_the_list_of_its_group(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    assert len(command.get_short_help_str(limit=66)) < 66
    assert not command.get_short_help_str(limit=66).endswith("...")


@pytest.mark.parametrize("path", [path for path in COMMANDS if COMMANDS[path].epilog])
def test_every_example_is_of_its_command(path: str) -> None:
    examples = (COMMANDS[path].epilog or "").splitlines()[2:]
    assert examples
    assert all(path.rsplit(" ", 1)[0] in example for example in examples)
