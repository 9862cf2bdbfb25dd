"""One execution on its way to completion: its tasks side by side, each attempt in a fresh container."""

import asyncio
import contextlib
import datetime
import hashlib
import logging
import shutil
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

from google.cloud.run_v2 import types
from google.rpc import code_pb2

from infra.emulators.run import execution_resources
from infra.emulators.run.attempts import Limits, attempt, failed
from infra.emulators.run.execution_resources import Phase, phase_of
from infra.emulators.run.ground import Ground
from infra.emulators.run.keeper import StartFailed
from infra.emulators.run.specs import wanted_task
from infra.sandbox.spec import SandboxError

log = logging.getLogger(__name__)

INTERRUPTED = "The emulator ended while the task ran"


@dataclass(frozen=True, slots=True)
class Machine:
    """What all executions share. `at_once` containers of tasks run at the most; `grace_s` is between TERM and KILL."""

    ground: Ground
    at_once: int
    slots: asyncio.Semaphore  # so many
    grace_s: float


class ExecutionRun:
    """`show(execution, task)` is awaited for each change, before anything else is done about it.

    Tasks that ran when the process ended are attempted again, where a retry is left.
    """

    def __init__(
        self,
        execution: types.Execution,
        tasks: Iterable[types.Task],
        machine: Machine,
        show: Callable[[types.Execution, types.Task | None], Awaitable[None]],
    ) -> None:
        self._execution = execution
        self._tasks = {task.index: task for task in tasks}
        self._machine = machine
        self._show = show
        self._counts = Counter(phase_of(task) for task in self._tasks.values())
        self._retried = sum(1 for task in self._tasks.values() if task.retried)
        self._end = asyncio.Event()
        self.started = asyncio.Event()  # or over without a start

    async def run(self) -> types.Execution:
        """Until it is complete, and shown as that."""
        if execution_resources.is_cancelling(self._execution):
            self._end.set()
        waiting = deque(index for index, task in sorted(self._tasks.items()) if not task.completion_time)
        at_once = min(self._execution.parallelism or len(waiting), len(waiting), self._machine.at_once)
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(at_once):
                    workers.create_task(self._work(waiting))
            return await self._complete()
        finally:
            self.started.set()

    async def cancel(self) -> None:
        """Show that it is being cancelled, and let `run` end it; one that is complete stays as it is."""
        if not self._execution.completion_time:
            self._execution = execution_resources.cancelling(self._execution, self._now())
            await self._show(self._execution, None)
        self._end.set()

    async def _work(self, waiting: deque[int]) -> None:
        while waiting and not self._end.is_set():
            await self._perform(waiting.popleft())

    async def _perform(self, index: int) -> None:
        """One task, until it succeeded, has no retries left, or is not wanted any more."""
        task = self._tasks[index]
        number = 0
        if task.start_time:
            number = task.retried + 1
            if number > task.max_retries:
                message = f"{INTERRUPTED}, and no retries are left ({task.max_retries} of them allowed)."
                await self._tell(
                    execution_resources.task_ended(task, failed(code_pb2.UNAVAILABLE, message), self._now())
                )
                return
        while True:
            async with self._slot() as free:
                if not free:
                    return
                await self._tell(execution_resources.task_started(self._tasks[index], number, self._now()))
                self.started.set()
                result = await self._attempt(self._tasks[index], number)
            if result.status.code == code_pb2.OK or number >= task.max_retries or self._end.is_set():
                await self._tell(execution_resources.task_ended(self._tasks[index], result, self._now()))
                return
            await self._tell(execution_resources.task_will_retry(self._tasks[index], result, self._now()))
            number += 1

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[bool]:
        """Wait for a slot and hold it; False: the execution ends before there is one."""
        taking = asyncio.create_task(self._machine.slots.acquire())
        ending = asyncio.create_task(self._end.wait())
        try:
            await asyncio.wait({taking, ending}, return_when=asyncio.FIRST_COMPLETED)
            yield taking.done() and not self._end.is_set()
        finally:
            ending.cancel()
            if not taking.cancel():  # it has the slot
                self._machine.slots.release()

    async def _attempt(self, task: types.Task, number: int) -> types.TaskAttemptResult:
        machine = self._machine
        container = container_of(task)
        try:
            await self._clear(container)  # of an attempt that the end of the process cut short
            spec = await asyncio.to_thread(
                wanted_task, container, task, number, self._execution.task_count, machine.ground.folders
            )
        except (StartFailed, SandboxError, OSError) as exc:
            return failed(code_pb2.FAILED_PRECONDITION, str(exc))
        try:
            limits = Limits(task.timeout.total_seconds(), machine.grace_s)
            return await attempt(machine.ground.runtime, spec, limits, self._end)
        finally:
            try:
                await self._clear(container)
            except (SandboxError, OSError) as exc:
                log.warning("a task's folders stay", extra={"container": container, "reason": str(exc)})

    async def _clear(self, container: str) -> None:
        """Nothing of one attempt is there for the next."""
        await self._machine.ground.runtime.remove(container)
        await asyncio.to_thread(shutil.rmtree, self._machine.ground.folders.scratch / container, ignore_errors=True)

    async def _complete(self) -> types.Execution:
        for task in list(self._tasks.values()):
            if not task.completion_time:
                result = failed(code_pb2.CANCELLED, "The execution was cancelled.")
                await self._tell(execution_resources.task_ended(task, result, self._now()))
        failure = next((task for task in self._tasks.values() if phase_of(task) is Phase.FAILED), None)
        self._execution = execution_resources.completed(self._execution, failure, self._now())
        await self._show(self._execution, None)
        return self._execution

    async def _tell(self, task: types.Task) -> None:
        before = self._tasks[task.index]
        self._counts[phase_of(before)] -= 1
        self._counts[phase_of(task)] += 1
        self._retried += 1 if task.retried and not before.retried else 0
        self._tasks[task.index] = task
        self._execution = execution_resources.with_counts(self._execution, self._counts, self._retried, self._now())
        await self._show(self._execution, task)

    def _now(self) -> datetime.datetime:
        return self._machine.ground.clock()


def container_of(task: types.Task) -> str:
    return f"job-{hashlib.sha256(task.uid.encode()).hexdigest()[:12]}"
