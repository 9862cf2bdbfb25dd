"""What options take."""

from datetime import UTC, datetime, timedelta

import click
import pytest

from sdk.python.cli.output import aligned, since
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
