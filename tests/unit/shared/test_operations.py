"""What long-running operations of Cloud Run come to, as the domain says it; in time, or it is said that it was not."""

from datetime import UTC, datetime
from typing import Any

import pytest
from google.api_core import exceptions
from google.api_core.operation_async import AsyncOperation
from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.rpc import code_pb2, status_pb2

from shared.cloud import reason
from shared.cloud_run_jobs import CloudRunJobs
from shared.errors import ProviderUnavailable, ProvisioningFailed, QuotaExceeded
from shared.providers.cloud_run_api import CloudRunSettings, finished, translated
from tests.fakes import a_session
from tests.job_fakes import a_job


def operation(code: int = code_pb2.OK, message: str = "", *, done: bool = True) -> AsyncOperation:
    found = operations_pb2.Operation(name="operations/1", done=done)
    if code:
        found.error.CopyFrom(status_pb2.Status(code=code, message=message))

    async def refresh(**_: Any) -> operations_pb2.Operation:
        return found

    async def cancel() -> None: ...

    return AsyncOperation(found, refresh, cancel, run_v2.Job)


async def test_an_operation_that_lasts_too_long_may_be_tried_again() -> None:
    with pytest.raises(exceptions.DeadlineExceeded, match=r"not done after 0\.01 s") as caught:
        await finished(operation(done=False), 0.01)
    assert isinstance(translated(caught.value), ProviderUnavailable)


class JobsClient:
    """Makes jobs by an operation that ends so."""

    def __init__(self, made: AsyncOperation) -> None:
        self._made = made

    async def create_job(self, request: run_v2.CreateJobRequest, **_: Any) -> AsyncOperation:
        return self._made


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (code_pb2.RESOURCE_EXHAUSTED, QuotaExceeded),
        (code_pb2.UNAVAILABLE, ProviderUnavailable),
        (code_pb2.INVALID_ARGUMENT, ProvisioningFailed),
    ],
)
async def test_a_job_that_could_not_be_made_is_told_by_the_operations_code(code: int, error: type[Exception]) -> None:
    client: Any = JobsClient(operation(code, "Quota exceeded for jobs per region"))
    runs = CloudRunJobs(lambda: client, lambda: client, CloudRunSettings("p", "us-central1"))
    with pytest.raises(error, match="Quota exceeded for jobs per region"):
        await runs.start(a_session(), a_job(created_at=datetime.now(UTC)), "bucket")


def test_an_error_without_words_is_told_by_its_name() -> None:
    assert reason(TimeoutError()) == "TimeoutError()"
    assert reason(exceptions.NotFound("no such job")) == "no such job"
