"""Workspaces on Cloud Run: a service each, or an instance each, as the deployment has it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from google.cloud import run_v2

from shared.errors import InvalidRequest, WorkspaceUnreachable
from shared.models import ProviderName, Session
from shared.prices import INSTANCE_SHARE
from shared.providers.base import Access, Address, Condition, Health, Wanted, Workspace
from shared.providers.cloud_run_api import PATIENCE_S, CloudRunSettings, Mode
from shared.providers.cloud_run_instances import Instances
from shared.providers.cloud_run_kind import Kind
from shared.providers.cloud_run_services import Services

GIB = 1 << 30
# vCPU -> (least, most) memory: cloud.google.com/run/docs/configuring/services/memory-limits; below one vCPU Cloud Run
# allows a single request at a time, which a workspace cannot live with; 512 MiB is the second generation's least.
# The same for instances: cloud.google.com/run/docs/configuring/instances/cpu.
MEMORY_RANGE = {
    1: (GIB // 2, 4 * GIB),
    2: (GIB // 2, 8 * GIB),
    4: (2 * GIB, 16 * GIB),
    6: (4 * GIB, 24 * GIB),
    8: (4 * GIB, 32 * GIB),
}


class CloudRun:
    """The Provider on Cloud Run's v2 API. The clients are opened on the first call and are the caller's to close.

    New workspaces are of the settings' mode. Those of the other one, from before the mode was changed, are found,
    stopped and deleted too.
    """

    name = ProviderName.CLOUD_RUN
    ssh = False

    def __init__(
        self,
        services: Callable[[], run_v2.ServicesAsyncClient],
        instances: Callable[[], run_v2.InstancesAsyncClient],
        settings: CloudRunSettings,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._settings = settings
        self.price_share = INSTANCE_SHARE if settings.mode is Mode.INSTANCE else 1.0
        kinds: list[Kind[Any]] = [
            Services(services, settings, patience_s),
            Instances(instances, settings, patience_s),
        ]
        self._kind, self._former = sorted(kinds, key=lambda kind: kind.mode is not settings.mode)

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
        return False  # the file system of either kind is memory

    async def create(self, session: Session, env: dict[str, str], bucket: str) -> Workspace:
        return await self._kind.create(session, env, bucket)

    async def stop(self, session_id: str) -> None:
        await _both(self._kind.stop(session_id), self._former.stop(session_id))

    async def inspect(self, session_id: str) -> Condition:
        condition = await self._kind.inspect(session_id)
        if condition.health is not Health.GONE:
            return condition
        former = await self._former.inspect(session_id)
        return condition if former.health is Health.GONE else former

    async def delete(self, session_id: str) -> None:
        await _both(self._kind.delete(session_id), self._former.delete(session_id))

    async def session_ids(self) -> AsyncIterator[str]:
        seen = set()
        for kind in (self._kind, self._former):
            async for session_id in kind.session_ids():
                if session_id not in seen:
                    seen.add(session_id)
                    yield session_id


async def _both(*calls: Coroutine[Any, Any, None]) -> None:
    """Side by side, each to its end; what one of them raises is raised afterwards."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
