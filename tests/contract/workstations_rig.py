"""Cloud Workstations' emulator with its real client and its front door, over sandboxes that are only a socket each."""

import datetime
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from google.cloud import workstations_v1
from google.cloud.workstations_v1.services.workstations.transports import WorkstationsGrpcAsyncIOTransport

from infra.emulators.jwks import HttpServer
from infra.emulators.operations import Operations
from infra.emulators.workstations.front import SERVER, Front
from infra.emulators.workstations.service import Workstations
from tests.contract.cloud_run_rig import SocketRuntime

LOCATION = "projects/onmemos-local/locations/us-central1"
CLUSTER = f"{LOCATION}/workstationClusters/onmemos"
CONFIG = f"{CLUSTER}/workstationConfigs/onmemos-python"
State: Any = workstations_v1.Workstation.State


@dataclass
class WallClock:
    """The time of day, and what tests add to it: gRPC's own deadlines go on."""

    ahead: datetime.timedelta = field(default_factory=datetime.timedelta)

    def __call__(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + self.ahead

    def advance(self, **delta: float) -> None:
        self.ahead += datetime.timedelta(**delta)


@dataclass(frozen=True, slots=True)
class Rig:
    """`url` is the front door's, with {host} and {port}, as the provider's setting holds it."""

    client: workstations_v1.WorkstationsAsyncClient
    emulator: Workstations
    runtime: SocketRuntime
    clock: WallClock
    url: str
    address: str
    folder: Path

    async def group(self, config: str = CONFIG, **fields: Any) -> None:
        """Make a config, and its cluster if need be."""
        cluster, _, config_id = config.rpartition("/workstationConfigs/")
        location, _, cluster_id = cluster.rpartition("/workstationClusters/")
        if cluster not in self.emulator.fleet.clusters:
            operation = await self.client.create_workstation_cluster(
                parent=location,
                workstation_cluster_id=cluster_id,
                workstation_cluster=workstations_v1.WorkstationCluster(),
            )
            await operation.result(timeout=5)
        operation = await self.client.create_workstation_config(
            parent=cluster, workstation_config_id=config_id, workstation_config=a_config(**fields)
        )
        await operation.result(timeout=5)

    async def create(self, workstation_id: str, config: str = CONFIG, **fields: Any) -> workstations_v1.Workstation:
        operation = await self.client.create_workstation(
            parent=config, workstation_id=workstation_id, workstation=workstations_v1.Workstation(**fields)
        )
        made: workstations_v1.Workstation = await operation.result(timeout=5)
        return made

    async def start(self, name: str) -> workstations_v1.Workstation:
        operation = await self.client.start_workstation(name=name)
        started: workstations_v1.Workstation = await operation.result(timeout=5)
        return started

    async def stop(self, name: str) -> workstations_v1.Workstation:
        operation = await self.client.stop_workstation(name=name)
        stopped: workstations_v1.Workstation = await operation.result(timeout=5)
        return stopped

    async def delete(self, name: str) -> None:
        operation = await self.client.delete_workstation(name=name)
        await operation.result(timeout=5)

    async def state(self, name: str) -> Any:
        return (await self.client.get_workstation(name=name)).state

    async def token(self, name: str, **more: Any) -> str:
        request = workstations_v1.GenerateAccessTokenRequest(workstation=name, **more)
        return str((await self.client.generate_access_token(request)).access_token)

    def disks(self) -> list[Path]:
        """The persistent directories on the host."""
        return list((self.folder / "state" / "workstations" / "disks").glob("*"))

    def at(self, workstation: workstations_v1.Workstation, path: str = "/health", port: int = 8080) -> str:
        return self.url.format(host=workstation.host, port=port) + path


@asynccontextmanager
async def workstations(
    folder: Path, sockets: Path, clock: WallClock | None = None, runtime: Any = None, **settings: Any
) -> AsyncIterator[Rig]:
    """The emulator on ports of its own; `folder` keeps its state, so opening it again is a restart."""
    clock = clock or WallClock()
    runtime = runtime or SocketRuntime(sockets)
    operations = Operations(answer_within_s=settings.pop("answer_within_s", 8))
    emulator = Workstations(
        folder / "state" / "workstations.sqlite", runtime=runtime, operations=operations, clock=clock, **settings
    )
    listener = socket.create_server(("127.0.0.1", 0))
    async with operations, emulator:
        front = Front(emulator, sockets)
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        server.add_generic_rpc_handlers([*operations.handlers(), *emulator.handlers()])
        await server.start()
        address = f"127.0.0.1:{port}"
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/{{host}}/{{port}}"
        try:
            async with HttpServer(front, listener, **SERVER), grpc.aio.insecure_channel(address) as channel:
                client = workstations_v1.WorkstationsAsyncClient(
                    transport=WorkstationsGrpcAsyncIOTransport(channel=channel)
                )
                yield Rig(client, emulator, runtime, clock, url, address, folder)
        finally:
            await front.close()
            await server.stop(None)


def a_config(**fields: Any) -> workstations_v1.WorkstationConfig:
    """A config as the local stack makes one; `command` is SocketContainer's."""
    container = {"image": "onmemos/workspace-python:local", "command": list(fields.pop("command", ()))}
    disk = {"size_gb": 10, "disk_type": "pd-balanced", "reclaim_policy": "DELETE"}
    return workstations_v1.WorkstationConfig(
        {
            "container": {**container, **fields.pop("container", {})},
            "host": {"gce_instance": {"machine_type": "e2-standard-2"}},
            "persistent_directories": [{"mount_path": "/workspace", "gce_pd": disk}],
            "readiness_checks": [{"path": "/health", "port": 8080}],
            **fields,
        }
    )
