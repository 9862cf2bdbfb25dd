"""The jobs that exist, their executions and tasks: what a request asks for is stored, and carried out, here."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack

from google.api_core import exceptions
from google.cloud.run_v2 import types

from infra.emulators.run import execution_resources, job_resources
from infra.emulators.run.deletions import Deletions
from infra.emulators.run.execution_run import ExecutionRun, Machine
from infra.emulators.run.ground import Ground
from infra.emulators.run.names import Location
from infra.emulators.run.opened import Opened
from infra.emulators.run.resources import id_of
from infra.emulators.run.storage import Row

log = logging.getLogger(__name__)

TASKS_AT_ONCE = 100  # of all jobs; more wait for their turn
GRACE_S = 10.0  # between TERM and KILL: cloud.google.com/run/docs/container-contract#forced-shutdown
EXECUTIONS_KEPT = 1000  # of a job: cloud.google.com/run/docs/managing/job-executions


class Batch(Opened):
    """Kept in memory and, written through, in the storage.

    Opening it carries on with the executions that were not complete; leaving ends their containers. No execution stays
    open for ever: whatever goes wrong with one completes it as failed.
    """

    def __init__(
        self,
        ground: Ground,
        *,
        grace_s: float = GRACE_S,
        tasks_at_once: int = TASKS_AT_ONCE,
        executions_kept: int = EXECUTIONS_KEPT,
    ) -> None:
        self._storage = ground.storage
        self._clock = ground.clock
        self._machine = Machine(ground, tasks_at_once, asyncio.Semaphore(tasks_at_once), grace_s)
        self._executions_kept = executions_kept
        self._jobs: dict[str, types.Job] = {}
        self._executions: dict[str, types.Execution] = {}  # oldest first
        self._tasks: dict[str, dict[str, types.Task]] = {}  # of an execution, by name, in the order of their index
        self._runs: dict[str, tuple[ExecutionRun, asyncio.Task[None]]] = {}
        self._deletions = Deletions()

    async def _open(self, opening: AsyncExitStack) -> None:
        opening.push_async_callback(self._end_runs)
        await opening.enter_async_context(self._deletions)
        self._jobs = {row.message.name: row.message for row in await self._storage.load("jobs")}
        self._executions = {row.message.name: row.message for row in await self._storage.load("executions")}
        self._tasks = {name: {} for name in self._executions}
        tasks = [row.message for row in await self._storage.load("tasks")]
        for task in sorted(tasks, key=lambda task: int(task.index)):
            self._tasks[task.name.split("/tasks/", 1)[0]][task.name] = task
        self._carry_on()

    def job(self, name: str) -> types.Job | None:
        """As clients see it."""
        job = self._jobs.get(name)
        if job is None:
            return None
        return job_resources.job_shown(job, self._executions.get(job.latest_created_execution.name))

    def jobs(self, parent: Location) -> Iterator[types.Job]:
        for name in self._jobs:
            if name.startswith(f"{parent}/jobs/") and (job := self.job(name)):
                yield job

    def execution(self, name: str) -> types.Execution | None:
        return self._executions.get(name)

    def executions(self, prefix: str) -> list[str]:
        return [name for name in self._executions if name.startswith(prefix)]

    def task(self, execution: str, name: str) -> types.Task | None:
        return self._tasks.get(execution, {}).get(name)

    def tasks(self, prefix: str) -> Iterator[types.Task]:
        for of_execution in self._tasks.values():
            yield from (task for name, task in of_execution.items() if name.startswith(prefix))

    async def put(self, job: types.Job) -> types.Job:
        """Take in a job that is new, or has a next generation."""
        self._jobs[job.name] = job
        await self._storage.save(Row(job))
        return job

    def begin(self, job: types.Job, template: types.ExecutionTemplate, token: str = "") -> types.Execution:
        """Let a job run, as `template` has it; the job may be new. `keep` stores both.

        Raises AlreadyExists: an execution with that token.
        """
        now = self._clock()
        execution = execution_resources.new_execution(job, template, token, now)
        if execution.name in self._executions:
            raise exceptions.AlreadyExists(f"Execution '{id_of(execution.name)}' already exists.")
        self._jobs[job.name] = job_resources.job_with_execution(job, execution)
        self._executions[execution.name] = execution
        self._tasks[execution.name] = {task.name: task for task in execution_resources.new_tasks(execution, now)}
        self._run(execution)
        return execution

    async def keep(self, execution: types.Execution) -> None:
        """Store what was begun, and forget the job's oldest execution where it has too many."""
        name, job_name = execution.name, _job_of(execution)
        tasks = map(Row, self._tasks[name].values())
        await self._storage.save(Row(self._jobs[job_name]), Row(self._executions[name]), *tasks)
        await self._forget_the_oldest(job_name)

    async def started(self, name: str) -> None:
        """Wait until the first task of an execution has."""
        if found := self._runs.get(name):
            await found[0].started.wait()

    async def completion(self, name: str) -> types.Execution:
        """Wait until an execution is complete. Raises Aborted: it was deleted before."""
        if found := self._runs.get(name):
            await asyncio.wait({found[1]})
        execution = self._executions.get(name)
        if execution is None or execution.delete_time:
            raise exceptions.Aborted(f"Execution '{id_of(name)}' was deleted before it was complete.")
        return execution

    async def cancel(self, name: str) -> types.Execution:
        if found := self._runs.get(name):
            await found[0].cancel()
        return await self.completion(name)

    def begin_deletion_of_execution(self, execution: types.Execution) -> asyncio.Task[types.Execution]:
        """`execution` says that it is being deleted. The task ends when nothing of it runs any more."""
        self._executions[execution.name] = execution
        return self._deletions.begin(execution.name, self._remove_execution(execution))

    def begin_deletion_of_job(self, job: types.Job) -> asyncio.Task[types.Job]:
        """The same, with all its executions."""
        self._jobs[job.name] = job
        return self._deletions.begin(job.name, self._remove_job(job))

    async def deletion(self, name: str) -> None:
        """Wait for the deletion of a job or an execution that is under way, if there is one."""
        await self._deletions.ended(name)

    async def _remove_job(self, job: types.Job) -> types.Job:
        await self._storage.save(Row(job))
        now = self._clock()
        for name in self.executions(f"{job.name}/executions/"):
            await self._deletions.ended(name)
            if execution := self._executions.get(name):
                self._executions[name] = execution_resources.execution_deleted(execution, now)
        await asyncio.gather(*map(self._end_run, self.executions(f"{job.name}/executions/")))
        await self._storage.delete(job.name)
        for name in self.executions(f"{job.name}/executions/"):
            self._drop(name)
        del self._jobs[job.name]
        gone = types.Job(job)
        gone.reconciling = False
        return gone

    async def _remove_execution(self, execution: types.Execution) -> types.Execution:
        await self._storage.save(Row(execution))
        await self._end_run(execution.name)
        gone = self._executions[execution.name]
        await self._storage.delete(execution.name)
        self._drop(execution.name)
        return gone

    async def _end_run(self, name: str) -> None:
        """Return when nothing of it runs any more."""
        if found := self._runs.get(name):
            run, task = found
            await run.cancel()
            await asyncio.wait({task})

    def _drop(self, name: str) -> None:
        del self._executions[name]
        del self._tasks[name]

    def _carry_on(self) -> None:
        """With what the end of the process cut short."""
        for job in [job for job in self._jobs.values() if job.delete_time]:
            self.begin_deletion_of_job(job)
        for execution in list(self._executions.values()):
            if not execution.completion_time:
                self._run(execution)
            if execution.delete_time and not self._jobs[_job_of(execution)].delete_time:
                self.begin_deletion_of_execution(execution)

    def _run(self, execution: types.Execution) -> None:
        name = execution.name
        run = ExecutionRun(execution, self._tasks[name].values(), self._machine, self._show)
        task = asyncio.create_task(self._carry_out(run, name), name=f"execution {name}")
        self._runs[name] = run, task
        task.add_done_callback(lambda _: self._runs.pop(name, None))

    async def _carry_out(self, run: ExecutionRun, name: str) -> None:
        try:
            await run.run()
        except Exception:
            log.exception("an execution broke", extra={"execution": name})
            why = "Internal error in the emulator; see its log."
            await self._show(execution_resources.broken(self._executions[name], why, self._clock()), None)

    async def _show(self, execution: types.Execution, task: types.Task | None) -> None:
        """A deletion that began meanwhile stays."""
        before = self._executions[execution.name]
        if before.delete_time and not execution.delete_time:
            execution = types.Execution(execution)
            execution.delete_time, execution.expire_time = before.delete_time, before.expire_time
        self._executions[execution.name] = execution
        if task is not None:
            self._tasks[execution.name][task.name] = task
        await self._storage.save(Row(execution), *([Row(task)] if task is not None else []))

    async def _forget_the_oldest(self, job_name: str) -> None:
        names = self.executions(f"{job_name}/executions/")
        for name in names[: max(len(names) - self._executions_kept, 0)]:
            execution = self._executions[name]
            if execution.completion_time and not execution.delete_time and name not in self._runs:
                await self._storage.delete(name)
                self._drop(name)

    async def _end_runs(self) -> None:
        tasks = [task for _, task in self._runs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _job_of(execution: types.Execution) -> str:
    return execution.name.split("/executions/", 1)[0]
