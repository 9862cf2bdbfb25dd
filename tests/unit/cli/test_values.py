"""What options take."""

import re
from datetime import UTC, datetime, timedelta

import click
import pytest

from sdk.python.cli.output import Output, aligned, since
from sdk.python.cli.values import Duration, Moment, minutes

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "unit", "seconds"),
    [
        ("90", "s", 90),
        ("90", "m", 5400),
        ("1.5h", "s", 5400),
        ("7d", "m", 604_800),
        (" 2w ", "d", 1_209_600),
        ("0", "m", 0),
    ],
)
def test_durations(text: str, unit: str, seconds: float) -> None:
    assert Duration(unit).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1y", "h", "1 h", "1h30m", "inf", "٣"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="wanted minutes"):
        Duration("m").convert(text, None, None)


def test_minutes_are_never_fewer_than_asked_for() -> None:
    assert [minutes(seconds) for seconds in (0, 1, 60, 61)] == [0, 1, 1, 2]


def test_a_moment_without_a_zone_is_utc() -> None:
    moment = Moment()
    assert moment.convert("2027-01-31", None, None) == datetime(2027, 1, 31, tzinfo=UTC)
    assert moment.convert("2027-01-31T18:00:00+01:00", None, None) == datetime(2027, 1, 31, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    ("off", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=-59.9), "59s"),
        (timedelta(minutes=-119), "1h"),
        (timedelta(days=-40), "40d"),
        (timedelta(minutes=59, seconds=59), "in 60m"),
        (timedelta(days=29, hours=23), "in 30d"),
    ],
)
def test_times_are_said_from_now(off: timedelta, text: str) -> None:
    assert since((NOW + off).isoformat(), NOW) == text


def test_columns_begin_at_the_same_place_and_lines_have_no_end() -> None:
    assert aligned([["a", "b", "c"], ["long", "", "x"]]) == ["a     b  c", "long     x"]


@pytest.mark.parametrize("no_color", [None, "1"])
def test_a_terminal_gets_the_same_lines_in_colour(
    no_color: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "10")  # what is too long is the terminal's to wrap
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    items = [{"id": "ws-running-1", "status": "running"}, {"id": "ws-2", "status": "[red]failed"}]
    Output(as_json=False).table(items, {"ID": lambda item: item["id"], "STATUS": lambda item: item["status"]})
    shown = capsys.readouterr().out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert plain.splitlines() == ["ID            STATUS", "ws-running-1  running", "ws-2          [red]failed"]
    assert ("\x1b[32mrunning" in shown or "\x1b[32m running" in shown) == (no_color is None)
