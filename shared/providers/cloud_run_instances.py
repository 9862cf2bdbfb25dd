"""Workspaces as Cloud Run instances: one per session, stopped and started under one URL.

An instance cannot be changed: one that is stopped, and is not what is wanted any more, gives way to a new one. Its
files are lost with the stop, so that costs nothing but time.
"""

import hashlib
from collections.abc import AsyncIterable, Callable
from typing import TYPE_CHECKING

from google.api import launch_stage_pb2
from google.cloud import run_v2

from shared.models import Session
from shared.providers.base import Condition, Health
from shared.providers.cloud_run_api import SESSION_LABEL, CloudRunSettings, Mode
from shared.providers.cloud_run_container import agent_container, volumes, vpc_access
from shared.providers.cloud_run_kind import CONFIGURATION, Kind

if TYPE_CHECKING:
    from google.api_core.operation_async import AsyncOperation


class Instances(Kind[run_v2.Instance]):
    """Requests have no timeout to set, and 80 of them at once: cloud.google.com/run/docs/configuring/instances/cpu."""

    mode = Mode.INSTANCE

    def __init__(
        self, client: Callable[[], run_v2.InstancesAsyncClient], settings: CloudRunSettings, patience_s: float
    ) -> None:
        super().__init__(settings, patience_s)
        self._client = client

    def _wanted(self, session: Session, env: dict[str, str], bucket: str) -> run_v2.Instance:
        instance = run_v2.Instance(
            description=f"OnMemOS session {session.id}",
            labels={**session.labels, SESSION_LABEL: session.id},
            launch_stage=launch_stage_pb2.LaunchStage.BETA,  # instances are in preview
            ingress=run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL,
            invoker_iam_disabled=True,  # the agent's door is the ticket
            service_account=self._settings.account(session),
            containers=[agent_container(session, env)],
            volumes=volumes(session, bucket),
            vpc_access=vpc_access(session, self._settings),
        )
        written = run_v2.Instance.pb(instance).SerializeToString(deterministic=True)
        instance.annotations[CONFIGURATION] = hashlib.sha256(written).hexdigest()
        return instance

    async def _found(self, resource_id: str, wanted: run_v2.Instance) -> run_v2.Instance:
        """Whatever its last start came to, a start is tried: what was in its way may be gone."""
        instance = await self._settled(resource_id)
        if self._condition(instance).health is Health.READY:
            return instance
        if instance.annotations.get(CONFIGURATION) == wanted.annotations[CONFIGURATION]:
            return await self._finished(self._client().start_instance(name=instance.name, **self._wait))
        await self._finished(self._delete(instance.name))
        return await self._finished(self._create(resource_id, wanted))

    def _condition(self, resource: run_v2.Instance) -> Condition:
        """A stopped one is not ready, as a failed one is; what tells them apart is said with less severity."""
        found = super()._condition(resource)
        is_error = resource.terminal_condition.severity == run_v2.Condition.Severity.ERROR
        if found.health is Health.FAILED and not resource.reconciling and not is_error:
            return Condition(Health.STOPPED, found.reason)
        return found

    def _url(self, resource: run_v2.Instance) -> str:
        return resource.urls[0]

    async def _create(self, resource_id: str, wanted: run_v2.Instance) -> "AsyncOperation":
        request = run_v2.CreateInstanceRequest(parent=self._settings.parent, instance_id=resource_id, instance=wanted)
        return await self._client().create_instance(request, **self._wait)

    async def _get(self, path: str) -> run_v2.Instance:
        return await self._client().get_instance(name=path, **self._wait)

    async def _list(self) -> AsyncIterable[run_v2.Instance]:
        return await self._client().list_instances(parent=self._settings.parent, **self._wait)

    async def _stop(self, path: str) -> "AsyncOperation":
        return await self._client().stop_instance(name=path, **self._wait)

    async def _delete(self, path: str) -> "AsyncOperation":
        return await self._client().delete_instance(name=path, **self._wait)
