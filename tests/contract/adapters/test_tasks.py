"""CloudTasks against the Cloud Tasks emulator: steps arrive signed, once per name, at their time, or not any more."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
import uvicorn
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.emulators.oidc import OidcTokens
from infra.emulators.tasks import CloudTasks as Emulator
from shared.cloud_tasks import CloudTasks, CloudTasksSettings
from shared.errors import ProviderUnavailable, Unauthenticated
from shared.identity import TaskIdentity
from shared.tasks import HORIZON
from tests.fakes import a_session

ACCOUNT = "tasks@test.iam.gserviceaccount.com"
PATIENCE_S = 10.0


@dataclass
class World:
    """The emulator, the adapter, and a function host that remembers what arrived."""

    tasks: CloudTasks
    client: tasks_v2.CloudTasksAsyncClient
    url: str
    arrived: "asyncio.Queue[tuple[str, dict[str, Any], str]]" = field(default_factory=asyncio.Queue)

    async def next(self) -> tuple[str, dict[str, Any], str]:
        return await asyncio.wait_for(self.arrived.get(), PATIENCE_S)


@pytest.fixture
async def world(grpc_server: tuple[grpc.aio.Server, str], tmp_path: Path) -> AsyncIterator[World]:
    server, address = grpc_server
    tokens = OidcTokens(tmp_path / "oidc.pem")
    arrived: asyncio.Queue[tuple[str, dict[str, Any], str]] = asyncio.Queue()

    async def receive(request: Request) -> Response:
        body = await request.json()
        await arrived.put((request.path_params["function"], body, request.headers["authorization"]))
        return Response()

    async def certs(_: Request) -> Response:
        return JSONResponse(tokens.jwks())

    app = Starlette(routes=[Route("/certs", certs), Route("/{function}", receive, methods=["POST"])])
    host = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    serving = asyncio.create_task(host.serve())
    while not host.started:  # noqa: ASYNC110 - uvicorn offers no event
        await asyncio.sleep(0.005)
    url = f"http://127.0.0.1:{host.servers[0].sockets[0].getsockname()[1]}"
    async with Emulator(tmp_path / "tasks.sqlite", tokens) as emulator:
        server.add_generic_rpc_handlers(tuple(emulator.handlers()))
        await server.start()
        channel = grpc.aio.insecure_channel(address)
        client = tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
        for step in ("provision", "expire", "teardown", "suspend", "move"):
            name = f"projects/test/locations/us-central1/queues/onmemos-{step}"
            await client.create_queue(parent="projects/test/locations/us-central1", queue=tasks_v2.Queue(name=name))
        settings = CloudTasksSettings("test", "us-central1", "onmemos-{step}", url + "/{function}", ACCOUNT)
        yield World(CloudTasks(lambda: client, settings), client, url, arrived)
        await channel.close()
        await server.stop(None)
    host.should_exit = True
    await serving


async def test_a_step_arrives_at_its_function_with_the_session(world: World) -> None:
    session = a_session()
    await world.tasks.provision(session)
    function, body, _ = await world.next()
    assert (function, body) == ("provision_session", {"session_id": session.id})
    await world.tasks.teardown(session)
    assert (await world.next())[0] == "teardown_session"


@pytest.mark.parametrize(("step", "function"), [("suspend", "stop_session"), ("move", "transfer_session")])
async def test_a_turn_arrives_with_its_number_and_each_turn_is_a_task_of_its_own(
    world: World, step: str, function: str
) -> None:
    session = a_session(turn=3)
    enqueue = getattr(world.tasks, step)
    await enqueue(session)
    await enqueue(session)
    await enqueue(replace(session, turn=4))
    arrived = [(await world.next())[:2] for _ in range(2)]
    assert sorted(arrived, key=str) == [(function, {"session_id": session.id, "turn": turn}) for turn in (3, 4)]
    assert world.arrived.empty()


async def test_a_step_is_signed_by_the_account_for_its_function_alone(world: World) -> None:
    await world.tasks.provision(a_session())
    _, _, authorization = await world.next()
    async with aiohttp.ClientSession() as http:
        identity = TaskIdentity(http, f"{world.url}/certs", ACCOUNT)
        await identity.verify(authorization, f"{world.url}/provision_session")
        for wrong in (
            identity.verify(authorization, f"{world.url}/teardown_session"),
            identity.verify(authorization[:-8] + "AAAAAAAA", f"{world.url}/provision_session"),
            identity.verify("Bearer nonsense", f"{world.url}/provision_session"),
            identity.verify(None, f"{world.url}/provision_session"),
            TaskIdentity(http, f"{world.url}/certs", "other@x").verify(authorization, f"{world.url}/provision_session"),
        ):
            with pytest.raises(Unauthenticated):
                await wrong
        with pytest.raises(ProviderUnavailable):
            await TaskIdentity(http, f"{world.url}/none/such", ACCOUNT).verify(authorization, "x")


async def test_the_same_step_twice_is_one_task_and_another_attempt_is_another(world: World) -> None:
    session = a_session()
    await world.tasks.provision(session)
    await world.next()
    await world.tasks.provision(session)
    await world.tasks.provision(session, attempt="r2")
    await world.next()
    assert world.arrived.empty()


async def test_expiry_comes_when_the_time_is_up(world: World) -> None:
    now = datetime.now(UTC)
    session = a_session(created_at=now, expires_at=now + timedelta(seconds=1.2), expiry_generation=4)
    await world.tasks.expire(session, now)
    function, body, _ = await world.next()
    assert (function, body) == ("expire_session", {"session_id": session.id, "generation": 4})
    assert datetime.now(UTC) >= now + timedelta(seconds=1)


async def test_a_time_beyond_the_horizon_is_looked_at_there_first(world: World) -> None:
    now = datetime.now(UTC)
    session = a_session(created_at=now, expires_at=now + timedelta(days=70))
    await world.tasks.expire(session, now)
    queue = "projects/test/locations/us-central1/queues/onmemos-expire"
    (task,) = [task async for task in await world.client.list_tasks(parent=queue)]
    assert abs(task.schedule_time - (now + HORIZON)) < timedelta(seconds=2)
    await world.tasks.forget(session, now)
    assert [task async for task in await world.client.list_tasks(parent=queue)] == []


async def test_a_look_at_an_idle_session_comes_before_its_expiry_and_twice_at_once_is_one(world: World) -> None:
    now = datetime.now(UTC)
    session = a_session(created_at=now, expires_at=now + timedelta(hours=1))
    idle_at = now + timedelta(minutes=7)
    await world.tasks.expire(session, now, idle_at)
    await world.tasks.expire(session, now, idle_at + timedelta(microseconds=1))
    queue = "projects/test/locations/us-central1/queues/onmemos-expire"
    (task,) = [task async for task in await world.client.list_tasks(parent=queue)]
    assert timedelta(0) <= task.schedule_time - idle_at <= timedelta(seconds=10)


async def test_an_expiry_that_is_earlier_than_the_look_comes_at_its_own_time(world: World) -> None:
    now = datetime.now(UTC)
    session = a_session(created_at=now, expires_at=now + timedelta(minutes=3))
    await world.tasks.expire(session, now, now + timedelta(minutes=7))
    queue = "projects/test/locations/us-central1/queues/onmemos-expire"
    (task,) = [task async for task in await world.client.list_tasks(parent=queue)]
    assert abs(task.schedule_time - session.expires_at) < timedelta(seconds=1)


async def test_what_is_forgotten_is_not_pending_and_does_not_come(world: World) -> None:
    now = datetime.now(UTC)
    session = a_session(created_at=now, expires_at=now + timedelta(minutes=5))
    await world.tasks.expire(session, now)
    ((session_id, name),) = [pair async for pair in world.tasks.pending()]
    assert session_id == session.id
    await world.tasks.forget(session, now)
    await world.tasks.forget(session, now)
    await world.tasks.delete(name)
    assert [pair async for pair in world.tasks.pending()] == []


async def test_foreign_tasks_are_never_pending(world: World) -> None:
    queue = "projects/test/locations/us-central1/queues/onmemos-expire"
    later = datetime.now(UTC) + timedelta(hours=1)
    request = tasks_v2.HttpRequest(url=world.url, body=json.dumps({}).encode())
    await world.client.create_task(
        parent=queue,
        task=tasks_v2.Task(name=f"{queue}/tasks/nightly-report", http_request=request, schedule_time=later),
    )
    assert [pair async for pair in world.tasks.pending()] == []
