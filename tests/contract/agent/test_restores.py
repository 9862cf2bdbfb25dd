"""Parts of a restore that come again while the ones before them are still under way, and work in threads."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from infra.workspace.agent import tar
from infra.workspace.agent.errors import Refused, Superseded
from infra.workspace.agent.gate import Gate
from infra.workspace.agent.restores import APPLIED_BYTES, Restores
from infra.workspace.agent.tar import Member
from infra.workspace.agent.threads import in_thread

SOON_S = 10.0
FILE = Member(b"file", tar.FILE, 0o644, 0, 2 * APPLIED_BYTES)
TAR = tar.header(FILE) + b"x" * FILE.size + tar.END
Receive = Callable[[], Awaitable[tuple[bytes, bool]]]


def whole(data: bytes) -> Receive:
    async def receive() -> tuple[bytes, bool]:
        return data, False

    return receive


async def silence() -> tuple[bytes, bool]:
    """A client that sends nothing."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


async def test_a_part_that_comes_while_another_is_applied_does_not_wait_for_its_client(tmp_path: Path) -> None:
    restores = Restores(str(tmp_path), Gate())
    again: list[asyncio.Task[tuple[int, bool]]] = []

    async def receive() -> tuple[bytes, bool]:
        if again:
            return await silence()
        # It arrives while this piece is being applied: that is the next time that anybody waits.
        again.append(asyncio.create_task(restores.take("r", APPLIED_BYTES, whole(TAR[APPLIED_BYTES:]), last=True)))
        return TAR[:APPLIED_BYTES], True

    async with asyncio.timeout(SOON_S):
        with pytest.raises(Superseded):
            await restores.take("r", 0, receive, last=True)
        assert await again[0] == (len(TAR), True)
    assert (tmp_path / "file").stat().st_size == FILE.size


async def test_of_many_that_come_one_after_another_the_newest_is_taken(tmp_path: Path) -> None:
    restores = Restores(str(tmp_path), Gate())
    parts = []
    for receive in (silence, silence, silence, silence, whole(TAR)):
        parts.append(asyncio.create_task(restores.take("r", 0, receive, last=True)))
        await asyncio.sleep(0)
    async with asyncio.timeout(SOON_S):
        *given_up, newest = await asyncio.gather(*parts, return_exceptions=True)
    assert [type(outcome) for outcome in given_up] == [Superseded] * 4
    assert newest == (len(TAR), True)


async def test_one_that_was_overtaken_empties_nothing(tmp_path: Path) -> None:
    restores = Restores(str(tmp_path), Gate())
    await restores.take("r", 0, whole(TAR[:1024]), last=False)
    waiting = asyncio.create_task(restores.take("r", 1024, silence, last=True))
    await asyncio.sleep(0)
    overtaken = asyncio.create_task(restores.take("r", 0, silence, last=True))
    newest = asyncio.create_task(restores.take("r", 1024, whole(TAR[1024:]), last=True))
    async with asyncio.timeout(SOON_S):
        outcomes = await asyncio.gather(waiting, overtaken, newest, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[:2]] == [Superseded, Superseded]
    assert outcomes[2] == (len(TAR), True)


async def test_files_that_are_expected_anew_are_waited_for_anew(tmp_path: Path) -> None:
    gate = Gate()
    restores = Restores(str(tmp_path), gate)
    restores.expect(0)
    restores.expect(60)
    await asyncio.sleep(0.01)
    assert gate.restoring
    await restores.take("r", 0, whole(TAR), last=True)
    assert not gate.restoring
    with pytest.raises(Refused):
        await restores.take("other", 0, whole(TAR), last=True)


async def test_who_is_cancelled_waits_for_the_thread_that_works_for_it() -> None:
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        go_on.wait(SOON_S)
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(began.wait, SOON_S)
    task.cancel()
    done, _ = await asyncio.wait((task,), timeout=0.01)
    assert not done
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_a_call_in_a_thread_raises_is_raised() -> None:
    with pytest.raises(FileNotFoundError):
        await in_thread(Path.stat, Path("/no/such/file"))
