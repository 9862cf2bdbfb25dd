"""google.cloud.run.v2.Executions and Tasks: what jobs made; read, cancelled and deleted here."""

import datetime
from collections.abc import Callable

import grpc
from google.api_core import exceptions
from google.cloud.run_v2 import types
from google.longrunning import operations_pb2

from infra.emulators.rpc import Method, service
from infra.emulators.run import execution_resources
from infra.emulators.run.answers import Answers, as_is, check_etag, outcome
from infra.emulators.run.batch import Batch
from infra.emulators.run.names import JobName, parse_execution, parse_task, prefix_of_executions, prefix_of_tasks
from infra.emulators.run.paging import listed
from infra.emulators.run.resources import id_of


class Executions:
    def __init__(self, batch: Batch, answers: Answers, *, clock: Callable[[], datetime.datetime]) -> None:
        self._batch = batch
        self._answers = answers
        self._clock = clock

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        operation = operations_pb2.Operation
        listed = Method(self._list, types.ListExecutionsRequest, types.ListExecutionsResponse)
        return [
            service(
                "google.cloud.run.v2.Executions",
                {
                    "GetExecution": Method(self._get, types.GetExecutionRequest, types.Execution),
                    "ListExecutions": listed,
                    "CancelExecution": Method(self._cancel, types.CancelExecutionRequest, operation),
                    "DeleteExecution": Method(self._delete, types.DeleteExecutionRequest, operation),
                },
            ),
            service(
                "google.cloud.run.v2.Tasks",
                {
                    "GetTask": Method(self._get_task, types.GetTaskRequest, types.Task),
                    "ListTasks": Method(self._list_tasks, types.ListTasksRequest, types.ListTasksResponse),
                },
            ),
        ]

    async def _get(self, request: types.GetExecutionRequest) -> types.Execution:
        parse_execution(request.name, "GetExecutionRequest.name")
        return self._existing(request.name)

    async def _list(self, request: types.ListExecutionsRequest) -> types.ListExecutionsResponse:
        prefix = prefix_of_executions(request.parent, "ListExecutionsRequest.parent")
        executions, token = listed(map(self._existing, self._batch.executions(prefix)), request)
        return types.ListExecutionsResponse(executions=executions, next_page_token=token)

    async def _cancel(self, request: types.CancelExecutionRequest) -> operations_pb2.Operation:
        """Of one that is being cancelled already: waits for that."""
        name = parse_execution(request.name, "CancelExecutionRequest.name")
        execution = self._existing(request.name)
        check_etag(execution, request.etag)
        if execution.completion_time:
            raise exceptions.FailedPrecondition(
                f"Execution '{id_of(execution.name)}' is complete and cannot be cancelled."
            )
        begun = execution_resources.cancelling(execution, self._clock())
        work = as_is(begun) if request.validate_only else self._batch.cancel(execution.name)
        return await self._answers.operation(name.parent, work, begun)

    async def _delete(self, request: types.DeleteExecutionRequest) -> operations_pb2.Operation:
        name = parse_execution(request.name, "DeleteExecutionRequest.name")
        await self._batch.deletion(request.name)
        execution = self._existing(request.name)
        check_etag(execution, request.etag)
        gone = execution_resources.execution_deleted(execution, self._clock())
        if request.validate_only:
            return await self._answers.operation(name.parent, as_is(gone), gone)
        return await self._answers.operation(name.parent, outcome(self._batch.begin_deletion_of_execution(gone)), gone)

    async def _get_task(self, request: types.GetTaskRequest) -> types.Task:
        task = self._batch.task(parse_task(request.name, "GetTaskRequest.name"), request.name)
        if task is None:
            raise exceptions.NotFound(f"Task '{id_of(request.name)}' does not exist.")
        return task

    async def _list_tasks(self, request: types.ListTasksRequest) -> types.ListTasksResponse:
        tasks, token = listed(self._batch.tasks(prefix_of_tasks(request.parent, "ListTasksRequest.parent")), request)
        return types.ListTasksResponse(tasks=tasks, next_page_token=token)

    def _existing(self, name: str) -> types.Execution:
        execution = self._batch.execution(name)
        if execution is None:
            job = JobName.parse(name.split("/executions/", 1)[0], "name")
            raise exceptions.NotFound(f"Execution '{id_of(name)}' of job '{job.id}' does not exist.")
        return execution
