"""What happens to sessions over time: restarts, faults, and what is left when they are gone."""

import asyncio
import concurrent.futures
import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import grpc.aio
import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import run_v2
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport
from google.cloud.storage import Client as Storage

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from tests.e2e.remains import Remains, is_gone, processes_of, until

ROOT = Path(__file__).parents[2]
CYCLES, CLIENTS = 200, 8


@pytest.fixture
def mark() -> str:
    return f"m{uuid.uuid4().hex[:8]}"


def test_many_cycles_by_many_clients_leave_nothing_behind(stack: Stack, mark: str) -> None:
    def cycle(number: int) -> None:
        with OnMemOSClient(stack.base_url, stack.api_key) as client:
            session = client.create_session({"namespace": mark, "user": "dev"}, wait=60)
            assert session["status"] == "running"
            assert client.execute_session(session["id"], f"echo {number} > f; cat f")["stdout"] == f"{number}\n"
            client.delete_session(session["id"])
            assert is_gone(client, session["id"])

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(cycle, range(CYCLES)))
    remains = Remains(stack, mark)
    until(lambda: not remains.found(), f"nothing left of {mark}")


def test_a_workspace_that_dies_comes_back_with_its_files_and_says_so(stack: Stack, mark: str) -> None:
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        session = client.create_session({"namespace": mark, "user": "dev"})
        assert session["details"]["boots"] == 1
        client.execute_session(session["id"], "echo kept > note")
        dying = processes_of(session["id"])
        assert dying
        for process in dying:  # as an out-of-memory kill of the machine would
            process.kill()
        until(lambda: client.get_session(session["id"])["details"]["boots"] > 1, "the restart is seen")
        assert client.get_session(session["id"])["status"] == "running"
        assert client.execute_session(session["id"], "cat note")["stdout"] == "kept\n"
        client.delete_session(session["id"])


def test_a_service_that_was_deleted_outside_is_a_failed_session(stack: Stack, mark: str) -> None:
    async def delete_service(name: str) -> None:
        async with grpc.aio.insecure_channel(stack.environment["CLOUD_RUN_EMULATOR_HOST"]) as channel:
            client = run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel))
            await (await client.delete_service(name=name)).result()

    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        session = client.create_session({"namespace": mark, "user": "dev"})
        env = stack.environment
        where = f"projects/{env['GOOGLE_CLOUD_PROJECT']}/locations/{env['ONMEMOS_LOCATION']}/services"
        asyncio.run(delete_service(f"{where}/{session['details']['service_name']}"))
        seen = client.get_session(session["id"])
        assert seen["status"] == "failed"
        assert "lost" in str(seen["error"])
        client.delete_session(session["id"])


def test_reconcile_removes_what_has_no_session_and_nothing_else(stack: Stack, mark: str) -> None:
    def reconcile(*flags: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "infra.reconcile", *flags],
            cwd=ROOT, env={**os.environ, **stack.environment}, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout

    options = {"api_endpoint": stack.environment["STORAGE_EMULATOR_HOST"]}
    project = stack.environment["GOOGLE_CLOUD_PROJECT"]
    storage = Storage(project, credentials=AnonymousCredentials(), client_options=options)
    orphan, foreign = f"onmemos-{mark}-dev-1756062811", f"backups-{mark}"
    storage.create_bucket(orphan)
    storage.create_bucket(foreign)
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        session = client.create_session({"namespace": mark, "user": "dev"})
        planned = reconcile("--dry-run")
        assert f"would delete bucket: ws-{mark}-dev-1756062811" in planned
        assert session["id"] not in planned
        assert storage.lookup_bucket(orphan)
        assert f"delete bucket: ws-{mark}-dev-1756062811" in reconcile()
        assert storage.lookup_bucket(orphan) is None
        assert storage.lookup_bucket(foreign)
        assert client.execute_session(session["id"], "echo alive")["stdout"] == "alive\n"
        client.delete_session(session["id"])
    storage.bucket(foreign).delete()


@pytest.mark.parametrize("function", ["create_session", "health"])
def test_each_function_also_runs_alone(stack: Stack, mark: str, function: str) -> None:
    framework = Path(sys.executable).with_name("functions-framework")
    port = free_port()
    command = [str(framework), "--asgi", "--target", function, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **stack.environment})
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url), f"{function} answers")
        if function == "health":
            assert httpx.get(f"{url}/health").json()["status"] == "healthy"
            assert httpx.get(f"{url}/elsewhere").json()["code"] == "route_not_found"
            return
        body = {"namespace": mark, "user": "alone"}
        answer = httpx.post(f"{url}/v1/sessions", json=body, headers={"X-API-Key": stack.api_key}, timeout=60)
        assert answer.status_code == 201, answer.text
        with OnMemOSClient(stack.base_url, stack.api_key) as client:
            client.delete_session(answer.json()["id"])
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=1)
    except httpx.TransportError:
        return False
    return True
