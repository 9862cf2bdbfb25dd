"""Freezing: every process of the session stands still, for as long as a lease says, and then goes on as if nothing was.

Processes are stopped from the parents down and continued from the children up, each level when the one before it
stands. So no parent ever sees a child stopped: an interactive shell would take the terminal away from its program.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator

from .errors import Exhausted
from .family import Process
from .gate import Gate

log = logging.getLogger(__name__)

LEASE_S = 900.0
MAX_LEASE_S = 3600.0
PATIENCE_S = 10.0  # for all to stand; a process that forks without end is faster than any look
LOOK_S = 0.002
LOOKS = 2  # in a row that find nobody moving: a first one may miss who was forked behind its back
LEVELS = 32  # of parents and children; those below are stopped at once
STOPPED = frozenset({"T", "t"})
ABSENT = frozenset({"D", "Z"})  # in the kernel, as the parent of a vfork is, or ended but for other threads

Key = tuple[int, int]


class Freezer:
    """`session` gives the processes that are to stand. Use it from one event loop."""

    def __init__(self, gate: Gate, session: Callable[[], Iterator[Process]]) -> None:
        self._gate = gate
        self._session = session
        self._stopped: set[Key] = set()  # by us: whoever stood before that, does so after it
        self._others: set[Key] = set()  # another user's (setuid), which we may not signal
        self._lease: asyncio.TimerHandle | None = None
        self._lock = asyncio.Lock()

    async def freeze(self, lease_s: float) -> int:
        """Stop everybody and start nothing more; how many there are. Again, it renews the lease.

        Raises Exhausted when they do not stand after 10 s: everything goes on then.
        """
        async with self._lock:
            self._end_lease()
            self._gate.freeze()
            try:
                count = await self._stop()
            except BaseException:
                self._go_on()
                raise
            self._lease = asyncio.get_running_loop().call_later(lease_s, self._expire)
        log.info("frozen", extra={"processes": count, "lease_s": lease_s})
        return count

    async def thaw(self) -> int:
        """Let everything go on; how many were stopped. Idempotent."""
        async with self._lock:
            return self._go_on()

    async def _stop(self) -> int:
        deadline = time.monotonic() + PATIENCE_S
        clean = level = 0
        while True:
            everybody = list(self._session())
            moving = [process for process in everybody if not self._stands(process)]
            clean = 0 if moving else clean + 1
            if clean == LOOKS:
                return len(everybody)
            if moving and time.monotonic() > deadline:
                raise Exhausted(f"{len(moving)} processes did not stop in {PATIENCE_S:.0f} s; nothing is frozen")
            above = {process.pid for process in moving}
            for process in moving:
                if process.parent not in above or level >= LEVELS:
                    self._signal(process)
            level += 1
            await asyncio.sleep(LOOK_S if moving else 0)

    def _stands(self, process: Process) -> bool:
        key = (process.pid, process.started)
        return process.state in STOPPED or key in self._others or (process.state in ABSENT and key in self._stopped)

    def _signal(self, process: Process) -> None:
        key = (process.pid, process.started)
        try:
            os.kill(process.pid, signal.SIGSTOP)
        except ProcessLookupError:
            return
        except PermissionError:
            self._others.add(key)
            return
        self._stopped.add(key)

    def _expire(self) -> None:
        log.warning("the lease of a freeze is over: everything goes on")
        self._go_on()

    def _go_on(self) -> int:
        """Whole at once, so it needs no lock against itself."""
        self._end_lease()
        ours = [p for p in self._session() if (p.pid, p.started) in self._stopped] if self._stopped else []
        for process in _children_first(ours):
            try:
                os.kill(process.pid, signal.SIGCONT)
            except (ProcessLookupError, PermissionError):  # killed meanwhile, by the kernel for one
                continue
        self._stopped.clear()
        self._others.clear()
        self._gate.thaw()
        return len(ours)

    def _end_lease(self) -> None:
        if self._lease is not None:
            self._lease.cancel()
            self._lease = None


def _children_first(group: Iterable[Process]) -> list[Process]:
    by_pid = {process.pid: process for process in group}
    level_of: dict[int, int] = {}
    for pid in by_pid:
        path = []
        at = pid
        while at in by_pid and at not in level_of:
            path.append(at)
            at = by_pid[at].parent
        level = level_of.get(at, -1)
        for one in reversed(path):
            level += 1
            level_of[one] = level
    return sorted(by_pid.values(), key=lambda process: level_of[process.pid], reverse=True)
