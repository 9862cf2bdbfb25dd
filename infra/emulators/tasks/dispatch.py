"""The worker: every task at its time, within its queue's rate and concurrency, until it succeeds or is given up."""

import asyncio
import heapq
import logging
from dataclasses import dataclass, field
from typing import Any

from infra.emulators.tasks.admission import Queue, seconds
from infra.emulators.tasks.bucket import TokenBucket
from infra.emulators.tasks.clock import Alarm, Clock
from infra.emulators.tasks.delivery import Delivery, Outcome, message_of
from infra.emulators.tasks.retry import RetryPolicy
from infra.emulators.tasks.storage import StoredTask, TaskStore
from infra.emulators.tasks.thread import StoreThread

log = logging.getLogger(__name__)

RETENTION_US = 31 * 24 * 3600 * 1_000_000  # cloud.google.com/tasks/docs/quotas: maximum task retention


@dataclass(slots=True)
class Lane:
    """A queue as the worker sees it. `due` holds (when, name) pairs, maybe outdated: the store has the last word."""

    policy: RetryPolicy
    bucket: TokenBucket
    max_concurrent: int
    running: bool
    due: list[tuple[int, str]] = field(default_factory=list)
    in_flight: int = 0
    alarm: Alarm | None = None


class Dispatcher:
    """Owns the attempts in flight; closing it cancels them, and the next process begins them anew."""

    def __init__(self, store: TaskStore, thread: StoreThread, delivery: Delivery, clock: Clock) -> None:
        self._store = store
        self._thread = thread
        self._delivery = delivery
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._attempts: set[asyncio.Task[None]] = set()
        self._closed = False

    def configure(self, queue: Any) -> None:
        """Begin to serve a queue, or go on with its changed settings."""
        limits = queue.rate_limits
        rate, burst = limits.max_dispatches_per_second, limits.max_burst_size
        lane = self._lane(queue.name)
        if (lane.bucket.rate_per_s, lane.bucket.burst) != (rate, burst):
            lane.bucket = TokenBucket(rate, burst, self._clock.now_us())
        lane.policy = policy(queue.retry_config)
        lane.max_concurrent = limits.max_concurrent_dispatches
        lane.running = queue.state == Queue.State.RUNNING
        self._pump(lane)

    def forget(self, queue: str) -> None:
        """Stop serving a queue; what is in flight ends by itself."""
        lane = self._lanes.pop(queue, None)
        if lane is not None:
            lane.due.clear()
            self._pump(lane)

    def add(self, queue: str, due_us: int, name: str) -> None:
        """Deliver the task when it is due."""
        lane = self._lane(queue)
        heapq.heappush(lane.due, (due_us, name))
        self._pump(lane)

    async def run_now(self, queue: str, name: str) -> StoredTask | None:
        """Begin an attempt whatever the queue's limits and state, and return the task; None: it is gone."""
        called_us = self._clock.now_us()
        task = await self._thread.run(self._store.begin_attempt, name, None, called_us)
        if task is not None:
            lane = self._lane(queue)
            lane.in_flight += 1
            self._spawn(lane, name, task, called_us)
        return task

    async def settled(self) -> None:
        """Wait until nothing is being delivered."""
        while self._attempts:
            await asyncio.wait(self._attempts)

    async def close(self) -> None:
        self._closed = True
        for lane in self._lanes.values():
            self._pump(lane)
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)

    def _lane(self, queue: str) -> Lane:
        """The queue's lane; one that is not configured yet waits, so that no task is lost to the order of calls."""
        if queue not in self._lanes:
            self._lanes[queue] = Lane(RetryPolicy(), TokenBucket(1.0, 1, 0), max_concurrent=0, running=False)
        return self._lanes[queue]

    def _pump(self, lane: Lane) -> None:
        """Begin whatever may begin now; else set the lane's one alarm for when something may."""
        if lane.alarm is not None:
            lane.alarm.cancel()
            lane.alarm = None
        while lane.due and lane.running and lane.in_flight < lane.max_concurrent and not self._closed:
            now_us = self._clock.now_us()
            due_us, name = lane.due[0]
            wake_us = due_us if due_us > now_us else now_us + lane.bucket.take(now_us)
            if wake_us > now_us:
                lane.alarm = self._clock.call_at(wake_us, lambda: self._pump(lane))
                return
            heapq.heappop(lane.due)
            lane.in_flight += 1
            self._spawn(lane, name, due_us, None)

    def _spawn(self, lane: Lane, name: str, begun: StoredTask | int, called_us: int | None) -> None:
        attempt = asyncio.get_running_loop().create_task(self._attempt(lane, name, begun, called_us))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)

    async def _attempt(self, lane: Lane, name: str, begun: StoredTask | int, called_us: int | None) -> None:
        """One attempt from its beginning (`begun` is when it is due, unless run by hand) to its noted end."""
        try:
            task = begun if isinstance(begun, StoredTask) else await self._begin(lane, name, begun)
            if task is not None:
                message = message_of(task)
                outcome = await self._delivery.attempt(task, message)
                await self._conclude(lane, task, message, outcome, called_us)
        except Exception:
            log.exception("a task's attempt broke", extra={"task": name})
        finally:
            lane.in_flight -= 1
            self._pump(lane)

    async def _begin(self, lane: Lane, name: str, due_us: int) -> StoredTask | None:
        task = await self._thread.run(self._store.begin_attempt, name, due_us, self._clock.now_us())
        if task is None:
            lane.bucket.give_back()
        return task

    async def _conclude(
        self, lane: Lane, task: StoredTask, message: Any, outcome: Outcome, called_us: int | None
    ) -> None:
        failure = outcome.failure
        if failure is None:
            await self._thread.run(self._store.end_task, task.name, self._clock.now_us())
            return
        retry = policy(message.retry_config) if message.HasField("retry_config") else lane.policy
        since_first_s = (failure.at_us - (task.first_dispatch_us or failure.at_us)) / 1_000_000
        wait_s = max(retry.backoff_s(task.dispatch_count), outcome.retry_after_s)
        next_us = (called_us or failure.at_us) + int(wait_s * 1_000_000)
        facts = {"task": task.name, "attempt": task.dispatch_count, "status": failure.message}
        ends_us = message.create_time.ToMicroseconds() + RETENTION_US
        if retry.exhausted(task.dispatch_count, since_first_s) or next_us > ends_us:
            log.warning("task given up", extra=facts)
            await self._thread.run(self._store.end_task, task.name, self._clock.now_us())
            return
        log.info("task attempt failed", extra={**facts, "retry_in_s": wait_s})
        if await self._thread.run(self._store.fail_attempt, task.name, failure, next_us):
            heapq.heappush(lane.due, (next_us, task.name))


def policy(config: Any) -> RetryPolicy:
    """A RetryConfig, whose defaults are filled in, as the arithmetic wants it."""
    return RetryPolicy(
        max_attempts=config.max_attempts,
        max_retry_duration_s=seconds(config.max_retry_duration),
        min_backoff_s=seconds(config.min_backoff),
        max_backoff_s=seconds(config.max_backoff),
        max_doublings=config.max_doublings,
    )
