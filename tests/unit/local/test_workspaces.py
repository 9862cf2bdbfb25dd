"""The way to a workspace's agent: a real server behind a real Unix socket, a real uvicorn before it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

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
