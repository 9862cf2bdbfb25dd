"""Cloud Run as a whole: services, instances and jobs with what they hold, over one file and one runtime."""

import datetime
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from infra.emulators.operations import Operations
from infra.emulators.run.answers import Answers
from infra.emulators.run.batch import EXECUTIONS_KEPT, GRACE_S, Batch
from infra.emulators.run.executions import Executions
from infra.emulators.run.fleet import Fleet
from infra.emulators.run.ground import Ground, utc_now
from infra.emulators.run.instance_fleet import InstanceFleet
from infra.emulators.run.instances import Instances
from infra.emulators.run.jobs import Jobs
from infra.emulators.run.opened import Opened
from infra.emulators.run.revisions import Revisions
from infra.emulators.run.service import Services
from infra.emulators.run.specs import Folders
from infra.emulators.run.storage import Storage
from infra.sandbox.spec import Runtime

SERVICES_PER_REGION = 1000  # of a project: cloud.google.com/run/quotas
INSTANCES_PER_REGION = 1000
JOBS_PER_REGION = 1000


class CloudRun(Opened):
    """Its state is the SQLite file at `path`, and survives a restart.

    What serves is reached at `<gateway_url>/run/<container>`. `buckets` is the folder whose subfolders are buckets;
    what NFS servers export is in `filestore`/<server>/<path> beside the SQLite file. `task_grace_s` is what a task has
    between TERM and KILL.
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
        ground = Ground(Storage(path), runtime, folders, clock)
        fleet, instances = Fleet(ground), InstanceFleet(ground)
        batch = Batch(ground, grace_s=task_grace_s, executions_kept=executions_kept)
        answers = Answers(operations)
        urls = f"{gateway_url.rstrip('/')}/run"
        self._kept = (ground.storage, fleet, instances, batch)
        self._handlers = [
            *Services(fleet, answers, ground, urls=urls, quota=services_per_region).handlers(),
            *Revisions(fleet).handlers(),
            *Instances(instances, answers, ground, urls=urls, quota=instances_per_region).handlers(),
            *Jobs(batch, answers, quota=jobs_per_region, clock=clock).handlers(),
            *Executions(batch, answers, clock=clock).handlers(),
        ]

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        return self._handlers

    async def _open(self, opening: AsyncExitStack) -> None:
        for kept in self._kept:
            await opening.enter_async_context(kept)
