"""What goes to stdout: tables and colour on a terminal, aligned text in a pipe, JSON for scripts."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from ..shapes import ExecutionDict
from .complaints import complain, one_line

Cell = Callable[[Any], object]

STYLES: Mapping[str, str] = {
    "running": "green",
    "active": "green",
    "ok": "green",
    "yes": "green",
    "succeeded": "green",
    "provisioning": "yellow",
    "suspending": "yellow",
    "suspended": "yellow",
    "moving": "yellow",
    "pending": "yellow",
    "timed_out": "red",
    "cancelled": "dim",
    "expired": "yellow",
    "failed": "red",
    "revoked": "red",
    "deleting": "dim",
}
UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


class Output:
    """`as_json`: every answer is one JSON document, as the API gave it; lists are arrays."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def table(self, items: Sequence[Any], columns: Mapping[str, Cell]) -> None:
        """A row for each item under a header; `columns` say what stands in them."""
        if self.as_json:
            return self.json(items)
        rows = [[_text(cell(item)) for cell in columns.values()] for item in items]
        return _print([list(columns), *rows], header=True)

    def facts(self, item: Any, facts: Mapping[str, object]) -> None:
        """One thing: a name and a value a line; what has no value is left out."""
        if self.as_json:
            return self.json(item)
        rows = [[name, _text(value)] for name, value in facts.items() if value not in (None, "", [], {})]
        return _print(rows, header=False)

    def words(self, item: Any, *words: str) -> None:
        """What a script captures: a word a line."""
        if self.as_json:
            return self.json(item)
        for word in words:
            click.echo(word)
        return None

    def json(self, document: Any) -> None:
        """One document, indented."""
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))

    def result(self, session_id: str, result: ExecutionDict) -> None:
        """What a command did: its own output as it is, or one JSON object."""
        if self.as_json:
            return self.json({"session": session_id, **result})
        written(result["stdout"], result["stderr"])
        if result.get("timed_out"):
            complain("the command ran out of time and was ended; --timeout gives it more")
        if result.get("truncated"):
            complain("the output was longer than the workspace keeps, and was cut")
        return None


def written(stdout: str, stderr: str) -> None:
    """A command's output, byte for byte."""
    for stream, text in ((sys.stdout, stdout), (sys.stderr, stderr)):
        stream.flush()
        stream.buffer.write(text.encode("utf-8", "surrogateescape"))
        stream.flush()


def note(text: str) -> None:
    """A word to the person, beside the output."""
    click.echo(one_line(text), err=True)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose columns begin at the same place, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def since(moment: str | None, now: datetime | None = None) -> str:
    """How long ago a time of the API was, as `5m`; how far off it is, as `in 2h`."""
    if moment is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    size, unit = _unit(seconds)
    return f"{seconds // size:.0f}{unit}" if seconds >= 0 else f"in {-seconds / size:.0f}{unit}"


def span(seconds: float) -> str:
    """A time, as `42m`."""
    size, unit = _unit(seconds)
    return f"{seconds / size:.0f}{unit}"


def pairs(mapping: Mapping[str, object] | None) -> str:
    """`a=1, b=2`"""
    return ", ".join(f"{key}={value}" for key, value in sorted((mapping or {}).items()))


def _unit(seconds: float) -> tuple[int, str]:
    return next(((size, unit) for unit, size in UNITS.items() if abs(seconds) >= size), (1, "s"))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return "-" if value is None or value == "" else one_line(str(value))


def _print(rows: Sequence[Sequence[str]], *, header: bool) -> None:
    if sys.stdout.isatty():
        _coloured(rows, header=header)
    else:
        click.echo("\n".join(aligned(rows)))


def _coloured(rows: Sequence[Sequence[str]], *, header: bool) -> None:
    """For a terminal. Lines that are too long are left to it: a cell that is wrapped cannot be copied."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for number, (line, cells) in enumerate(zip(aligned(rows), rows, strict=True)):
        text = Text(line, "bold" if header and number == 0 else "")
        if not header:
            text.stylize("bold", 0, len(cells[0]))
        for cell in cells[1:]:
            if cell in STYLES:
                text.highlight_words([f" {cell}"], STYLES[cell])
        console.print(text, soft_wrap=True)
