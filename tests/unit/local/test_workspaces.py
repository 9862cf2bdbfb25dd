"""The way to a workspace's agent: a real server behind a real Unix socket, a real uvicorn before it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from yarl import URL

from infra.local.calls import Functions
from infra.local.gateway import Gateway
from infra.local.serve import server
from infra.local.workspaces import Workspaces

SERVICE = "onmemos-ws-a-b-1"
Agent = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def sockets() -> Any:
    with TemporaryDirectory(prefix="om-", dir="/tmp") as folder:  # a socket's path must be short
        yield Path(folder)


@pytest.fixture
async def gateway(sockets: Path) -> AsyncIterator[httpx.AsyncClient]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    async with Workspaces(sockets) as workspaces:
        web: uvicorn.Server = server(Gateway([], Functions({}, {}), workspaces, Starlette()))
        serving = asyncio.create_task(web.serve(sockets=[listener]))
        host, port = listener.getsockname()
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False, timeout=10) as client:
            yield client
        web.should_exit = True
        await serving


@asynccontextmanager
async def agent(sockets: Path, serve: Agent) -> AsyncIterator[None]:
    (sockets / SERVICE).mkdir()

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()

    async with await asyncio.start_unix_server(serve_and_close, sockets / SERVICE / "agent.sock"):
        yield


async def head_of(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


async def test_request_and_answer_pass_through_unchanged(gateway: httpx.AsyncClient, sockets: Path) -> None:
    seen: dict[str, Any] = {}

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen["head"] = await head_of(reader)
        seen["body"] = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 418 Teapot\r\nX-Boot-Id: b1\r\nConnection: close\r\nContent-Length: 3\r\n\r\nhot")

    headers = {"Authorization": "Bearer t", "Connection": "close", "TE": "trailers"}
    async with agent(sockets, echo):
        answer = await gateway.post(f"/run/{SERVICE}/a%2Fb//c?q=1%20&r", content=b"water", headers=headers)
    assert (answer.status_code, answer.text, answer.headers["X-Boot-Id"]) == (418, "hot", "b1")
    assert seen["head"].startswith("POST /a%2Fb//c?q=1%20&r HTTP/1.1\r\n")
    assert "authorization: bearer t" in seen["head"].lower()
    assert "\r\nte:" not in seen["head"].lower()
    assert seen["body"] == b"water"


async def test_both_directions_stream(gateway: httpx.AsyncClient, sockets: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert "transfer-encoding: chunked" in (await head_of(reader)).lower()
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (size := int(await reader.readline(), 16)) > 0:
            chunk = (await reader.readexactly(size + 2))[:-2]
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    url = gateway.base_url
    async with agent(sockets, echo):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"POST /run/%s/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % SERVICE.encode())
        for chunk in (b"first", b"second"):  # the second is only sent when the first came back
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await asyncio.wait_for(reader.readuntil(chunk + b"\r\n"), 5)
        writer.write(b"0\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        writer.close()


async def test_without_an_agent_nothing_was_sent_and_it_says_so(gateway: httpx.AsyncClient, sockets: Path) -> None:
    answer = await gateway.get(f"/run/{SERVICE}/health")
    assert (answer.status_code, answer.json()["code"]) == (503, "workspace_unreachable")
    (sockets / SERVICE).mkdir()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as deaf:
        deaf.bind(str(sockets / SERVICE / "agent.sock"))
    answer = await gateway.get(f"/run/{SERVICE}/health")
    assert (answer.status_code, answer.json()["code"]) == (503, "workspace_unreachable")


async def test_an_agent_that_goes_away_before_its_answer_is_lost(gateway: httpx.AsyncClient, sockets: Path) -> None:
    async def leave(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await head_of(reader)

    async with agent(sockets, leave):
        answer = await gateway.post(f"/run/{SERVICE}/v1/execute", json={})
    assert (answer.status_code, answer.json()["code"]) == (502, "workspace_lost")


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(gateway: httpx.AsyncClient, sockets: Path) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    async with agent(sockets, half):
        with pytest.raises(httpx.RemoteProtocolError):
            await gateway.get(f"/run/{SERVICE}/file")


async def test_a_client_that_leaves_takes_its_request_with_it(gateway: httpx.AsyncClient, sockets: Path) -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await head_of(reader)
        arrived.set()
        await reader.read()
        left.set()

    async with agent(sockets, wait):
        request = asyncio.create_task(gateway.get(f"/run/{SERVICE}/v1/execute"))
        await asyncio.wait_for(arrived.wait(), 5)
        request.cancel()
        await asyncio.wait_for(left.wait(), 5)


@pytest.mark.parametrize("service", ["..", "%2e%2e", "A", "x" * 80, ""])
async def test_what_no_service_can_be_called_is_not_looked_for(gateway: httpx.AsyncClient, service: str) -> None:
    answer = await gateway.get(f"/run/{service}/health")
    assert answer.status_code == 404


@asynccontextmanager
async def websocket_agent(sockets: Path, app: Any) -> AsyncIterator[None]:
    """An ASGI application as the service's agent."""
    (sockets / SERVICE).mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(sockets / SERVICE / "agent.sock"))
    listener.listen()
    web = server(app)
    serving = asyncio.create_task(web.serve(sockets=[listener]))
    yield
    web.should_exit = True
    await serving
    listener.close()


