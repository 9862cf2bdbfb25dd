"""Workspaces on Cloud Run: a service each, or an instance each, as the deployment has it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.errors import InvalidRequest, WorkspaceUnreachable
from shared.models import ProviderName, Session
from shared.prices import INSTANCE_SHARE
from shared.providers.base import Access, Address, Condition, Health, Wanted, Workspace
from shared.providers.cloud_run_api import PATIENCE_S, CloudRunSettings, Mode

if TYPE_CHECKING:
    from google.cloud import run_v2

    from shared.providers.cloud_run_kind import Kind

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

    Cloud Run's client, which takes 0.1 s and 6 MB to load, is loaded by what changes or looks at workspaces alone.

    New workspaces are of the settings' mode. Those of the other one, from before the mode was changed, are found,
    stopped and deleted too.
    """

    name = ProviderName.CLOUD_RUN
    ssh = False

    def __init__(
        self,
        services: "Callable[[], run_v2.ServicesAsyncClient]",
        instances: "Callable[[], run_v2.InstancesAsyncClient]",
        settings: CloudRunSettings,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._services = services
        self._instances = instances
        self._settings = settings
        self._patience_s = patience_s
        self.price_share = INSTANCE_SHARE if settings.mode is Mode.INSTANCE else 1.0

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
        return await self._kinds[0].create(session, env, bucket)

    async def stop(self, session_id: str) -> None:
        await _all(kind.stop(session_id) for kind in self._kinds)

    async def inspect(self, session_id: str) -> Condition:
        wanted, former = self._kinds
        condition = await wanted.inspect(session_id)
        if condition.health is not Health.GONE:
            return condition
        found = await former.inspect(session_id)
        return condition if found.health is Health.GONE else found

    async def delete(self, session_id: str) -> None:
        await _all(kind.delete(session_id) for kind in self._kinds)

    async def session_ids(self) -> AsyncIterator[str]:
        seen = set()
        for kind in self._kinds:
            async for session_id in kind.session_ids():
                if session_id not in seen:
                    seen.add(session_id)
                    yield session_id

    @cached_property
    def _kinds(self) -> "tuple[Kind[Any], Kind[Any]]":
        """The kind of new workspaces, and the other one."""
        from shared.providers.cloud_run_instances import Instances
        from shared.providers.cloud_run_services import Services

        services = Services(self._services, self._settings, self._patience_s)
        instances = Instances(self._instances, self._settings, self._patience_s)
        return (instances, services) if self._settings.mode is Mode.INSTANCE else (services, instances)


async def _all(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Side by side, each to its end; what one of them raises is raised afterwards."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
