"""Workspaces as Cloud Run services: one per session, always exactly one instance of it. Stopping one deletes it."""

from collections.abc import AsyncIterable, Callable
from typing import TYPE_CHECKING

from google.cloud import run_v2

from shared.errors import ProvisioningFailed
from shared.models import Session
from shared.providers.base import Health
from shared.providers.cloud_run_api import SESSION_LABEL, CloudRunSettings, Mode
from shared.providers.cloud_run_container import agent_container, volumes, vpc_access
from shared.providers.cloud_run_kind import Kind

if TYPE_CHECKING:
    from google.api_core.operation_async import AsyncOperation

REQUEST_TIMEOUT_S = 3600  # Cloud Run's longest request: cloud.google.com/run/docs/configuring/request-timeout
CONCURRENCY = 250


class Services(Kind[run_v2.Service]):
    """A service's URL comes from its name: one that is made again answers where the one before did."""

    mode = Mode.SERVICE

    def __init__(
        self, client: Callable[[], run_v2.ServicesAsyncClient], settings: CloudRunSettings, patience_s: float
    ) -> None:
        super().__init__(settings, patience_s)
        self._client = client

    def _wanted(self, session: Session, env: dict[str, str], bucket: str) -> run_v2.Service:
        template = run_v2.RevisionTemplate(
            containers=[agent_container(session, env)],
            volumes=volumes(session, bucket),
            scaling=run_v2.RevisionScaling(min_instance_count=1, max_instance_count=1),
            service_account=self._settings.account(session),
            timeout={"seconds": REQUEST_TIMEOUT_S},
            max_instance_request_concurrency=CONCURRENCY,
            execution_environment=run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2,
            vpc_access=vpc_access(session, self._settings),
        )
        return run_v2.Service(
            description=f"OnMemOS session {session.id}",
            labels={**session.labels, SESSION_LABEL: session.id},
            ingress=run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL,
            invoker_iam_disabled=True,  # the agent's door is the ticket
            template=template,
        )

    async def _found(self, resource_id: str, wanted: run_v2.Service) -> run_v2.Service:
        service = await self._settled(resource_id)
        condition = self._condition(service)
        if condition.health is not Health.READY:
            raise ProvisioningFailed(f"Cloud Run could not start the workspace: {condition.reason}")
        return service

    def _url(self, resource: run_v2.Service) -> str:
        return resource.uri

    async def _create(self, resource_id: str, wanted: run_v2.Service) -> "AsyncOperation":
        request = run_v2.CreateServiceRequest(parent=self._settings.parent, service_id=resource_id, service=wanted)
        return await self._client().create_service(request, **self._wait)

    async def _get(self, path: str) -> run_v2.Service:
        return await self._client().get_service(name=path, **self._wait)

    async def _list(self) -> AsyncIterable[run_v2.Service]:
        return await self._client().list_services(parent=self._settings.parent, **self._wait)

    async def _stop(self, path: str) -> "AsyncOperation":
        return await self._delete(path)

    async def _delete(self, path: str) -> "AsyncOperation":
        return await self._client().delete_service(name=path, **self._wait)