class Echo:
    """A WebSocket that says what it was asked for, then echoes; `bye` closes it, `drop` ends it without a word."""

    def __init__(self) -> None:
        self.left: asyncio.Queue[int] = asyncio.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "second"})
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        await send({"type": "websocket.send", "text": f"{scope['raw_path']} {scope['query_string']} {headers}"})
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text") == "bye":
                await send({"type": "websocket.close", "code": 3003, "reason": "bye"})
            elif message.get("text") == "drop":
                return
            else:
                await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
        self.left.put_nowait(message["code"])


@asynccontextmanager
async def websocket(gateway: httpx.AsyncClient, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    url = URL(f"ws://{gateway.base_url.host}:{gateway.base_url.port}{path}", encoded=True)
    headers = {"Authorization": "Bearer t"}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, headers=headers, protocols=("first", "second")) as there,
    ):
        yield there


async def test_a_websocket_passes_both_ways(gateway: httpx.AsyncClient, sockets: Path) -> None:
    async with websocket_agent(sockets, Echo()), websocket(gateway, f"/run/{SERVICE}/a%2Fb?ticket=t%20") as there:
        said = await there.receive_str(timeout=5)
        assert said.startswith("b'/a%2Fb' b'ticket=t%20'")
        assert "'authorization': 'Bearer t'" in said
        assert there.protocol == "second"
        await there.send_str("text")
        assert await there.receive_str(timeout=5) == "text"
        await there.send_bytes(b"\x00")
        assert await there.receive_bytes(timeout=5) == b"\x00"
        await there.send_str("bye")
        assert (await there.receive(timeout=5)).extra == "bye"
        assert there.close_code == 3003


async def test_a_websocket_that_breaks_off_at_the_agent_breaks_off_here(
    gateway: httpx.AsyncClient, sockets: Path
) -> None:
    async with websocket_agent(sockets, Echo()), websocket(gateway, f"/run/{SERVICE}/x") as there:
        await there.receive_str(timeout=5)
        await there.send_str("drop")
        ended = await there.receive(timeout=5)
        assert ended.type is aiohttp.WSMsgType.CLOSED  # the connection's end, and no close frame


async def test_the_clients_close_code_reaches_the_agent(gateway: httpx.AsyncClient, sockets: Path) -> None:
    agent = Echo()
    async with websocket_agent(sockets, agent):
        async with websocket(gateway, f"/run/{SERVICE}/x") as there:
            await there.receive_str(timeout=5)
            await there.close(code=4000)
        assert await asyncio.wait_for(agent.left.get(), 5) == 4000


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})


@pytest.mark.parametrize(("service", "status"), [(SERVICE, 403), ("onmemos-ws-nobody-1", 503), ("A", 404)])
async def test_a_handshake_that_fails_is_answered_with_a_status(
    gateway: httpx.AsyncClient, sockets: Path, service: str, status: int
) -> None:
    async with websocket_agent(sockets, refuse):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with websocket(gateway, f"/run/{service}/v1/shell"):
                pass
        assert refused.value.status == status


async def test_a_request_that_finds_no_agent_ends_no_connection_that_lasts(
    gateway: httpx.AsyncClient, sockets: Path
) -> None:
    async with websocket_agent(sockets, Echo()), websocket(gateway, f"/run/{SERVICE}/x") as there:
        await there.receive_str(timeout=5)
        (sockets / SERVICE / "agent.sock").rename(sockets / "elsewhere")
        assert (await gateway.get(f"/run/{SERVICE}/health")).status_code == 503
        await there.send_str("still here")
        assert await there.receive_str(timeout=5) == "still here"
