"""A workspace's URL: passes HTTP on to the agent behind the service's Unix socket, as it streams, in both directions.

Connections are kept for a moment, shorter than the agent keeps them: nothing is sent on one that is about to close.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from multidict import CIMultiDict
from starlette.responses import JSONResponse
from yarl import URL

from infra.local.calls import Receive, Scope, Send

CONNECT_TIMEOUT_S = 5.0
IDLE_S = 3.0  # the agent's uvicorn keeps them for 5 s
SERVICE = re.compile(r"[a-z][a-z0-9-]{0,62}")  # as Cloud Run names services, so never a path of another kind
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
ADDED_BY_THE_CLIENT = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

# RFC 9110, 7.6.1; Expect was answered where it arrived.
HOP_BY_HOP = frozenset(
    b"connection expect keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)


class Unreachable(Exception):
    """No connection to the agent: nothing was sent."""


class Lost(Exception):
    """The connection broke, and nobody knows what the agent did."""


class Workspaces:
    """The services' agents, at `<sockets>/<service>/agent.sock`; an async context manager."""

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._agents: dict[str, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> "Workspaces":
        return self

    async def __aexit__(self, *_: Any) -> None:
        while self._agents:
            await self._agents.popitem()[1].close()

    async def pass_on(self, service: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with the agent's answer. `path` is what follows the service's name, percent-encoded.

        503 workspace_unreachable: there is no agent. 502 workspace_lost: it went away. 404: no service can be called
        that. A client that goes away takes its connection to the agent with it.
        """
        if not SERVICE.fullmatch(service):
            await _refusal(404, "not_found", f"'{service}' is not a service's name")(scope, receive, send)
            return
        try:
            await self._exchange(service, path, scope, receive, send)
        except Unreachable as exc:
            await self._forget(service)
            await _refusal(503, "workspace_unreachable", str(exc))(scope, receive, send)
        except Lost as exc:
            await _refusal(502, "workspace_lost", f"{service}: {exc}")(scope, receive, send)

    async def _exchange(self, service: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        upload = _Upload(receive)
        body = await upload.body()
        answering = asyncio.create_task(self._answer(service, path, scope, body, send))
        leaving = asyncio.create_task(upload.left())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.wait({answering, leaving})

    async def _answer(self, service: str, path: str, scope: Scope, body: Any, send: Send) -> None:
        started = False
        query = scope["query_string"].decode("latin-1")
        url = URL(f"http://workspace{path}{'?' if query else ''}{query}", encoded=True)
        try:
            async with self._agent(service).request(
                scope["method"],
                url,
                data=body,
                headers=_headers(scope, body),
                skip_auto_headers=ADDED_BY_THE_CLIENT,
                allow_redirects=False,
            ) as answer:
                headers = [(name.lower(), value) for name, value in answer.raw_headers]
                kept = [(name, value) for name, value in headers if name not in HOP_BY_HOP]
                started = True
                await send({"type": "http.response.start", "status": answer.status, "headers": kept})
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise Unreachable(f"{service} does not run here ({type(exc).__name__})") from exc
        except (aiohttp.ClientError, OSError) as exc:
            if started:
                raise ConnectionAbortedError("the workspace's answer broke off") from exc  # so does ours
            raise Lost(f"the connection broke before the answer ({type(exc).__name__})") from exc

    def _agent(self, service: str) -> aiohttp.ClientSession:
        if service not in self._agents:
            path = str(self._sockets / service / "agent.sock")
            connector = aiohttp.UnixConnector(path, limit=0, keepalive_timeout=IDLE_S)
            self._agents[service] = aiohttp.ClientSession(
                connector=connector, timeout=TIMEOUT, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._agents[service]

    async def _forget(self, service: str) -> None:
        """A service that does not answer may be gone for good."""
        agent = self._agents.pop(service, None)
        if agent is not None:
            await agent.close()


class _Upload:
    """A request's body as it comes: at once where it is small, else chunk by chunk; and the client's leaving."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._done = asyncio.Event()
        self._gone = False

    async def body(self) -> bytes | AsyncIterator[bytes] | None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
            self._done.set()
            return None
        first: bytes = message.get("body", b"")
        if message.get("more_body", False):
            return self._chunks(first)
        self._done.set()
        return first or None

    async def left(self) -> None:
        """Return when the client is gone. While its body is being read, that reading would notice."""
        await self._done.wait()
        while not self._gone:
            self._gone = (await self._receive())["type"] == "http.disconnect"

    async def _chunks(self, first: bytes) -> AsyncIterator[bytes]:
        yield first
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone = True
                self._done.set()
                raise ConnectionAbortedError("the client went away while it sent")
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                self._done.set()
                return


def _headers(scope: Scope, body: Any) -> CIMultiDict[str]:
    streamed = body is not None and not isinstance(body, bytes)
    return CIMultiDict(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in scope["headers"]
        if name not in HOP_BY_HOP and not (streamed and name == b"content-length" and _is_chunked(scope))
    )


def _is_chunked(scope: Scope) -> bool:
    return any(name == b"transfer-encoding" for name, _ in scope["headers"])


def _refusal(status: int, code: str, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail, "code": code}, status)
