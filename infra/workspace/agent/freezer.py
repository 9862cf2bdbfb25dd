"""Freezing: every process of the session stands still, for as long as a lease says, and then goes on as if nothing was.

Processes are stopped from the parents down, each level when the one before it stands, and continued in the opposite
order. So no parent ever sees a child stopped: an interactive shell would take the terminal away from its program.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

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
        self._stopped: dict[Key, None] = {}  # by us, in this order: whoever stood before that, does so after it
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
        self._stopped.setdefault(key)

    def _expire(self) -> None:
        log.warning("the lease of a freeze is over: everything goes on")
        self._go_on()

    def _go_on(self) -> int:
        """Whole at once, so it needs no lock against itself; without a look at /proc, which can fail.

        Were a process killed meanwhile and its pid another's, that one would only be told to go on.
        """
        self._end_lease()
        count = 0
        for pid, _ in reversed(self._stopped):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)
                count += 1
        self._stopped.clear()
        self._others.clear()
        self._gate.thaw()
        return count

    def _end_lease(self) -> None:
        if self._lease is not None:
            self._lease.cancel()
            self._lease = None
