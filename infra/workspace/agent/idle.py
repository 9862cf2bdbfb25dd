"""How long the workspace has been idle: no command, no open connection, no process of the session.

Whoever was there when the agent started (init, helpers of the container) is not the session's.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .family import Process, processes

LOOK_S = 1.0  # between two looks at /proc: everybody may ask, and a session is asked each time it is listed


class Activity:
    """Counts what is going on. `others` says if any process of the session is alive."""

    def __init__(self, others: Callable[[], bool], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._others = others
        self._clock = clock
        self._going_on = 0
        self._busy_until = clock()
        self._looked_at = -LOOK_S
        self._alive = False

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Inside, the workspace is busy."""
        self._going_on += 1
        try:
            yield
        finally:
            self._going_on -= 1
            self._busy_until = self._clock()
            self._looked_at = self._busy_until - LOOK_S  # what was seen before is of no use now

    def idle_s(self) -> float:
        """Seconds since the workspace was last seen busy; 0 while it is.

        A process that ended between two looks counts as alive up to the later one.
        """
        if self._going_on:
            return 0.0
        now = self._clock()
        if now - self._looked_at >= LOOK_S:
            was_alive, self._alive = self._alive, self._others()
            self._looked_at = now
            if was_alive or self._alive:
                self._busy_until = now
        return 0.0 if self._alive else now - self._busy_until


def newcomers() -> Callable[[], Iterator[Process]]:
    """Gives the processes that are alive and are not there at the time of this call."""
    known = {(process.pid, process.started) for process in processes()}
    known_pids = {pid for pid, _ in known} | {os.getpid()}

    def all_newcomers() -> Iterator[Process]:
        return (p for p in processes() if p.pid not in known_pids or (p.pid, p.started) not in known)

    return all_newcomers
