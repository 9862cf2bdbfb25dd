"""What happens to sessions over time: restarts, expiry, other tenants, faults, and what is left when they are gone."""

import asyncio
import concurrent.futures
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import grpc.aio
import httpx
import psutil
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import run_v2, tasks_v2
from google.cloud.firestore_v1 import Client as Firestore
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport
from google.cloud.storage import Client as Storage
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from sdk.python.client import OnMemOSClient
from sdk.python.errors import NotFound
from shared.keys import digest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
CYCLES, CLIENTS = 200, 8


class Stack(Protocol):
    """What the fixture gives."""

    base_url: str
    api_key: str
    home: Path
    environment: dict[str, str]


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> float:
    """Ask until it is so; how long it took. Bounded, with growing pauses."""
    began, pause = time.monotonic(), 0.005
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"{what}: not after {seconds:g} s"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)
    return time.monotonic() - began


def is_gone(client: OnMemOSClient, session_id: str) -> bool:
    try:
        client.get_session(session_id)
    except NotFound:
        return True
    return False


class Remains:
    """Everything that sessions leave behind, asked of the emulators by Google's own clients."""

    def __init__(self, stack: Stack, mark: str) -> None:
        self._env, self._home, self._mark = stack.environment, stack.home, mark
        self._project = self._env["GOOGLE_CLOUD_PROJECT"]
        self._parent = f"projects/{self._project}/locations/{self._env['ONMEMOS_LOCATION']}"

    def found(self) -> dict[str, list[str]]:
        """What carries the mark, by kind; an empty dictionary when nothing does."""
        everything = {
            "documents": self._documents(),
            "buckets": self._buckets(),
            "services": asyncio.run(self._services()),
            "tasks": asyncio.run(self._tasks()),
            "folders": [name for _, names, _ in os.walk(self._home) for name in names if self._mark in name],
            "processes": self._processes(),
        }
        return {kind: names for kind, names in everything.items() if names}

    def _documents(self) -> list[str]:
        os.environ["FIRESTORE_EMULATOR_HOST"] = self._env["FIRESTORE_EMULATOR_HOST"]
        firestore = Firestore(project=self._project, credentials=AnonymousCredentials())
        return [one.id for one in firestore.collection("sessions").list_documents() if self._mark in one.id]

    def _buckets(self) -> list[str]:
        options = {"api_endpoint": self._env["STORAGE_EMULATOR_HOST"]}
        storage = Storage(self._project, credentials=AnonymousCredentials(), client_options=options)
        return [bucket.name for bucket in storage.list_buckets() if self._mark in str(bucket.name)]

    async def _services(self) -> list[str]:
        async with grpc.aio.insecure_channel(self._env["CLOUD_RUN_EMULATOR_HOST"]) as channel:
            client = run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel))
            services = await client.list_services(parent=self._parent)
            return [service.name async for service in services if self._mark in service.name]

    async def _tasks(self) -> list[str]:
        async with grpc.aio.insecure_channel(self._env["CLOUD_TASKS_EMULATOR_HOST"]) as channel:
            client = tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
            queues = [queue.name async for queue in await client.list_queues(parent=self._parent)]
            found = [task.name for queue in queues async for task in await client.list_tasks(parent=queue)]
            return [name for name in found if self._mark in name]

    def _processes(self) -> list[str]:
        return [" ".join(process.info["cmdline"]) for process in processes_of(self._mark)]


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


def processes_of(mark: str) -> list[psutil.Process]:
    """The processes in whose session's name, or in whose command line, the mark stands."""
    return [
        process
        for process in psutil.process_iter(["pid", "cmdline", "environ"])
        if process.pid != os.getpid()
        and (
            mark in " ".join(process.info["cmdline"] or [])
            or mark in (process.info["environ"] or {}).get("WORKSPACE_ID", "")
        )
    ]


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


def test_at_expiry_the_session_and_all_of_it_go_within_five_seconds(stack: Stack, mark: str) -> None:
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        session = client.create_session({"namespace": mark, "user": "dev", "ttl_minutes": 1})
        expires_at = datetime.fromisoformat(session["expires_at"])
        remains = Remains(stack, mark)
        until(lambda: not remains.found(), "the session is gone", 90)
        assert (datetime.now(UTC) - expires_at).total_seconds() < 5
        assert is_gone(client, session["id"])


def test_another_tenant_cannot_tell_that_a_session_exists(stack: Stack, mark: str) -> None:
    os.environ["FIRESTORE_EMULATOR_HOST"] = stack.environment["FIRESTORE_EMULATOR_HOST"]
    firestore = Firestore(project=stack.environment["GOOGLE_CLOUD_PROJECT"], credentials=AnonymousCredentials())
    firestore.collection("keys").document(digest(mark)).set({"tenant": mark, "name": "x", "scopes": ["sessions"]})
    with (
        OnMemOSClient(stack.base_url, stack.api_key) as mine,
        OnMemOSClient(stack.base_url, mark) as theirs,
    ):
        session = mine.create_session({"namespace": mark, "user": "dev"}, wait=0)
        calls: list[Callable[[], Any]] = [
            lambda: theirs.get_session(session["id"]),
            lambda: theirs.execute_session(session["id"], "id"),
            lambda: theirs.delete_session(session["id"]),
        ]
        for call in calls:
            with pytest.raises(NotFound, match="Session not found"):
                call()
        assert list(theirs.iter_sessions(namespace=mark)) == []
        mine.delete_session(session["id"])


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
