"""The providers under contract: each against its emulator, and the fake of the use cases beside them."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.providers.base import Provider
from shared.providers.cloud_run import CloudRun, CloudRunSettings
from tests.contract.cloud_run_rig import Rig, cloud_run
from tests.fakes import MemoryProvider

SETTINGS = CloudRunSettings(
    project="onmemos-local",
    location="us-central1",
    closed_subnetwork="projects/onmemos-local/regions/us-central1/subnetworks/closed",
    filestore_subnetwork="projects/onmemos-local/regions/us-central1/subnetworks/filestore",
)


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


@pytest.fixture(params=["memory", "cloud_run"])
async def stand(request: pytest.FixtureRequest, rig: Rig) -> AsyncIterator[Stand]:
    if request.param == "memory":
        fake = MemoryProvider()
        yield Stand(fake, lambda: not fake.made, rig.buckets)
    else:
        yield Stand(CloudRun(lambda: rig.services, SETTINGS), lambda: not rig.runtime.running(), rig.buckets)
