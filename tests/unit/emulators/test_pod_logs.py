"""Logs of containers: lines and their parts, times, tails, rotation, followers."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from infra.emulators.kubernetes.log_options import LogOptions, log_options
from infra.emulators.kubernetes.podlogs import FOLLOWER_BYTES, LogFile, read_log

START_NS = 1_700_000_000_000_000_000


def a_log(path: Path, **options: Any) -> LogFile:
    seconds = itertools.count()
    return LogFile(path / "0.log", clock_ns=lambda: START_NS + next(seconds) * 10**9, **options)


async def text(log: LogFile, live: LogFile | None = None, **options: Any) -> str:
    return b"".join([chunk async for chunk in read_log(log.path, LogOptions(**options), live)]).decode()


async def test_a_line_that_comes_in_parts_is_one(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    for data in (b"a", b"b\nc\n\nd"):
        log.add("stdout", data)
    log.add("stderr", b"e\n")
    assert log.path.read_text().splitlines() == [
        "2023-11-14T22:13:20.000000000Z stdout P a",
        "2023-11-14T22:13:21.000000000Z stdout F b",
        "2023-11-14T22:13:21.000000000Z stdout F c",
        "2023-11-14T22:13:21.000000000Z stdout F ",
        "2023-11-14T22:13:21.000000000Z stdout P d",
        "2023-11-14T22:13:22.000000000Z stderr F e",
    ]
    assert await text(log) == "ab\nc\n\nde\n"
    assert await text(log, stream="stderr") == "e\n"


async def test_long_lines_and_odd_bytes_come_back_whole(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    data = bytes(range(11, 256)) * 200 + b"\r\n"
    log.add("stdout", data)
    assert b"".join([chunk async for chunk in read_log(log.path, LogOptions(), None)]) == data


@pytest.mark.parametrize(
    ("tail", "wanted"), [(0, ""), (1, "rest"), (2, "2\nrest"), (3, "1\n2\nrest"), (9, "0\n1\n2\nrest")]
)
async def test_a_tail_counts_lines_and_what_has_no_end_yet(tmp_path: Path, tail: int, wanted: str) -> None:
    log = a_log(tmp_path)
    log.add("stdout", b"0\n1\n2\nre")
    log.add("stdout", b"st")
    assert await text(log, tail=tail) == wanted


async def test_times_are_shown_and_asked_for(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    for line in (b"a\n", b"b\n"):
        log.add("stdout", line)
    assert await text(log, timestamps=True, tail=1) == "2023-11-14T22:13:21.000000000Z b\n"
    query = {"sinceTime": "2023-11-14T22:13:20.5Z"}
    assert await text(log, since=log_options(query).since) == "b\n"
    assert log_options({"sinceSeconds": "5"}, now=lambda: 100.0).since == 95 * 10**9
    with pytest.raises(ValueError, match="invalid literal"):
        log_options({"tailLines": "many"})


async def test_a_limit_cuts_bytes(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.add("stdout", b"abc\ndef\n")
    assert await text(log, limit_bytes=5) == "abc\nd"


async def test_a_log_is_bounded_and_followed_past_its_turn(tmp_path: Path) -> None:
    log = a_log(tmp_path, largest_bytes=200)
    log.add("stdout", b"first\n")
    following = asyncio.create_task(text(log, log, follow=True))
    for number in range(8):
        await asyncio.sleep(0)
        log.add("stdout", b"%d\n" % number)
    log.end()
    assert (await asyncio.wait_for(following, 30)).endswith("7\n")
    assert log.rotations > 0
    assert sum(path.stat().st_size for path in list(tmp_path.iterdir())) <= 400  # noqa: ASYNC240
    assert (await text(log)).endswith("7\n")


async def test_a_follower_gets_what_is_printed_and_is_let_go_when_it_does_not_read(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    reads, deaf = log.follow(), log.follow()
    log.add("stdout", b"$ ")
    assert await reads.next() == ("stdout", b"$ ")
    for _ in range(2 + FOLLOWER_BYTES // 100_000):
        log.add("stderr", b"x" * 100_000)
        assert await reads.next() == ("stderr", b"x" * 100_000)
    log.end()
    assert await reads.next() is None
    read = 0
    while (got := await deaf.next()) is not None:
        read += len(got[1])
    assert read <= FOLLOWER_BYTES + 100_000


async def test_a_log_is_there_at_every_moment_of_its_turns(tmp_path: Path) -> None:
    log = a_log(tmp_path, largest_bytes=1)
    missing = []

    def look() -> None:
        while not log.ended:
            if not log.path.exists():
                missing.append(log.rotations)

    looking = asyncio.create_task(asyncio.to_thread(look))
    for _ in range(300):
        log.add("stdout", b"a\n")
        await asyncio.sleep(0)
    log.end()
    await looking
    assert log.rotations == 299
    assert not missing
