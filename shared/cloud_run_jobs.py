"""Runs of jobs as Cloud Run Jobs.

Each of our jobs is a Cloud Run job of its own, made for one execution and deleted after it. Its name comes from the
job's id, so making it can be repeated; retries and timeout are its template's (an execution cannot override retries);
all that belongs to it is found under its name. Running it is the one call that Cloud Run does not know again:
whoever repeats a start looks for the execution of the start before.
"""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from google.api_core import exceptions
from google.cloud import run_v2

from shared import names
from shared.cloud import unavailable
from shared.errors import OnMemOSError
from shared.job_models import Job
from shared.job_runs import Progress, Run
from shared.models import Session
from shared.providers.cloud_run_api import (
    CALL_TIMEOUT_S,
    PATIENCE_S,
    SESSION_LABEL,
    CloudRunSettings,
    call_options,
    finished,
    translated,
)
from shared.providers.cloud_run_container import limits, mounts, volumes, vpc_access

JOB_LABEL = "onmemos-job"
READY_TIMEOUT_S = 60.0  # for Cloud Run to check a job's image; it takes seconds
CANCEL_TIMEOUT_S = 20.0  # an attempt has 10 s from TERM to KILL
LONGEST_S = 604_800  # 168 h: cloud.google.com/run/docs/configuring/task-timeout
MARGIN_S = 30  # around the runner's own timeout: for its start, and for the output's last part
# The agent's own Python: an image need have no other.
RUNNER = ("/opt/onmemos/python/bin/python3", "-I", "-S", "/opt/onmemos/agent/job.py")


class CloudRunJobs:
    """The JobRuns on Cloud Run's v2 API. The clients are opened on the first call and are the caller's to close."""

    def __init__(
        self,
        jobs: Callable[[], run_v2.JobsAsyncClient],
        executions: Callable[[], run_v2.ExecutionsAsyncClient],
        settings: CloudRunSettings,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._jobs = jobs
        self._executions = executions
        self._settings = settings
        self._once: dict[str, Any] = {"timeout": CALL_TIMEOUT_S, "retry": None}
        self._wait = call_options(patience_s)
        self._parent = settings.parent

    async def start(self, session: Session, job: Job, bucket: str) -> None:
        request = run_v2.CreateJobRequest(
            parent=self._parent, job_id=names.job_name(job.id), job=self._job(session, job, bucket)
        )
        try:
            with suppress(exceptions.AlreadyExists):
                operation = await self._jobs().create_job(request, **self._wait)
                await finished(operation, READY_TIMEOUT_S)
            if await self._execution(job.id) is None:
                # Never again by itself: after an answer that was lost, the next start looks whether it took effect.
                await self._jobs().run_job(name=self._path(job.id), **self._once)
        except exceptions.GoogleAPIError as exc:
            raise _translated(exc) from exc

    async def inspect(self, job_id: str) -> Run | None:
        try:
            execution = await self._execution(job_id)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Run", exc) from exc
        return None if execution is None else _run(execution)

    async def cancel(self, job_id: str) -> None:
        try:
            execution = await self._execution(job_id)
            if execution is None or _run(execution).is_over:
                return
            with suppress(exceptions.NotFound, exceptions.FailedPrecondition, exceptions.DeadlineExceeded):
                operation = await self._executions().cancel_execution(name=execution.name, **self._wait)
                await finished(operation, CANCEL_TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Run", exc) from exc

    async def remove(self, job_id: str) -> None:
        await self.cancel(job_id)
        try:
            with suppress(exceptions.NotFound):
                await self._jobs().delete_job(name=self._path(job_id), **self._wait)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Run", exc) from exc

    async def job_ids(self) -> AsyncIterator[tuple[str, str]]:
        try:
            async for job in await self._jobs().list_jobs(parent=self._parent, **self._wait):
                session_id, job_id = job.labels.get(SESSION_LABEL), job.labels.get(JOB_LABEL)
                if session_id and job_id and job.name.rpartition("/")[2] == names.job_name(job_id):
                    yield session_id, job_id
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Run", exc) from exc

    def _path(self, job_id: str) -> str:
        return f"{self._parent}/jobs/{names.job_name(job_id)}"

    async def _execution(self, job_id: str) -> run_v2.Execution | None:
        """The job's first execution, and its only one. Raises GoogleAPIError."""
        try:
            pager = await self._executions().list_executions(parent=self._path(job_id), **self._wait)
            found = [execution async for execution in pager]
        except exceptions.NotFound:
            return None
        return min(found, key=lambda one: (one.create_time, one.name), default=None)

    def _job(self, session: Session, job: Job, bucket: str) -> run_v2.Job:
        # The runner looks for its command in folders that no object stands for; its user is not root.
        container = run_v2.Container(
            image=session.image,
            command=[*RUNNER, f"{session.storage.mount_path}/{names.job_folder(job.id)}"],
            resources=run_v2.ResourceRequirements(limits=limits(session)),
            volume_mounts=mounts(session),
        )
        task = run_v2.TaskTemplate(
            containers=[container],
            volumes=volumes(session, bucket),
            max_retries=job.spec.retries,
            timeout={"seconds": min(math.ceil(job.spec.timeout_s) + MARGIN_S, LONGEST_S)},
            service_account=self._settings.account(session),
            execution_environment=run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2,
            vpc_access=vpc_access(session, self._settings),
        )
        labels = {**session.labels, SESSION_LABEL: session.id, JOB_LABEL: job.id}
        template = run_v2.ExecutionTemplate(labels=labels, task_count=1, parallelism=1, template=task)
        return run_v2.Job(labels=labels, template=template)


def _run(execution: run_v2.Execution) -> Run:
    """The conditions tell how it is; the counts of its one task tell how it ended."""
    completed = next((one for one in execution.conditions if one.type_ == "Completed"), run_v2.Condition())
    state, reasons = run_v2.Condition.State, run_v2.Condition.ExecutionReason
    started = execution.start_time if "start_time" in execution else None
    finished = execution.completion_time if "completion_time" in execution else None
    if completed.state == state.CONDITION_SUCCEEDED:
        progress = Progress.SUCCEEDED
    elif completed.state == state.CONDITION_FAILED:
        is_cancelled = execution.cancelled_count or completed.execution_reason == reasons.CANCELLED
        progress = Progress.CANCELLED if is_cancelled else Progress.FAILED
    else:
        finished = None
        progress = Progress.RUNNING if started or execution.running_count else Progress.PENDING
    return Run(progress, started, finished, completed.message)


def _translated(exc: exceptions.GoogleAPIError) -> OnMemOSError:
    if isinstance(exc, exceptions.Cancelled):
        return unavailable("Cloud Run", exc)
    return translated(exc, "job")
