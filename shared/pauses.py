"""Waiting for something that nobody announces: pauses that grow, up to a total."""

import time
from collections.abc import Awaitable, Callable

FIRST_S, LONGEST_S, GROWTH = 0.005, 0.5, 1.3

Sleep = Callable[[float], Awaitable[None]]


class Pauses:
    """`next` waits and says whether there was time left to wait."""

    def __init__(self, total_s: float, sleep: Sleep, longest_s: float = LONGEST_S) -> None:
        self._deadline = time.monotonic() + total_s
        self._longest_s = longest_s
        self._pause_s = FIRST_S
        self._sleep = sleep

    async def next(self) -> bool:
        """False, at once, when the total is used up."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return False
        await self._sleep(min(self._pause_s, left))
        self._pause_s = min(self._pause_s * GROWTH, self._longest_s)
        return True
