"""When a failed task is tried again, and when no more: the arithmetic that Cloud Tasks publishes."""

from dataclasses import dataclass

UNLIMITED_ATTEMPTS = -1


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A queue's (or a task's) RetryConfig. `max_retry_duration_s` of 0 sets no limit in time."""

    max_attempts: int = 100
    max_retry_duration_s: float = 0.0
    min_backoff_s: float = 0.1
    max_backoff_s: float = 3600.0
    max_doublings: int = 16

    def backoff_s(self, attempts: int) -> float:
        """Seconds to wait after the `attempts`-th attempt (from 1) has failed.

        Doubles `max_doublings` times, then grows by the last doubled step, up to `max_backoff_s`: with 10 s, 300 s
        and 3 doublings 10, 20, 40, 80, 160, 240, 300, 300, … (RetryConfig.max_doublings in the API's reference).
        """
        earlier = max(attempts - 1, 0)
        doublings = min(earlier, self.max_doublings)
        step_s = self.min_backoff_s
        for _ in range(doublings):
            if step_s >= self.max_backoff_s or step_s == 0.0:
                break
            step_s *= 2
        return min(step_s * (1 + earlier - doublings), self.max_backoff_s)

    def exhausted(self, attempts: int, since_first_s: float) -> bool:
        """Whether the attempt that just failed was the last one.

        Where both limits are set, both must be met; a limit that is not set does not count. Without any, a task
        lives until the queue's retention ends it.
        """
        limits = []
        if self.max_attempts != UNLIMITED_ATTEMPTS:
            limits.append(attempts >= self.max_attempts)
        if self.max_retry_duration_s > 0:
            limits.append(since_first_s >= self.max_retry_duration_s)
        return bool(limits) and all(limits)
