"""What time it is and who to wake when: the one seam through which the emulator knows time."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

LONGEST_WAIT_S = 30.0  # the loop's timers stand still while a laptop sleeps; a task is late by this much at most


class Alarm(Protocol):
    def cancel(self) -> None:
        """Forget the call; cancelling one that has rung is not an error."""


class Clock(Protocol):
    def now_us(self) -> int:
        """Microseconds since 1970, UTC: the precision in which Cloud Tasks keeps its times."""

    def call_at(self, when_us: int, call: Callable[[], None]) -> Alarm:
        """Call once, not before `when_us` by this clock; a time that has passed means as soon as possible."""


class SystemClock:
    """The machine's wall clock, waited for with the running event loop's timers."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def call_at(self, when_us: int, call: Callable[[], None]) -> Alarm:
        return _SystemAlarm(self, when_us, call)


class _SystemAlarm:
    """Checks the wall clock before it rings: the loop's clock is another one, and either may be coarse or be set."""

    def __init__(self, clock: SystemClock, when_us: int, call: Callable[[], None]) -> None:
        self._clock = clock
        self._when_us = when_us
        self._call = call
        self._handle = self._arm()

    def cancel(self) -> None:
        self._handle.cancel()

    def _arm(self) -> asyncio.TimerHandle:
        left_s = (self._when_us - self._clock.now_us()) / 1_000_000
        return asyncio.get_running_loop().call_later(min(max(left_s, 0.0), LONGEST_WAIT_S), self._ring)

    def _ring(self) -> None:
        if self._clock.now_us() < self._when_us:
            self._handle = self._arm()
        else:
            self._call()
