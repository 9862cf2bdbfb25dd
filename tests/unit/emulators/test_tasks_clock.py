"""The system's clock rings on time, neither early nor a tick late."""

import asyncio

import pytest

from infra.emulators.tasks import clock as clock_module
from infra.emulators.tasks.clock import SystemClock


class Wall(SystemClock):
    """The system's timers under a wall clock that a test can set."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead_us


async def ringing(clock: SystemClock, in_us: int) -> int:
    """Microseconds by which the alarm rang late."""
    rung: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    when_us = clock.now_us() + in_us
    clock.call_at(when_us, lambda: rung.set_result(clock.now_us() - when_us))
    async with asyncio.timeout(5):
        return await rung


async def test_an_alarm_never_rings_early() -> None:
    clock = SystemClock()
    assert min([await ringing(clock, in_us) for in_us in (0, 1, 300, 999, 1001, 5000)]) >= 0


async def test_a_time_that_has_passed_rings_at_once() -> None:
    assert await ringing(SystemClock(), -1_000_000) >= 1_000_000


async def test_a_cancelled_alarm_stays_silent() -> None:
    clock = SystemClock()
    rung: list[str] = []
    first = clock.call_at(clock.now_us() + 500, lambda: rung.append("cancelled"))
    first.cancel()
    first.cancel()
    await ringing(clock, 1500)
    assert rung == []


async def test_an_alarm_waits_on_when_the_wall_clock_was_set_back() -> None:
    clock = Wall()
    waiting = asyncio.create_task(ringing(clock, 1000))
    await asyncio.sleep(0)
    clock.ahead_us = -2000
    assert await waiting >= 0


async def test_an_alarm_notices_a_wall_clock_that_leapt_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "LONGEST_WAIT_S", 0.002)
    clock = Wall()
    waiting = asyncio.create_task(ringing(clock, 3600 * 1_000_000))
    await asyncio.sleep(0)
    clock.ahead_us = 3600 * 1_000_000
    assert await waiting >= 0
