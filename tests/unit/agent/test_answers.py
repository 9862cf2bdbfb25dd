"""The JSON of an outcome: right for every byte sequence, whole or in pieces."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infra.workspace.agent.answers import PIECE_BYTES, Outcome, Output


def _outcome(stdout: bytes = b"", stderr: bytes = b"", *, cut: bool = False, returncode: int = 0) -> Outcome:
    return Outcome(Output(stdout, cut), Output(stderr), returncode, timed_out=False, duration_ms=1.23456)


def _decoded(outcome: Outcome) -> dict[str, Any]:
    decoded = json.loads(b"".join(outcome.json()))
    assert isinstance(decoded, dict)
    return decoded


def test_an_answer_says_everything() -> None:
    assert _decoded(_outcome(b"a\n", b"b", returncode=2)) == {
        "stdout": "a\n",
        "stderr": "b",
        "returncode": 2,
        "success": False,
        "timed_out": False,
        "truncated": False,
        "duration_ms": 1.235,
    }


def test_a_small_answer_is_one_piece_and_a_large_one_many_small_ones() -> None:
    assert len(list(_outcome(b"x" * PIECE_BYTES).json())) == 1
    pieces = list(_outcome(b"\0" * 10 * PIECE_BYTES).json())
    assert len(pieces) > 10
    assert max(map(len, pieces)) <= 6 * PIECE_BYTES  # \u0000


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_come_out_as_python_would_replace_them(stdout: bytes, stderr: bytes) -> None:
    decoded = _decoded(_outcome(stdout, stderr))
    assert decoded["stdout"] == stdout.decode(errors="replace")
    assert decoded["stderr"] == stderr.decode(errors="replace")


@given(st.integers(0, 4), st.sampled_from(["é", "€", "😀", '"', "\\", "\x7f"]))
def test_a_character_on_the_border_of_two_pieces_stays_whole(before: int, character: str) -> None:
    text = "x" * (PIECE_BYTES - before) + character * 5
    assert _decoded(_outcome(text.encode()))["stdout"] == text


def test_a_character_that_the_limit_cut_is_left_out() -> None:
    decoded = _decoded(_outcome("aé".encode()[:-1], cut=True))
    assert (decoded["stdout"], decoded["truncated"]) == ("a", True)
    assert _decoded(_outcome("aé".encode()[:-1]))["stdout"] == "a�"
