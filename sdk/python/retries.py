"""When a call is made again: only where that cannot do anything twice, ever later, and not for ever."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from .errors import (
    APIError,
    ConnectError,
    ConnectionLost,
    OnMemOSError,
    RateLimited,
    Timeout,
    Unavailable,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

NEVER_EXECUTED: tuple[type[OnMemOSError], ...] = (ConnectError, RateLimited)
TRANSIENT: tuple[type[OnMemOSError], ...] = (ConnectError, Timeout, ConnectionLost, RateLimited, Unavailable)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and when to try again after a fault that passes.

    `times` after the first try, 0 for never. The n-th pause is chosen at random up to `first_pause_s` x 2^(n-1), at
    most `longest_pause_s` (full jitter), on top of what Retry-After asks. No try begins later than `window_s` plus the
    time that the call itself may take.
    """

    times: int = 4
    first_pause_s: float = 0.25
    longest_pause_s: float = 8.0
    window_s: float = 60.0

    def __post_init__(self) -> None:
        if self.times < 0:
            raise ValueError(f"retries: got {self.times}, wanted 0 or more")

    async def run(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        passing: tuple[type[OnMemOSError], ...],
        patience_s: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> T:
        """The result of `call`, or the error of its last try, whose `earlier` holds those before it.

        `passing`: the faults after which it is made again: TRANSIENT for an idempotent call, else NEVER_EXECUTED.
        """
        failures: list[OnMemOSError] = []

        async def once() -> T:
            try:
                return await call()
            except OnMemOSError as exc:
                exc.earlier = tuple(failures)
                failures.append(exc)
                raise

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda exc: isinstance(exc, passing)),
            stop=stop_after_attempt(self.times + 1) | stop_before_delay(self.window_s + patience_s),
            wait=self._pause_s,
            sleep=sleep,
            before_sleep=_note,
            reraise=True,
        )
        result: T = await retrying(once)
        return result

    def _pause_s(self, state: RetryCallState) -> float:
        backoff = wait_random_exponential(multiplier=self.first_pause_s, max=self.longest_pause_s)
        failure = state.outcome and state.outcome.exception()
        asked = failure.retry_after_s if isinstance(failure, APIError) else None
        return (asked or 0.0) + backoff(state)


def _note(state: RetryCallState) -> None:
    failure = state.outcome and state.outcome.exception()
    facts = {"attempt": state.attempt_number, "pause_s": state.upcoming_sleep, "error": str(failure)}
    log.info("call failed, trying again", extra=facts)
