"""The frames of shells and terminals: what they mean, and what is said about those that are wrong."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.workspace.agent.answers import Outcome, Output
from infra.workspace.agent.frames import (
    MAX_FRAME_BYTES,
    BadFrame,
    Interrupt,
    Ping,
    Run,
    Size,
    error,
    exited,
    parse,
    parse_resize,
    parse_size,
    result,
    status,
    welcome,
)


def _outcome(stdout: bytes, *, cut: bool = False) -> Outcome:
    return Outcome(Output(stdout, cut), Output(), 0, timed_out=False, duration_ms=1.0)


@pytest.mark.parametrize(
    ("document", "frame"),
    [
        ({"type": "ping"}, Ping()),
        ({"type": "interrupt", "more": 1}, Interrupt()),
        ({"type": "command", "command": "ls"}, Run("ls", 3600.0)),
        ({"type": "command", "command": "ls", "timeout": None, "id": None}, Run("ls", 3600.0)),
        ({"type": "command", "command": "ls\n", "timeout": 1, "id": "é"}, Run("ls\n", 1.0, "é")),
    ],
)
def test_a_frame_means_what_it_says(document: dict[str, Any], frame: object) -> None:
    assert parse(json.dumps(document)) == frame


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.text() | st.floats(), st.lists).map(json.dumps)))
def test_any_other_frame_is_a_bad_frame_that_can_be_told(frame: str | bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        parse(frame)
    told = json.loads(error(caught.value).encode())
    assert (told["type"], bool(told["detail"])) == ("error", True)


def test_a_bad_frame_keeps_the_id_that_it_can() -> None:
    for document, frame_id in (
        ({"type": "x", "id": "1"}, "1"),
        ({"type": "command", "id": "2"}, "2"),
        ({"type": "command", "command": "x", "timeout": "y", "id": "3"}, "3"),
        ({"type": "x", "id": 4}, None),
        ({"type": "x", "id": "i" * 257}, None),
        ({"type": "x", "id": "\ud800"}, None),
    ):
        with pytest.raises(BadFrame) as caught:
            parse(json.dumps(document))
        assert json.loads(error(caught.value)).get("id") == frame_id


@given(st.binary(max_size=300))
def test_any_output_is_a_frame_as_python_would_replace_it(stdout: bytes) -> None:
    frame = json.loads(result(_outcome(stdout), "/é", None).encode())
    assert (frame["type"], frame["cwd"]) == ("command_result", "/é")
    assert frame["stdout"] == stdout.decode(errors="replace")


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [
        (b"o" * 1_000_000, b""),
        (b"", b"e" * 1_000_000),
        (b"o" * 1_000_000, b"e" * 1_000_000),
        (b"o" * 1_000_000, b"short"),
        (b"short", "\N{SNOWMAN}".encode() * 333_333),
        (b"\x00" * 1_000_000, b"\xff" * 1_000_000),
        (b"\n" * 1_000_000, b"\n" * 10),
    ],
)
def test_no_frame_is_larger_than_clients_take_and_what_is_cut_is_said(stdout: bytes, stderr: bytes) -> None:
    encoded = result(Outcome(Output(stdout), Output(stderr), 0, False, 1.0), "/" + "d" * 4000, "i" * 256).encode()
    assert len(encoded) <= MAX_FRAME_BYTES
    frame = json.loads(encoded)
    whole = (stdout.decode(errors="replace"), stderr.decode(errors="replace"))
    assert frame["truncated"] == ((frame["stdout"], frame["stderr"]) != whole)
    assert all(text.startswith(frame[name]) for name, text in zip(("stdout", "stderr"), whole, strict=True))
    if frame["truncated"]:
        assert len(encoded) > MAX_FRAME_BYTES * 0.9  # no more is cut than must be
    if len(stderr) < 100:
        assert frame["stderr"] == whole[1]


def test_a_character_that_the_limit_cut_is_left_out() -> None:
    frame = json.loads(result(_outcome("aé".encode()[:-1], cut=True), "/", "x"))
    assert (frame["stdout"], frame["truncated"], frame["id"]) == ("a", True, "x")


def test_the_other_frames_are_as_documented() -> None:
    assert json.loads(welcome("ws-1", "b", "sh", "/w", "3")) == {
        "type": "welcome",
        "session_id": "ws-1",
        "boot_id": "b",
        "shell": "sh",
        "cwd": "/w",
        "version": "3",
    }
    assert json.loads(status("exited", "why")) == {"type": "status", "status": "exited", "detail": "why"}
    assert json.loads(exited(3)) == {"type": "exit", "returncode": 3}


def test_sizes_are_whole_numbers_of_16_bits() -> None:
    assert parse_size({}) == Size(24, 80)
    assert parse_size({"rows": "1", "cols": "65535", "ticket": "x"}) == Size(1, 65_535)
    assert parse_resize('{"type": "resize", "rows": 3, "cols": 4}') == Size(3, 4)
    for wrong in ("0", "65536", "-1", "1.5", "", "x", "٣", "9" * 5000):
        with pytest.raises(BadFrame, match=r"rows: got .*; wanted a whole number from 1 to 65535"):
            parse_size({"rows": wrong})
    for document in ({"rows": 0, "cols": 1}, {"rows": True, "cols": 1}, {"rows": "1", "cols": 1}, {"rows": 1}):
        with pytest.raises(BadFrame):
            parse_resize(json.dumps({"type": "resize", **document}))
