"""The workstations' front door: whom it lets in, what it passes on, and what it says of one that does not run."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from google.cloud import workstations_v1
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from infra.sandbox.spec import ContainerSpec
from tests.contract.cloud_run_rig import SocketContainer, SocketRuntime
from tests.contract.workstations_rig import CLUSTER, Rig, workstations


async def told(request: Request) -> JSONResponse:
    """What arrived."""
    body = (await request.body()).decode()
    return JSONResponse(
        {
            "path": request.scope["raw_path"].decode(),
            "query": request.url.query,
            "headers": dict(request.headers),
            "body": body,
        }
    )


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(socket.headers.get("authorization", "none"))
    await socket.send_text(await socket.receive_text())
    await socket.close(4000, "over")


class ServedContainer(SocketContainer):
    """A container with a server of HTTP and WebSockets in it."""

    async def begin(self) -> None:
        routes = [WebSocketRoute("/echo", echo), Route("/{rest:path}", told, methods=["GET", "POST"])]
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        config = uvicorn.Config(Starlette(routes=routes), uds=str(self.socket), lifespan="off", log_config=None)
        self._uvicorn = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._uvicorn._serve())
        while not self._uvicorn.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)

    async def stop(self, grace_s: float = 5) -> None:
        self._uvicorn.should_exit = True
        await self._serving
        await super().stop(grace_s)


class ServedRuntime(SocketRuntime):
    async def start(self, spec: ContainerSpec) -> SocketContainer:
        container = ServedContainer(spec, self.sockets / spec.name / "agent.sock")
        await container.begin()
        self.started.append(container)
        return container


class Door:
    """A workstation that runs, and a client at its door."""

    def __init__(self, rig: Rig, workstation: workstations_v1.Workstation, client: aiohttp.ClientSession) -> None:
        self.rig = rig
        self.workstation = workstation
        self.client = client

    async def opens(self, path: str = "/health", token: str = "", port: int = 8080) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.client.get(self.rig.at(self.workstation, path, port), headers=headers) as response:
            return response.status

    async def token(self, **more: Any) -> str:
        return await self.rig.token(self.workstation.name, **more)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    sockets = Path(tempfile.mkdtemp(prefix="om-"))  # tmp_path may be longer than a socket's path can be
    async with workstations(tmp_path, sockets, runtime=ServedRuntime(sockets)) as rig, aiohttp.ClientSession() as http:
        await rig.group()
        workstation = await rig.create("one")
        await rig.start(workstation.name)
        yield Door(rig, workstation, http)
    shutil.rmtree(sockets, ignore_errors=True)


async def test_a_request_is_passed_on_without_the_token_that_let_it_in(door: Door) -> None:
    token = await door.token()
    url = door.rig.at(door.workstation, "/a%2Fb?x=1&_workstationAccessToken=ignored&y=%20")
    headers = {"Authorization": f"Bearer {token}", "X-OnMemOS-Ticket": "t"}
    async with door.client.post(url, data=b"body", headers=headers) as response:
        seen = await response.json()
    assert (seen["path"], seen["query"], seen["body"]) == ("/a%2Fb", "x=1&y=%20", "body")
    assert "authorization" not in seen["headers"]
    assert seen["headers"]["x-onmemos-ticket"] == "t"


async def test_the_token_may_be_in_the_query(door: Door) -> None:
    assert await door.opens(f"/health?_workstationAccessToken={await door.token()}") == 200
    assert await door.opens("/health?_workstationAccessToken=nonsense") == 401


async def test_only_tokens_of_exactly_this_workstation_open_it(door: Door) -> None:
    assert await door.opens() == 401
    assert await door.opens(token="nonsense") == 401
    other = await door.rig.create("two")
    assert await door.opens(token=await door.rig.token(other.name)) == 403
    assert await door.opens(token=await door.token()) == 200


async def test_a_token_for_one_port_opens_that_port(door: Door) -> None:
    assert await door.opens(token=await door.token(port=8080)) == 200
    assert await door.opens(token=await door.token(port=3000)) == 403


async def test_a_token_lives_as_long_as_was_asked_for(door: Door) -> None:
    token = await door.token(ttl=timedelta(hours=24))
    hour = await door.token()
    until = await door.token(expire_time=door.rig.clock() + timedelta(minutes=2))
    door.rig.clock.advance(minutes=1)
    assert await door.opens(token=until) == 200
    door.rig.clock.advance(minutes=2)
    assert await door.opens(token=until) == 401
    door.rig.clock.advance(hours=1)
    assert await door.opens(token=hour) == 401
    assert await door.opens(token=token) == 200
    door.rig.clock.advance(hours=23)
    assert await door.opens(token=token) == 401


async def test_a_websocket_goes_both_ways_and_ends_as_it_was_ended(door: Door) -> None:
    url = door.rig.at(door.workstation, "/echo")
    async with door.client.ws_connect(url, headers={"Authorization": f"Bearer {await door.token()}"}) as socket:
        assert await socket.receive_str() == "none"
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4000


async def test_a_websocket_without_a_token_is_refused_in_its_handshake(door: Door) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await door.client.ws_connect(door.rig.at(door.workstation, "/echo"))
    assert refusal.value.status == 401


async def test_one_that_is_stopped_is_unavailable_and_says_so_to_nobody_without_a_token(door: Door) -> None:
    token = await door.token()
    await door.rig.stop(door.workstation.name)
    url = door.rig.at(door.workstation)
    async with door.client.get(url, headers={"Authorization": f"Bearer {token}"}) as response:
        assert response.status == 503
        assert "STATE_STOPPED" in (await response.json())["detail"]
    assert await door.opens() == 401
    await door.rig.start(door.workstation.name)
    assert await door.opens(token=token) == 200


async def test_only_ports_that_the_config_allows_are_reached(door: Door) -> None:
    token = await door.token()
    for port in (21, 443, 1023):
        assert await door.opens(token=token, port=port) == 403
    config = f"{CLUSTER}/workstationConfigs/closed"
    await door.rig.group(config, allowed_ports=[{"first": 9000, "last": 9010}])
    workstation = await door.rig.create("two", config)
    await door.rig.start(workstation.name)
    closed = Door(door.rig, workstation, door.client)
    assert await closed.opens(token=await closed.token()) == 403


async def test_a_host_that_is_nobodys_is_not_found(door: Door) -> None:
    for path in ("/none.cluster-x.cloudworkstations.dev/8080/", "/", "/x", f"/{door.workstation.host}/port/"):
        url = door.rig.url.partition("/{host}")[0] + path
        async with door.client.get(url) as response:
            assert response.status == 404


async def test_what_passes_the_door_is_traffic(door: Door) -> None:
    config = f"{CLUSTER}/workstationConfigs/idle"
    await door.rig.group(config, idle_timeout={"seconds": 600})
    workstation = await door.rig.create("two", config)
    await door.rig.start(workstation.name)
    used = Door(door.rig, workstation, door.client)
    headers = {"Authorization": f"Bearer {await used.token()}"}
    async with door.client.ws_connect(door.rig.at(workstation, "/echo"), headers=headers) as socket:
        await socket.receive_str()
        door.rig.clock.advance(seconds=500)
        await socket.send_str("hello")
        await socket.receive_str()
    door.rig.clock.advance(seconds=500)
    await door.rig.emulator.fleet.sweep()
    assert await used.opens(token=await used.token()) == 200
    door.rig.clock.advance(seconds=500)
    assert await used.opens() == 401  # which was no traffic
    door.rig.clock.advance(seconds=101)
    await door.rig.emulator.fleet.sweep()
    assert await used.opens(token=await used.token()) == 503
