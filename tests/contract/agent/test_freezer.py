"""The freezer on a process of ours, where looking for processes fails."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.workspace.agent.family import Process, processes
from infra.workspace.agent.freezer import Freezer
from infra.workspace.agent.gate import Gate
from tests.contract.agent.rig import until

NO_ROOM = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class World:
    """The processes of a session: one that sleeps. `blind`: nobody can be seen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.blind = False

    def __call__(self) -> Iterator[Process]:
        if self.blind:
            raise NO_ROOM
        return (process for process in processes() if process.pid == self.pid)

    @property
    def state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def asleep() -> Iterator[World]:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield World(process.pid)
        finally:
            process.kill()


async def test_a_thaw_needs_no_look_at_the_processes() -> None:
    gate = Gate()
    with asleep() as world:
        freezer = Freezer(gate, world)
        assert await freezer.freeze(60) == 1
        assert world.state == "T"
        world.blind = True
        assert await freezer.thaw() == 1
        await until(lambda: world.state == "S")
    assert not gate.frozen


async def test_nor_does_the_end_of_a_lease() -> None:
    gate = Gate()
    with asleep() as world:
        freezer = Freezer(gate, world)
        await freezer.freeze(0.05)
        world.blind = True
        await until(lambda: world.state == "S")
    assert not gate.frozen


async def test_a_freeze_that_fails_leaves_nobody_standing() -> None:
    gate = Gate()
    with asleep() as world:
        freezer = Freezer(gate, world)
        await freezer.freeze(60)
        world.blind = True
        with pytest.raises(OSError, match="open files"):
            await freezer.freeze(60)
        await until(lambda: world.state == "S")
    assert not gate.frozen
