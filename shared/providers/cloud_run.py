"""Workspaces as Cloud Run services: one service per session, always exactly one instance of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions
from google.api_core.retry import if_exception_type
from google.api_core.retry_async import AsyncRetry
from google.cloud import run_v2

from shared import names
from shared.cloud import reason, unavailable
from shared.errors import (
    InvalidRequest,
    OnMemOSError,
    ProviderUnavailable,
    ProvisioningFailed,
    QuotaExceeded,
    WorkspaceUnreachable,
)
from shared.models import ProviderName, Session
from shared.providers.base import Access, Address, Condition, Health, Wanted, Workspace

if TYPE_CHECKING:
    from google.api_core.operation_async import AsyncOperation

SESSION_LABEL = "onmemos-session"
FACTS_PREFIX = "onmemos.dev/"
AGENT_PORT = 8080
CALL_TIMEOUT_S = 30.0
PATIENCE_S = 10.0  # for a cloud API that says UNAVAILABLE: a blip passes, and no caller waits long for an outage
READY_TIMEOUT_S = (
    300.0  # Cloud Run gives a container 4 minutes to start: cloud.google.com/run/docs/configuring/healthchecks
)
REQUEST_TIMEOUT_S = 3600  # Cloud Run's longest request: cloud.google.com/run/docs/configuring/request-timeout
CONCURRENCY = 250
GIB = 1 << 30
# vCPU -> (least, most) memory: cloud.google.com/run/docs/configuring/services/memory-limits; below one vCPU Cloud Run
# allows a single request at a time, which a workspace cannot live with; 512 MiB is the second generation's least.
MEMORY_RANGE = {
    1: (GIB // 2, 4 * GIB),
    2: (GIB // 2, 8 * GIB),
    4: (2 * GIB, 16 * GIB),
    6: (4 * GIB, 24 * GIB),
    8: (4 * GIB, 32 * GIB),
}
TRANSIENT = (
    exceptions.ServiceUnavailable,
    exceptions.DeadlineExceeded,
    exceptions.Aborted,
    exceptions.InternalServerError,
    exceptions.Unknown,
    exceptions.RetryError,
)


@dataclass(frozen=True, slots=True)
class CloudRunSettings:
    """`service_account`: what a workspace runs as ("": the project's default).

    `closed_subnetwork`: a subnetwork without a way out, for sessions with `network: {egress: false}`; "" offers none.
    `filestore_subnetwork`: one from which Filestore's servers are reached; "" offers no shares.
    """

    project: str
    location: str
    service_account: str = ""
    closed_subnetwork: str = ""
    filestore_subnetwork: str = ""


class CloudRun:
    """The Provider on Cloud Run's v2 API. `client` is opened on the first call and is the caller's to close."""

    name = ProviderName.CLOUD_RUN
    ssh = False

    def __init__(
        self,
        client: Callable[[], run_v2.ServicesAsyncClient],
        settings: CloudRunSettings,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._client = client
        self._settings = settings
        blips = if_exception_type(exceptions.ServiceUnavailable)
        self._wait: dict[str, Any] = {
            "timeout": CALL_TIMEOUT_S,
            "retry": AsyncRetry(blips, initial=0.1, maximum=2.0, timeout=patience_s),
        }
        self._parent = f"projects/{settings.project}/locations/{settings.location}"

    def check(self, wanted: Wanted) -> None:
        resources, storage = wanted.resources, wanted.storage
        if resources.cpu not in MEMORY_RANGE:
            sizes = ", ".join(str(cpu) for cpu in MEMORY_RANGE)
            raise InvalidRequest.field("resources.cpu", f"got {resources.cpu:g}, wanted one of {sizes} on cloud_run")
        least, most = MEMORY_RANGE[int(resources.cpu)]
        if not least <= resources.memory_bytes <= most:
            raise InvalidRequest.field(
                "resources.memory",
                f"got {resources.memory_bytes >> 20}Mi, wanted {least >> 20}Mi to {most >> 20}Mi "
                f"with {resources.cpu:g} vCPU on cloud_run",
            )
        if not wanted.egress and not self._settings.closed_subnetwork:
            raise InvalidRequest.field(
                "network.egress",
                "got false, wanted true: this deployment has no closed subnetwork for cloud_run",
            )
        if storage.filestore is not None and not self._settings.filestore_subnetwork:
            raise InvalidRequest.field(
                "storage.filestore",
                f"got {storage.filestore.ip}, wanted none: this deployment has no subnetwork that reaches Filestore",
            )

    def access(self, session: Session) -> Access:
        if session.url is None:
            return Access()
        return Access(session.url, f"ws{session.url.removeprefix('http')}/v1/shell")

    async def address(self, session: Session) -> Address:
        if session.url is None:
            raise WorkspaceUnreachable(f"the workspace of {session.id} has no address")
        return Address(session.url)

    def keeps_files(self, session: Session) -> bool:
        return False  # an instance's file system is memory

    async def stop(self, session_id: str) -> None:
        await self.delete(session_id)

    async def create(self, session: Session, env: dict[str, str], bucket: str) -> Workspace:
        service_id = names.service_name(session.id)
        request = run_v2.CreateServiceRequest(
            parent=self._parent, service_id=service_id, service=self._service(session, env, bucket)
        )
        try:
            operation = await self._client().create_service(request, **self._wait)
            service = await self._finished(operation)
        except exceptions.AlreadyExists:
            service = await self._ready(service_id)
        except exceptions.GoogleAPIError as exc:
            raise _translated(exc) from exc
        facts = {
            key.removeprefix(FACTS_PREFIX): value
            for key, value in service.annotations.items()
            if key.startswith(FACTS_PREFIX)
        }
        return Workspace(service.uri, {"service_name": service_id, "bucket_name": bucket, **facts})

    async def inspect(self, session_id: str) -> Condition:
        try:
            service = await self._client().get_service(name=self._path(names.service_name(session_id)), **self._wait)
        except exceptions.NotFound:
            return Condition(Health.GONE, "its Cloud Run service does not exist")
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Run", exc) from exc
        return _condition(service)

    async def delete(self, session_id: str) -> None:
        try:
            operation = await self._client().delete_service(
                name=self._path(names.service_name(session_id)), **self._wait
            )
            await self._finished(operation)
        except exceptions.NotFound:
            return
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Run", exc) from exc

    async def session_ids(self) -> AsyncIterator[str]:
        try:
            services = await self._client().list_services(parent=self._parent, **self._wait)
            async for service in services:
                session_id = service.labels.get(SESSION_LABEL)
                if session_id and service.name.rpartition("/")[2] == names.service_name(session_id):
                    yield session_id
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Run", exc) from exc

    def _path(self, service_id: str) -> str:
        return f"{self._parent}/services/{service_id}"

    def _service(self, session: Session, env: dict[str, str], bucket: str) -> run_v2.Service:
        probe = run_v2.Probe(
            http_get=run_v2.HTTPGetAction(path="/health", port=AGENT_PORT),
            period_seconds=1,
            timeout_seconds=1,
            failure_threshold=120,
        )
        container = run_v2.Container(
            image=session.image,
            env=[run_v2.EnvVar(name=name, value=value) for name, value in sorted(env.items())],
            ports=[run_v2.ContainerPort(container_port=AGENT_PORT)],
            resources=run_v2.ResourceRequirements(
                limits={
                    "cpu": f"{session.resources.cpu:g}",
                    "memory": f"{session.resources.memory_bytes >> 20}Mi",
                },
                cpu_idle=False,  # commands run between requests too
            ),
            volume_mounts=[
                run_v2.VolumeMount(name=name, mount_path=mount_path)
                for name, mount_path, _ in _volumes(session, bucket)
            ],
            startup_probe=probe,
        )
        template = run_v2.RevisionTemplate(
            containers=[container],
            volumes=[volume for _, _, volume in _volumes(session, bucket)],
            scaling=run_v2.RevisionScaling(min_instance_count=1, max_instance_count=1),
            service_account=self._settings.service_account,
            timeout={"seconds": REQUEST_TIMEOUT_S},
            max_instance_request_concurrency=CONCURRENCY,
            execution_environment=run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2,
        )
        if not session.egress:
            template.vpc_access = _vpc(self._settings.closed_subnetwork, run_v2.VpcAccess.VpcEgress.ALL_TRAFFIC)
        elif session.storage.filestore is not None:
            ranges = run_v2.VpcAccess.VpcEgress.PRIVATE_RANGES_ONLY
            template.vpc_access = _vpc(self._settings.filestore_subnetwork, ranges)
        return run_v2.Service(
            description=f"OnMemOS session {session.id}",
            labels={**session.labels, SESSION_LABEL: session.id},
            ingress=run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL,
            invoker_iam_disabled=True,  # the agent's door is the ticket
            template=template,
        )

    async def _finished(self, operation: "AsyncOperation") -> run_v2.Service:
        """A failed operation raises its own error; one that lasts too long, DeadlineExceeded."""
        service: run_v2.Service = await operation.result(timeout=READY_TIMEOUT_S)
        return service

    async def _ready(self, service_id: str) -> run_v2.Service:
        """The service that a former try made, once ready. Its operation is lost, so its condition is asked for."""
        deadline, pause_s = time.monotonic() + READY_TIMEOUT_S, 0.1
        while time.monotonic() < deadline:
            service = await self._client().get_service(name=self._path(service_id), **self._wait)
            condition = _condition(service)
            if condition.health is Health.READY:
                return service
            if condition.health is Health.FAILED and not service.reconciling:
                raise ProvisioningFailed(f"Cloud Run could not start the workspace: {condition.reason}")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)
        raise ProviderUnavailable(f"Cloud Run service {service_id} was not ready after {READY_TIMEOUT_S:g} s")


def _volumes(session: Session, bucket: str) -> list[tuple[str, str, run_v2.Volume]]:
    """(name, mount path, volume) of all that the session has mounted."""
    source = run_v2.GCSVolumeSource(bucket=bucket)
    found = [("bucket", session.storage.mount_path, run_v2.Volume(name="bucket", gcs=source))]
    share = session.storage.filestore
    if share is not None:
        nfs = run_v2.NFSVolumeSource(server=share.ip, path=f"/{share.share}")
        found.append(("filestore", share.mount_path, run_v2.Volume(name="filestore", nfs=nfs)))
    return found


def _vpc(subnetwork: str, egress: int) -> run_v2.VpcAccess:
    interface = run_v2.VpcAccess.NetworkInterface(subnetwork=subnetwork)
    return run_v2.VpcAccess(egress=egress, network_interfaces=[interface])


def _condition(service: run_v2.Service) -> Condition:
    terminal = service.terminal_condition
    match terminal.state:
        case run_v2.Condition.State.CONDITION_SUCCEEDED:
            return Condition(Health.READY)
        case run_v2.Condition.State.CONDITION_FAILED:
            return Condition(Health.FAILED, terminal.message)
        case _:
            return Condition(Health.STARTING, terminal.message)


def _translated(exc: exceptions.GoogleAPIError) -> OnMemOSError:
    if isinstance(exc, exceptions.ResourceExhausted):
        return QuotaExceeded(f"Cloud Run refused the workspace: {reason(exc)}")
    if isinstance(exc, TRANSIENT):
        return unavailable("Cloud Run", exc)
    return ProvisioningFailed(f"Cloud Run could not start the workspace: {reason(exc)}")
