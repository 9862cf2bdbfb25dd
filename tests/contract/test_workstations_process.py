"""Workstations of `python -m infra.emulators`: real sandboxes behind the front door, and what outlives their stops."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import httpx
import pytest
from google.cloud import workstations_v1
from google.cloud.workstations_v1.services.workstations.transports import WorkstationsGrpcAsyncIOTransport

from tests.contract.emulators_process import Folders, emulators
from tests.contract.workstations_rig import CLUSTER, CONFIG, LOCATION, State, a_config

PORT = 3000
# Each start leaves a line on the disk, and says what it found in /tmp; then both are served.
SCRIPT = f"""
ls /tmp > /workspace/found
touch /tmp/left
echo started >> /workspace/starts
exec python3 -m http.server {PORT} --bind 127.0.0.1
"""
ATTEMPTS = 200  # of some 20 ms


@pytest.fixture
async def folders(tmp_path: Path) -> AsyncIterator[Folders]:
    with tempfile.TemporaryDirectory(prefix="emu-") as sockets:
        yield Folders(tmp_path / "state", Path(sockets), tmp_path / "buckets")


def connected(channel: grpc.aio.Channel) -> workstations_v1.WorkstationsAsyncClient:
    return workstations_v1.WorkstationsAsyncClient(transport=WorkstationsGrpcAsyncIOTransport(channel=channel))


async def served(address: str, client: workstations_v1.WorkstationsAsyncClient, name: str, path: str) -> str:
    """What the workstation's own server answers, as soon as it does."""
    host = (await client.get_workstation(name=name)).host
    token = (await client.generate_access_token(workstation=name)).access_token
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
        for _ in range(ATTEMPTS):
            answer = await http.get(f"http://{address}/{host}/{PORT}/{path}")
            if answer.status_code == 200:
                return answer.text
            assert answer.status_code in {502, 503}, answer.text  # it is starting, or nothing listens yet
        raise AssertionError(answer.text)


async def test_a_workstations_disk_outlives_stops_and_restarts_and_the_rest_of_its_files_does_not(
    folders: Folders,
) -> None:
    name = f"{CONFIG}/workstations/one"
    with emulators(folders) as running:
        async with grpc.aio.insecure_channel(running.grpc) as channel:
            client = connected(channel)
            await client.create_workstation_cluster(
                parent=LOCATION,
                workstation_cluster_id="onmemos",
                workstation_cluster=workstations_v1.WorkstationCluster(),
            )
            await client.create_workstation_config(
                parent=CLUSTER,
                workstation_config_id="onmemos-python",
                workstation_config=a_config(command=("/bin/sh", "-c", SCRIPT), readiness_checks=[]),
            )
            await client.create_workstation(
                parent=CONFIG, workstation_id="one", workstation=workstations_v1.Workstation()
            )
            for _ in range(2):
                await (await client.start_workstation(name=name)).result(timeout=20)
                assert await served(running.workstations, client, name, "found") == ""
                await (await client.stop_workstation(name=name)).result(timeout=20)
            await (await client.start_workstation(name=name)).result(timeout=20)
            assert await served(running.workstations, client, name, "starts") == "started\n" * 3
    with emulators(folders) as running:
        async with grpc.aio.insecure_channel(running.grpc) as channel:
            client = connected(channel)
            assert await served(running.workstations, client, name, "starts") == "started\n" * 4
            assert (await client.get_workstation(name=name)).state == State.STATE_RUNNING
            await (await client.delete_workstation(name=name)).result(timeout=20)
    assert list((folders.state / "workstations" / "disks").iterdir()) == []
