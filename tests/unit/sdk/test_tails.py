"""What is new of an output that is shown again and again."""

import random

import pytest

from sdk.python.tails import ANCHOR_CHARS, Tail

WINDOW = 4 * ANCHOR_CHARS


def told(*parts: str, cut: bool = False) -> list[str]:
    tail = Tail()
    return [tail.new(part, cut=cut, ended=number == len(parts)) for number, part in enumerate(parts, 1)]


def test_what_was_there_before_is_not_new() -> None:
    assert told("", "a\n", "a\n", "a\nb\n") == ["", "a\n", "", "b\n"]


def test_another_output_is_all_new() -> None:
    assert told("a\nb\n", "b\n") == ["a\nb\n", "b\n"]


def test_half_a_character_is_held_back_until_it_is_whole_or_all_is_over() -> None:
    assert told("h\ufffd", "hé") == ["h", "é"]
    assert told("h", "h\ufffd") == ["h", "\ufffd"]


@pytest.mark.parametrize("step", [1, ANCHOR_CHARS, WINDOW - ANCHOR_CHARS])
def test_of_a_window_that_slides_each_character_is_given_once(step: int) -> None:
    source = random.Random(5)  # noqa: S311  # the same each time
    output = "".join(source.choice("abc\n") for _ in range(20 * WINDOW))
    tail, seen = Tail(), ""
    for end in range(step, len(output) + 1, step):
        is_cut = end > WINDOW
        seen += tail.new(output[max(0, end - WINDOW) : end], cut=is_cut, ended=False)
    assert seen == output[: len(output) // step * step]


def test_half_a_character_at_the_beginning_of_a_window_does_not_hide_where_it_stands() -> None:
    first = "x" * 10 + "é" + "".join(map(str, range(500)))
    assert told(first, "\ufffd" + first[11:] + "new", cut=True)[1] == "new"


def test_what_slid_past_unseen_is_not_missed_twice() -> None:
    assert told("a" * WINDOW + "b", "b" * WINDOW, cut=True)[1] == "b" * WINDOW


def test_output_that_repeats_itself_takes_no_time() -> None:
    before, after = "y\n" * 500_000, "n\n" + "y\n" * 499_999
    assert told(before, after, cut=True)[1] == after
