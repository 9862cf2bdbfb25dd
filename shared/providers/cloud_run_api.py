"""What all calls to Cloud Run share: a deployment's settings, how long they may take, and what a failure means."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions
from google.api_core.retry import if_exception_type
from google.api_core.retry_async import AsyncRetry
from google.longrunning import operations_pb2

from shared import names
from shared.cloud import reason, unavailable
from shared.errors import OnMemOSError, ProvisioningFailed, QuotaExceeded
from shared.models import Session

if TYPE_CHECKING:
    from google.api_core.operation_async import AsyncOperation

SESSION_LABEL = "onmemos-session"
CALL_TIMEOUT_S = 30.0
PATIENCE_S = 10.0  # for a cloud API that says UNAVAILABLE: a blip passes, and no caller waits long for an outage
TRANSIENT = (
    exceptions.ServiceUnavailable,
    exceptions.DeadlineExceeded,
    exceptions.Aborted,
    exceptions.InternalServerError,
    exceptions.Unknown,
    exceptions.RetryError,
)


class Mode(StrEnum):
    """What a new session is made as; those of the other kind are still found, stopped and deleted."""

    SERVICE = "service"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class CloudRunSettings:
    """`service_account`: what a workspace runs as, with `{tenant}` where each has its own ("": the project's default).

    `closed_subnetwork`: a subnetwork without a way out, for sessions with `network: {egress: false}`; "" offers none.
    `filestore_subnetwork`: one from which Filestore's servers are reached; "" offers no shares.
    """

    project: str
    location: str
    service_account: str = ""
    closed_subnetwork: str = ""
    filestore_subnetwork: str = ""
    mode: Mode = Mode.SERVICE

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"

    def account(self, session: Session) -> str:
        """What the session's workspace and its jobs run as."""
        return names.workspace_account(self.service_account, session.tenant)


def call_options(patience_s: float) -> dict[str, Any]:
    """Of every call: its timeout, and that it is made again while the API says UNAVAILABLE, for so long."""
    blips = if_exception_type(exceptions.ServiceUnavailable)
    retry = AsyncRetry(blips, initial=0.1, maximum=2.0, timeout=patience_s)
    return {"timeout": CALL_TIMEOUT_S, "retry": retry}


async def finished(operation: "AsyncOperation", timeout_s: float) -> Any:
    """What an operation comes to. Raises GoogleAPIError alone; DeadlineExceeded: it lasts longer than that.

    Its failure is raised as that of a call would be: the client gives all of them one class, and the code beside.
    """
    try:
        return await operation.result(timeout=timeout_s)
    except TimeoutError as exc:
        raise exceptions.DeadlineExceeded(f"the operation was not done after {timeout_s:g} s") from exc
    except exceptions.GoogleAPICallError as exc:
        if isinstance(exc.response, operations_pb2.Operation):
            raise exceptions.from_grpc_status(exc.response.error.code, exc.message) from exc
        raise


def translated(exc: exceptions.GoogleAPIError, what: str = "workspace") -> OnMemOSError:
    """Why Cloud Run did not start it: a quota, an outage that passes, or what another try will not help."""
    if isinstance(exc, exceptions.ResourceExhausted):
        return QuotaExceeded(f"Cloud Run refused the {what}: {reason(exc)}")
    if isinstance(exc, TRANSIENT):
        return unavailable("Cloud Run", exc)
    return ProvisioningFailed(f"Cloud Run could not start the {what}: {reason(exc)}")
