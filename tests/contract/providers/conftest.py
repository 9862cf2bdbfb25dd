"""The providers under contract: each against its emulator, and the fake of the use cases beside them."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from shared.providers.base import Provider
from shared.providers.cloud_run import CloudRun
from shared.providers.cloud_run_api import CloudRunSettings, Mode
from shared.providers.workstations import Workstations, WorkstationsSettings
from tests.contract.cloud_run_rig import Rig, cloud_run
from tests.contract.gke_rig import POOL, POOL_NAMESPACE, gke
from tests.contract.workstations_rig import CLUSTER, workstations
from tests.fakes import MemoryProvider

SETTINGS = CloudRunSettings(
    project="onmemos-local",
    location="us-central1",
    closed_subnetwork="projects/onmemos-local/regions/us-central1/subnetworks/closed",
    filestore_subnetwork="projects/onmemos-local/regions/us-central1/subnetworks/filestore",
)


def cloud_run_provider(rig: Rig, mode: Mode = Mode.SERVICE, **changes: Any) -> CloudRun:
    settings = replace(SETTINGS, mode=mode, **changes)
    return CloudRun(lambda: rig.services, lambda: rig.instances, settings)


@dataclass
class Stand:
    """A provider, and what tells whether anything of it is left."""

    provider: Provider
    is_empty: Callable[[], bool]
    buckets: Path


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    sockets = Path(tempfile.mkdtemp(prefix="om-"))  # tmp_path may be longer than a socket's path can be
    async with cloud_run(tmp_path, sockets) as rig:
        yield rig
    shutil.rmtree(sockets, ignore_errors=True)


@pytest.fixture(params=["memory", "cloud_run", "cloud_run_instance", "workstations", "gke", "gke_warm"])
async def stand(request: pytest.FixtureRequest, rig: Rig) -> AsyncIterator[Stand]:
    if request.param == "memory":
        fake = MemoryProvider()
        yield Stand(fake, lambda: not fake.made, rig.buckets)
    elif request.param in ("gke", "gke_warm"):
        warm_pool = f"{POOL_NAMESPACE}/{POOL}" if request.param == "gke_warm" else ""
        with tempfile.TemporaryDirectory(prefix="om-") as sockets:
            async with gke(rig.buckets.parent, Path(sockets), warm_pool=warm_pool) as kubernetes:
                yield Stand(kubernetes.provider, kubernetes.is_empty, rig.buckets)
    elif request.param == "workstations":
        with tempfile.TemporaryDirectory(prefix="om-") as sockets:
            async with workstations(rig.buckets.parent, Path(sockets)) as ws:
                await ws.group()
                provider = Workstations(lambda: ws.client, WorkstationsSettings(CLUSTER, "onmemos-{template}", ws.url))
                yield Stand(provider, lambda: not ws.runtime.running() and not ws.disks(), rig.buckets)
    else:
        mode = Mode.INSTANCE if request.param == "cloud_run_instance" else Mode.SERVICE
        yield Stand(cloud_run_provider(rig, mode), lambda: not rig.runtime.running(), rig.buckets)
