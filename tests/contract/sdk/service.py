"""A small service that speaks the API's contract over real HTTP, and a wire to it that can be made to fail.

The wire is a TCP proxy: each request takes the next fault from its script, or passes. What reached the service is noted
there, so a test can tell a command that ran twice from one that was sent twice.
"""

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KEY = "your-api-key"


class Fault(Enum):
    """What the wire does to one request."""

    RESET_BEFORE = auto()  # the service never sees it
    RESET_AFTER = auto()  # the service answers, the answer is lost
    RESET_DURING = auto()  # half of the answer arrives
    SILENCE = auto()  # the service answers, nothing arrives


@dataclass(frozen=True, slots=True)
class Answer:
    """What the wire answers in the service's place. The connection is closed after it without having been announced."""

    status: int
    body: bytes = b'{"detail": "no", "code": "stable"}'
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    def encoded(self) -> bytes:
        headers = {**self.headers, "content-length": str(len(self.body))}
        lines = [f"HTTP/1.1 {self.status} X", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


class Service:
    """Sessions in a dict, commands in a list."""

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.commands: list[str] = []
        self.keys: dict[str, str] = {}
        self.app = Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/sessions", self.create, methods=["POST"]),
                Route("/v1/sessions", self.list, methods=["GET"]),
                Route("/v1/sessions/{id}", self.get, methods=["GET"]),
                Route("/v1/sessions/{id}", self.delete, methods=["DELETE"]),
                Route("/v1/sessions/{id}/execute", self.execute, methods=["POST"]),
            ]
        )

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def create(self, request: Request) -> Response:
        if request.headers.get("x-api-key") != KEY:
            return _refusal(401, "unauthenticated", "X-API-Key: wrong")
        body = await request.json()
        if "template" not in body:
            errors = {"template": ["missing"]}
            return _refusal(400, "invalid_request", "template: missing", errors=errors)
        session_id = self.keys.setdefault(request.headers["idempotency-key"], f"ws-{len(self.sessions)}")
        session = {**body, "id": session_id, "status": "running", "wait": request.query_params.get("wait")}
        self.sessions[session_id] = session
        return JSONResponse(session, 201)

    async def list(self, request: Request) -> Response:
        size, start = int(request.query_params["page_size"]), int(request.query_params.get("page_token", 0))
        found = [*self.sessions.values()][start : start + size]
        token = str(start + size) if start + size < len(self.sessions) else None
        return JSONResponse({"sessions": found, "next_page_token": token})

    async def get(self, request: Request) -> Response:
        session = self.sessions.get(request.path_params["id"])
        return JSONResponse(session) if session else _refusal(404, "session_not_found", "Session not found")

    async def delete(self, request: Request) -> Response:
        session = self.sessions.pop(request.path_params["id"], None)
        if session is None:
            return _refusal(404, "session_not_found", "Session not found")
        return JSONResponse({**session, "status": "deleting"})

    async def execute(self, request: Request) -> Response:
        body = await request.json()
        self.commands.append(body["command"])
        return JSONResponse({"stdout": "hi\n" * 1000, "stderr": "", "returncode": 0, "success": True})


class Wire:
    """The proxy. `script` takes faults and answers; whoever may be silent is let go when the wire closes."""

    def __init__(self, upstream: int) -> None:
        self.script: deque[Fault | Answer] = deque()
        self.requests = 0
        self.connections = 0
        self._upstream = upstream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._pass(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection lives on."""
        request = await _read_message(reader)
        self.requests += 1
        turn = self.script.popleft() if self.script else None
        if isinstance(turn, Answer):
            writer.write(turn.encoded())
            return False
        if turn is Fault.RESET_BEFORE:
            _reset(writer)
            return False
        answer = await self._forward(request)
        if turn is Fault.SILENCE:
            await reader.read()  # until the client has had enough
            return False
        if turn is Fault.RESET_AFTER:
            _reset(writer)
            return False
        if turn is Fault.RESET_DURING:
            writer.write(answer[: len(answer) // 2])
            await writer.drain()
            _reset(writer)
            return False
        writer.write(answer)
        return True

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        with closing(writer):
            writer.write(request)
            return await _read_message(reader)


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    return head + await reader.readexactly(int(fields.get(b"content-length", 0)))


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST, what was written before still goes out."""
    peer: socket.socket = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _refusal(status: int, code: str, detail: str, **more: Any) -> Response:
    body = {"detail": detail, "code": code, **more}
    return JSONResponse(body, status, headers={"x-request-id": "r-42"})


@dataclass(frozen=True, slots=True)
class Stack:
    """A running service and its wire; `url` leads through the wire."""

    service: Service
    wire: Wire
    url: str


@contextmanager
def running() -> Iterator[Stack]:
    """Both on ephemeral ports of 127.0.0.1, in one thread of their own."""
    service = Service()
    listener = socket.create_server(("127.0.0.1", 0))
    wire = Wire(listener.getsockname()[1])
    wire_listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(service.app, lifespan="off", log_config=None))

    async def serve() -> None:
        async with await asyncio.start_server(wire.serve, sock=wire_listener):
            await server.serve([listener])

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    try:
        yield Stack(service, wire, f"http://127.0.0.1:{wire_listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(10)
