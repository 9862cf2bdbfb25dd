"""`python -m infra.emulators`: how it starts, what it refuses, what it leaves; with real sandboxes and agents."""

import asyncio
import base64
import json
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import jwt
import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.api_core import exceptions
from google.cloud import firestore, run_v2, tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from tests.contract.cloud_run_rig import PARENT
from tests.contract.emulators_process import Folders, Process, Running, emulators, end, services_client, start

NAME = f"{PARENT}/services/ws-one"
KEY = Ed25519PrivateKey.generate()
State = run_v2.Condition.State


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    with tempfile.TemporaryDirectory(prefix="emu-") as sockets:
        yield Folders(tmp_path / "state", Path(sockets), tmp_path / "buckets")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One process for the tests that leave it as they found it."""
    path = tmp_path_factory.mktemp("emulators")
    with (
        tempfile.TemporaryDirectory(prefix="emu-") as sockets,
        emulators(Folders(path / "state", Path(sockets), path / "buckets"), "--firestore") as running,
    ):
        yield running


async def test_one_port_serves_the_apis_and_another_the_keys_of_tokens(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with services_client(running.grpc) as services:
        assert [service async for service in await services.list_services(parent=PARENT)] == []
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        tasks = tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
        assert [queue async for queue in await tasks.list_queues(parent=PARENT)] == []
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", running.grpc)
    document = firestore.AsyncClient(project="onmemos-local").document("sessions/one")
    await document.set({"status": "running"})
    assert (await document.get()).to_dict() == {"status": "running"}
    async with httpx.AsyncClient(base_url=f"http://{running.http}") as http:
        keys = (await http.get("/oauth2/v3/certs")).json()["keys"]
        assert keys[0]["kty"] == "RSA"
        assert (await http.get("/health")).json() == {"status": "ok"}


@pytest.mark.parametrize("option", ["--grpc-port", "--http-port", "--workstations-port"])
def test_a_taken_port_is_named_with_its_option_in_one_line(folders: Folders, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = end(start(folders, option, str(port)))

    assert code == 2
    assert len(errors.splitlines()) == 1
    assert f"port {port} ({option})" in errors


def test_where_nothing_can_be_isolated_it_says_so_in_one_line(folders: Folders) -> None:
    process = start(folders, "--sandbox", "docker", PATH="/nowhere", DOCKER_HOST="unix:///nowhere/docker.sock")

    code, errors = end(process)

    assert code == 3
    assert len(errors.splitlines()) == 1
    assert "docker" in errors.lower()


async def test_a_service_is_a_sandbox_in_which_commands_run(running: Running) -> None:
    (running.folders.buckets / "bucket-one").mkdir(parents=True)
    async with services_client(running.grpc) as services:
        service = await create(services)

        assert service.uri == "http://localhost:8080/run/ws-one"
        assert service.annotations["onmemos.dev/isolation"] in {"bubblewrap", "gvisor", "docker"}
        answer = await execute(running.folders, "echo $WORKSPACE_ID; echo kept > /workspace/f; echo seen > /bucket/g")
        assert answer["stdout"] == "ws-one\n"
        assert answer["success"], answer
        assert (running.folders.buckets / "bucket-one" / "g").read_text() == "seen\n"

        sandbox = children(running.process)
        assert sandbox
        await delete(services)
        assert not alive(sandbox)
        assert not [path for path in running.folders.state.rglob("*") if "ws-one" in path.name]
        assert not list(running.folders.sockets.rglob("*.sock"))


async def test_a_killed_container_comes_back_with_its_workspace(running: Running) -> None:
    async with services_client(running.grpc) as services:
        await create(services, bucket=None)
        await execute(running.folders, "echo kept > /workspace/f")
        boot_id = (await health(running.folders))["boot_id"]

        for process in children(running.process):
            process.kill()

        await until_another_boot(services, running.folders, boot_id)
        assert (await execute(running.folders, "cat /workspace/f"))["stdout"] == "kept\n"
        await delete(services)


async def test_an_agent_without_its_settings_is_a_container_that_does_not_start(running: Running) -> None:
    async with services_client(running.grpc) as services:
        operation = await services.create_service(
            parent=PARENT, service_id="ws-one", service=a_session(None, ONMEMOS_TICKET_KEYS="nonsense")
        )

        assert operation.operation.done
        with pytest.raises(exceptions.GoogleAPICallError, match="ONMEMOS_TICKET_KEYS"):
            await operation.result()
        await delete(services)


async def test_services_and_their_work_survive_the_end_of_the_process(folders: Folders) -> None:
    with emulators(folders) as running:
        async with services_client(running.grpc) as services:
            await create(services, bucket=None)
            await execute(folders, "echo kept > /workspace/f")
        sandbox = children(running.process)
        running.process.send_signal(signal.SIGTERM)
    assert not alive(sandbox)

    with emulators(folders) as running:
        async with services_client(running.grpc) as services:
            await until_ready(services)
            assert (await execute(folders, "cat /workspace/f"))["stdout"] == "kept\n"


def children(process: Process) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


async def delete(services: run_v2.ServicesAsyncClient) -> None:
    operation = await services.delete_service(name=NAME)
    assert operation.operation.done
    await operation.result()


async def create(services: run_v2.ServicesAsyncClient, bucket: str | None = "bucket-one") -> run_v2.Service:
    operation = await services.create_service(parent=PARENT, service_id="ws-one", service=a_session(bucket))
    assert operation.operation.done
    service: run_v2.Service = await operation.result()
    return service


def a_session(bucket: str | None, **env: str) -> run_v2.Service:
    public = KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
    jwks = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1", "alg": "EdDSA", "use": "sig"}]}
    env = {"WORKSPACE_ID": "ws-one", "ONMEMOS_TICKET_KEYS": json.dumps(jwks), **env}
    return run_v2.Service(
        {
            "template": {
                "containers": [
                    {
                        "image": "us-docker.pkg.dev/onmemos/agent/python:3",
                        "env": [{"name": name, "value": value} for name, value in env.items()],
                        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                        "volume_mounts": [{"name": "files", "mount_path": "/bucket"}] if bucket else [],
                        "startup_probe": {"http_get": {"path": "/health"}, "period_seconds": 1},
                    }
                ],
                "volumes": [{"name": "files", "gcs": {"bucket": bucket}}] if bucket else [],
                "scaling": {"min_instance_count": 1, "max_instance_count": 1},
            }
        }
    )


def agent(folders: Folders) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(folders.sockets / "ws-one" / "agent.sock"))
    return httpx.AsyncClient(transport=transport, base_url="http://agent", timeout=10)


async def execute(folders: Folders, command: str) -> dict[str, Any]:
    now = int(time.time())
    claims = {"iss": "onmemos", "aud": "ws-one", "sub": "test", "iat": now, "exp": now + 60, "jti": uuid.uuid4().hex}
    ticket = jwt.encode(claims, KEY, algorithm="EdDSA", headers={"kid": "k1"})
    async with agent(folders) as client:
        response = await client.post(
            "/v1/execute", json={"command": command}, headers={"Authorization": f"Bearer {ticket}"}
        )
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def health(folders: Folders) -> dict[str, str]:
    async with agent(folders) as client:
        answer: dict[str, str] = (await client.get("/health")).json()
        return answer


async def until_ready(services: run_v2.ServicesAsyncClient) -> None:
    for _ in range(500):
        service = await services.get_service(name=NAME)
        if service.terminal_condition.state == State.CONDITION_SUCCEEDED:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not ready: {service.terminal_condition}")


async def until_another_boot(services: run_v2.ServicesAsyncClient, folders: Folders, boot_id: str) -> None:
    """Until the service is ready with another life of its agent."""
    for _ in range(500):
        await until_ready(services)
        try:
            if (await health(folders))["boot_id"] != boot_id:
                return
        except httpx.HTTPError:
            pass
        await asyncio.sleep(0.02)
    raise AssertionError("the agent was not started again")
