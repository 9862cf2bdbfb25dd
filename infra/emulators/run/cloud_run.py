"""Cloud Run as a whole: services, instances and jobs with what they hold, over one file and one runtime."""

import datetime
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from infra.emulators.operations import Operations
from infra.emulators.run.answers import Answers
from infra.emulators.run.batch import EXECUTIONS_KEPT, GRACE_S, Batch
from infra.emulators.run.container_names import ContainerNames
from infra.emulators.run.executions import Executions
from infra.emulators.run.fleet import Fleet
from infra.emulators.run.instance_fleet import InstanceFleet
from infra.emulators.run.instances import Instances
from infra.emulators.run.jobs import Jobs
from infra.emulators.run.revisions import Revisions
from infra.emulators.run.service import Services
from infra.emulators.run.specs import Folders
from infra.emulators.run.storage import Storage
from infra.sandbox.spec import Runtime

SERVICES_PER_REGION = 1000  # of a project: cloud.google.com/run/quotas
INSTANCES_PER_REGION = 1000
JOBS_PER_REGION = 1000


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class CloudRun:
    """Its state is the SQLite file at `path`, and survives a restart.

    What serves is reached at `<gateway_url>/run/<container>`. `buckets` is the folder whose subfolders are buckets;
    what NFS servers export is in `filestore`/<server>/<path> beside the SQLite file.
    """

    def __init__(
        self,
        path: Path,
        *,
        runtime: Runtime,
        operations: Operations,
        buckets: Path,
        gateway_url: str,
        services_per_region: int = SERVICES_PER_REGION,
        instances_per_region: int = INSTANCES_PER_REGION,
        jobs_per_region: int = JOBS_PER_REGION,
        task_grace_s: float = GRACE_S,
        executions_kept: int = EXECUTIONS_KEPT,
        clock: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        folders = Folders(buckets, path.parent / "filestore", path.parent / "volumes")
        names = ContainerNames()
        answers = Answers(operations)
        urls = f"{gateway_url.rstrip('/')}/run"
        self._storage = Storage(path)
        self._fleet = Fleet(self._storage, runtime, folders, names, clock)
        services = Services(self._fleet, answers, names, urls=urls, quota=services_per_region, clock=clock)
        self._instances = InstanceFleet(self._storage, runtime, folders, names, clock)
        instances = Instances(self._instances, answers, names, urls=urls, quota=instances_per_region, clock=clock)
        self._batch = Batch(
            self._storage, runtime, folders, clock, grace_s=task_grace_s, executions_kept=executions_kept
        )
        jobs = Jobs(self._batch, answers, quota=jobs_per_region, clock=clock)
        executions = Executions(self._batch, answers, clock=clock)
        self._handlers = [
            *services.handlers(),
            *Revisions(self._fleet).handlers(),
            *instances.handlers(),
            *jobs.handlers(),
            *executions.handlers(),
        ]
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._storage)
            await opening.enter_async_context(self._fleet)
            await opening.enter_async_context(self._instances)
            await opening.enter_async_context(self._batch)
            self._opened = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        return self._handlers
