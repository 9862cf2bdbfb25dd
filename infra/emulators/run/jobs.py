"""google.cloud.run.v2.Jobs: requests checked as the real service does, and answered with operations."""

import datetime
from collections.abc import Callable

import grpc
from google.api_core import exceptions
from google.cloud.run_v2 import types
from google.longrunning import operations_pb2

from infra.emulators.rpc import Method, service
from infra.emulators.run import execution_resources, job_resources, resources
from infra.emulators.run.answers import Answers, already_exists, as_is, check_etag, check_quota, not_found, outcome
from infra.emulators.run.batch import Batch
from infra.emulators.run.job_rules import check_execution_template, check_job, check_job_id, check_overrides
from infra.emulators.run.names import JobName, Location
from infra.emulators.run.paging import listed
from infra.emulators.run.rules import violation


class Jobs:
    def __init__(self, batch: Batch, answers: Answers, *, quota: int, clock: Callable[[], datetime.datetime]) -> None:
        self._batch = batch
        self._answers = answers
        self._quota = quota
        self._clock = clock

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        operation = operations_pb2.Operation
        return [
            service(
                "google.cloud.run.v2.Jobs",
                {
                    "CreateJob": Method(self._create, types.CreateJobRequest, operation),
                    "GetJob": Method(self._get, types.GetJobRequest, types.Job),
                    "ListJobs": Method(self._list, types.ListJobsRequest, types.ListJobsResponse),
                    "UpdateJob": Method(self._update, types.UpdateJobRequest, operation),
                    "DeleteJob": Method(self._delete, types.DeleteJobRequest, operation),
                    "RunJob": Method(self._run, types.RunJobRequest, operation),
                },
            )
        ]

    async def _get(self, request: types.GetJobRequest) -> types.Job:
        return self._existing(JobName.parse(request.name, "GetJobRequest.name"))

    async def _list(self, request: types.ListJobsRequest) -> types.ListJobsResponse:
        jobs, token = listed(self._batch.jobs(Location.parse(request.parent, "ListJobsRequest.parent")), request)
        return types.ListJobsResponse(jobs=jobs, next_page_token=token)

    async def _create(self, request: types.CreateJobRequest) -> operations_pb2.Operation:
        parent = Location.parse(request.parent, "CreateJobRequest.parent")
        check_job_id(request.job_id, "CreateJobRequest.job_id")
        if "job" not in request:
            raise violation("CreateJobRequest.job", "required field not present")
        check_job(request.job, request.job_id, "CreateJobRequest.job")
        name = parent.job(request.job_id)
        await self._batch.deletion(str(name))
        if self._batch.job(str(name)) is not None:
            raise already_exists(name)
        return await self._create_valid(name, request.job, request.validate_only)

    async def _create_valid(self, name: JobName, asked: types.Job, validate_only: bool) -> operations_pb2.Operation:
        check_quota(len([*self._batch.jobs(name.parent)]), self._quota, name.parent, "jobs")
        return await self._put(name, job_resources.new_job(name, asked, self._clock()), None, validate_only)

    async def _update(self, request: types.UpdateJobRequest) -> operations_pb2.Operation:
        name = JobName.parse(request.job.name, "UpdateJobRequest.job.name")
        check_job(request.job, name.id, "UpdateJobRequest.job")
        if request.allow_missing and self._batch.job(str(name)) is None:
            check_job_id(name.id, "UpdateJobRequest.job.name")
            return await self._create_valid(name, request.job, request.validate_only)
        job = self._living(name)
        check_etag(job, request.job.etag)
        updated = job_resources.updated_job(job, request.job, self._clock())
        return await self._put(name, updated, job, request.validate_only)

    async def _put(
        self, name: JobName, job: types.Job, before: types.Job | None, validate_only: bool
    ) -> operations_pb2.Operation:
        """With a token that its former self had not, a job is ready when its new execution is started, or complete."""
        if validate_only:
            return await self._answers.operation(name.parent, as_is(job), job)
        token = job.start_execution_token or job.run_execution_token
        had = before and (before.start_execution_token or before.run_execution_token)
        if not token or token == had:
            return await self._answers.operation(name.parent, self._batch.put(job), job)
        execution = self._batch.begin(job, job.template, token)
        work = self._started(name, execution, complete=bool(job.run_execution_token))
        return await self._answers.operation(name.parent, work, job)

    async def _started(self, name: JobName, execution: types.Execution, *, complete: bool) -> types.Job:
        await self._batch.keep(execution)
        await (self._batch.completion if complete else self._batch.started)(execution.name)
        return self._existing(name)

    async def _run(self, request: types.RunJobRequest) -> operations_pb2.Operation:
        """Answered at once: the operation is done when the execution is complete, and its metadata is the execution."""
        name = JobName.parse(request.name, "RunJobRequest.name")
        job = self._living(name)
        check_etag(job, request.etag)
        container = job.template.template.containers[0]
        check_overrides(request.overrides, container, "RunJobRequest.overrides")
        template = job_resources.overridden(job.template, request.overrides)
        check_execution_template(template, "RunJobRequest.overrides")
        if request.validate_only:
            would_be = execution_resources.new_execution(job, template, "", self._clock())
            return await self._answers.operation(name.parent, as_is(would_be), would_be)
        execution = self._batch.begin(job, template)
        await self._batch.keep(execution)
        return await self._answers.operation(name.parent, self._batch.completion(execution.name), execution, within_s=0)

    async def _delete(self, request: types.DeleteJobRequest) -> operations_pb2.Operation:
        name = JobName.parse(request.name, "DeleteJobRequest.name")
        await self._batch.deletion(str(name))
        job = self._existing(name)
        check_etag(job, request.etag)
        gone = resources.being_deleted(job, self._clock())
        if request.validate_only:
            return await self._answers.operation(name.parent, as_is(gone), gone)
        return await self._answers.operation(name.parent, outcome(self._batch.begin_deletion_of_job(gone)), gone)

    def _existing(self, name: JobName) -> types.Job:
        job = self._batch.job(str(name))
        if job is None:
            raise not_found(name)
        return job

    def _living(self, name: JobName) -> types.Job:
        job = self._existing(name)
        if job.delete_time:
            raise exceptions.FailedPrecondition(f"Job '{name.id}' is being deleted.")
        return job
