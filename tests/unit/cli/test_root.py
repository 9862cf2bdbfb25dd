"""onmemos itself: help, version, errors, exit codes."""

import pytest

from sdk.python.cli.root import root
from sdk.python.errors import ConnectError
from sdk.python.version import __version__
from tests.unit.cli.invoking import SESSION, onmemos
from tests.unit.sdk.scripted import ok, refusal


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_alone_it_prints_its_help(words: list[str]) -> None:
    called = onmemos(*words)
    assert (called.code, called.stderr) == (0, "")
    assert all(f"  {name} " in called.stdout for name in root.commands)


@pytest.mark.parametrize("group", ["sessions", "keys"])
def test_a_group_alone_prints_its_help(group: str) -> None:
    called = onmemos(group)
    assert (called.code, called.stderr) == (0, "")
    assert called.stdout.startswith(f"Usage: onmemos {group} ")


def test_it_knows_its_version() -> None:
    assert onmemos("--version").stdout == f"onmemos {__version__}\n"


def test_help_needs_no_service() -> None:
    assert onmemos("sessions", "ls", "--help").requests == []


def test_nobody_at_the_url_is_one_line_and_1() -> None:
    called = onmemos("sessions", "ls", turns=[ConnectError("GET http://x: no connection: refused")] * 5)
    assert (called.code, called.stdout) == (1, "")
    assert called.stderr == "onmemos: GET http://x: no connection: refused\n"


def test_a_missing_key_is_told_how_to_give_one() -> None:
    called = onmemos("sessions", "get", "x", turns=[refusal(401, "X-API-Key: missing", code="unauthenticated")])
    assert "ONMEMOS_API_KEY" in called.stderr
    assert called.stderr.count("\n") == 1


def test_complaints_of_single_fields_that_the_sentence_leaves_out_are_named() -> None:
    errors = {"ttl_minutes": ["got 0, wanted more"], "cpu": ["got 9, wanted less"]}
    called = onmemos("sessions", "get", "x", turns=[refusal(400, "ttl_minutes: got 0, wanted more", errors=errors)])
    assert called.stderr == "onmemos: ttl_minutes: got 0, wanted more; cpu: got 9, wanted less (400)\n"


def test_what_strangers_wrote_cannot_steer_the_terminal() -> None:
    called = onmemos("sessions", "get", "x", turns=[refusal(404, "gone\x1b[2J\nand more")])
    assert called.stderr == "onmemos: gone?[2J and more (404)\n"
    called = onmemos("sessions", "get", "x", turns=[ok(**{**SESSION, "error": "\x1b]0;title\x07"})])
    assert "\x1b" not in called.stdout


def test_the_client_is_closed_also_after_an_error() -> None:
    assert onmemos("sessions", "get", "x", turns=[refusal(404)]).closed


@pytest.mark.parametrize("words", [["nothing"], ["--nothing"], ["--timeout", "long", "health"], ["--json"]])
def test_misuse_is_2(words: list[str]) -> None:
    called = onmemos(*words)
    assert (called.code, called.stdout) == (2, "")
