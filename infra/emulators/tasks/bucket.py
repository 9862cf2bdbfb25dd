"""A token bucket: how a queue holds its rate of dispatches."""

import math

_ROUNDING = 1e-9  # a token that is short of whole by a float's rounding is whole


class TokenBucket:
    """Starts full. Times are microseconds of one clock and never go back for long: a step back refills nothing."""

    def __init__(self, rate_per_s: float, burst: int, now_us: int) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._tokens = float(burst)
        self._filled_us = now_us

    def take(self, now_us: int) -> int:
        """Take a token: 0, or the microseconds until there is one (and none is taken)."""
        gained = max(now_us - self._filled_us, 0) / 1_000_000 * self.rate_per_s
        self._tokens = min(self._tokens + gained, float(self.burst))
        self._filled_us = now_us
        if self._tokens >= 1 - _ROUNDING:
            self._tokens -= 1
            return 0
        return math.ceil((1 - self._tokens) / self.rate_per_s * 1_000_000)

    def give_back(self) -> None:
        """Undo a take whose dispatch did not happen."""
        self._tokens = min(self._tokens + 1, float(self.burst))
