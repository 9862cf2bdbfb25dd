"""A workspace's URL: passes HTTP on to the agent behind the service's Unix socket, as it streams, in both directions.

Each request has a connection of its own. A fresh one costs 0.07 ms more than a kept one, and leaves no doubt: when it
cannot be made, nothing was sent; when it breaks, something was.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h11
from starlette.responses import JSONResponse

from infra.local.calls import Receive, Scope, Send

CHUNK_BYTES = 1 << 16
CONNECT_TIMEOUT_S = 5.0
SERVICE = re.compile(r"[a-z][a-z0-9-]{0,62}")  # as Cloud Run names services, so never a path of another kind

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
    """The services' agents, at `<sockets>/<service>/agent.sock`."""

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets

    async def pass_on(self, service: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with the agent's answer. `path` is what follows the service's name, percent-encoded.

        503 workspace_unreachable: there is no agent. 502 workspace_lost: it went away. 404: no service can be called
        that. A client that goes away takes its connection to the agent with it.
        """
        if not SERVICE.fullmatch(service):
            await _refusal(404, "not_found", f"'{service}' is not a service's name")(scope, receive, send)
            return
        try:
            async with self._connected(service) as exchange:
                await exchange.run(path, scope, receive, send)
        except Unreachable as exc:
            await _refusal(503, "workspace_unreachable", str(exc))(scope, receive, send)
        except Lost as exc:
            await _refusal(502, "workspace_lost", f"{service}: {exc}")(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _connected(self, service: str) -> AsyncIterator["_Exchange"]:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._sockets / service / "agent.sock")
        except (OSError, TimeoutError) as exc:
            raise Unreachable(f"{service} does not run here ({type(exc).__name__})") from exc
        try:
            yield _Exchange(reader, writer)
        finally:
            writer.transport.abort()  # everything was read, or nobody wants it any more


class _Exchange:
    """One request and its answer over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self._client_is_gone = False

    async def run(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_noted(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        upload = asyncio.create_task(self._upload(_request(path, scope), receive))
        try:
            await self._download(send_noted)
        except (OSError, h11.ProtocolError, Lost) as exc:
            if self._client_is_gone:
                return
            if started:
                raise ConnectionAbortedError("the workspace's answer broke off") from exc  # so does ours
            raise Lost(f"the connection broke before the answer ({type(exc).__name__})") from exc
        finally:
            upload.cancel()
            await asyncio.wait([upload])

    async def _upload(self, request: h11.Request, receive: Receive) -> None:
        """Send the request, then watch for the client's leaving."""
        head = self._http.send(request) or b""
        with contextlib.suppress(OSError):  # the agent may answer before it has read everything; the reader knows
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    break
                body = message.get("body", b"")
                head += (self._http.send(h11.Data(body)) or b"") if body else b""
                if not message.get("more_body", False):
                    head += self._http.send(h11.EndOfMessage()) or b""
                self._writer.write(head)
                head = b""
                await self._writer.drain()
        self._client_is_gone = True
        self._writer.transport.abort()

    async def _download(self, send: Send) -> None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(CHUNK_BYTES))
            elif isinstance(event, h11.Response):
                headers = [(name, value) for name, value in event.headers if name not in HOP_BY_HOP]
                await send({"type": "http.response.start", "status": event.status_code, "headers": headers})
            elif isinstance(event, h11.Data):
                await send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
            elif isinstance(event, h11.EndOfMessage):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            elif not isinstance(event, h11.InformationalResponse):
                raise Lost("the agent closed the connection")


def _request(path: str, scope: Scope) -> h11.Request:
    headers = [(name, value) for name, value in scope["headers"] if name not in HOP_BY_HOP]
    names = {name for name, _ in scope["headers"]}
    if b"host" not in names:  # HTTP/1.0
        headers.append((b"host", b"workspace"))
    if b"transfer-encoding" in names:
        headers = [(name, value) for name, value in headers if name != b"content-length"]
        headers.append((b"transfer-encoding", b"chunked"))
    query = scope["query_string"]
    target = path.encode("latin-1") + (b"?" + query if query else b"")
    return h11.Request(method=scope["method"], target=target, headers=headers)


def _refusal(status: int, code: str, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail, "code": code}, status)
