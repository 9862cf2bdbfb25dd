"""A small service that speaks the API's contract over real HTTP, an agent beside it, and wires to both that can fail.

A wire is a TCP proxy: each request takes the next fault from its script, or passes. What reached the service or the
agent is noted there, so a test can tell a command that ran twice from one that was sent twice.
"""

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.contract.sdk.agent import PREFIX, RAN, Agent, shell, terminal

KEY = "your-api-key"
ARRIVES = {"provisioning": "running", "suspending": "suspended", "moving": "running"}


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
    """Sessions in a dict, commands in a list. `agent_url`: what connect says; `lifetime_s`: of a ticket.

    What is on its way has arrived at the next look at it. A job writes one word of `says` for each look.
    """

    def __init__(self, agent: Agent) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.commands: list[str] = []
        self.keys: dict[str, str] = {}
        self.connects = 0
        self.agent = agent
        self.agent_url: str | None = None
        self.lifetime_s = 300.0
        self.first_status = "running"
        self.jobs: dict[str, dict[str, Any]] = {}
        self.says: list[str] = []
        self.app = Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/sessions", self.create, methods=["POST"]),
                Route("/v1/sessions", self.list, methods=["GET"]),
                Route("/v1/sessions/{id}", self.get, methods=["GET"]),
                Route("/v1/sessions/{id}", self.delete, methods=["DELETE"]),
                Route("/v1/sessions/{id}/suspend", self.suspend, methods=["POST"]),
                Route("/v1/sessions/{id}/resume", self.resume, methods=["POST"]),
                Route("/v1/sessions/{id}/move", self.move, methods=["POST"]),
                Route("/v1/sessions/{id}/jobs", self.create_job, methods=["POST"]),
                Route("/v1/sessions/{id}/jobs", self.list_jobs, methods=["GET"]),
                Route("/v1/sessions/{id}/jobs/{job}", self.get_job, methods=["GET"]),
                Route("/v1/sessions/{id}/jobs/{job}/cancel", self.cancel_job, methods=["POST"]),
                Route("/v1/sessions/{id}/execute", self.execute, methods=["POST"]),
                Route("/v1/sessions/{id}/connect", self.connect, methods=["GET"]),
                WebSocketRoute("/v1/sessions/{id}/shell", self.shell),
                WebSocketRoute("/v1/sessions/{id}/terminal", self.terminal),
                Route("/v1/cloudrun/workspaces", self.create, methods=["POST"]),
                Route("/v1/cloudrun/workspaces/{id}", self.delete, methods=["DELETE"]),
                Route("/v1/cloudrun/workspaces/{id}/runpython", self.run_python, methods=["POST"]),
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
        session = {**body, "id": session_id, "status": self.first_status, "wait": request.query_params.get("wait")}
        self.sessions[session_id] = session
        return JSONResponse(session, 201)

    async def list(self, request: Request) -> Response:
        size, start = int(request.query_params["page_size"]), int(request.query_params.get("page_token", 0))
        found = [*self.sessions.values()][start : start + size]
        token = str(start + size) if start + size < len(self.sessions) else None
        return JSONResponse({"sessions": found, "next_page_token": token})

    async def get(self, request: Request) -> Response:
        session = self.sessions.get(request.path_params["id"])
        if session and session.get("status") in ARRIVES:
            session["status"] = ARRIVES[session["status"]]
        return JSONResponse(session) if session else _refusal(404, "session_not_found", "Session not found")

    async def suspend(self, request: Request) -> Response:
        return await self._turned(request, {"status": "suspending", "expires_at": None, "ttl_left_seconds": 1800.0})

    async def resume(self, request: Request) -> Response:
        return await self._turned(request, {"status": "provisioning", "expires_at": None, "ttl_left_seconds": None})

    async def move(self, request: Request) -> Response:
        return await self._turned(request, {"status": "moving", "provider": (await request.json())["provider"]})

    async def _turned(self, request: Request, changes: dict[str, Any]) -> Response:
        session = self.sessions[request.path_params["id"]]
        if ARRIVES[changes["status"]] != session["status"] or "provider" in changes:
            session.update({"details": {}, **changes})
        return JSONResponse(session)

    async def create_job(self, request: Request) -> Response:
        body, session_id = await request.json(), request.path_params["id"]
        job_id = self.keys.setdefault(request.headers["idempotency-key"], f"job-{len(self.jobs)}")
        job = {**body, "id": job_id, "session_id": session_id, "state": "pending", "attempts": 0}
        job |= {"returncode": None, "error": None, "stdout": "", "stderr": "", "truncated": False}
        self.jobs[job["id"]] = job
        return JSONResponse(job, 201)

    async def list_jobs(self, request: Request) -> Response:
        output = {"stdout", "stderr", "truncated"}
        listed = [{name: job[name] for name in job if name not in output} for job in self.jobs.values()]
        return JSONResponse({"jobs": listed, "next_page_token": None})

    async def get_job(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["job"])
        if job is None:
            return _refusal(404, "job_not_found", "Job not found")
        if self.says:
            job.update(state="running", attempts=1, stdout=job["stdout"] + self.says.pop(0))
        elif job["state"] in {"pending", "running"}:
            job.update(state="succeeded", returncode=0)
        return JSONResponse(job)

    async def cancel_job(self, request: Request) -> Response:
        job = self.jobs[request.path_params["job"]]
        job["state"] = "cancelled"
        return JSONResponse(job)

    async def delete(self, request: Request) -> Response:
        session = self.sessions.pop(request.path_params["id"], None)
        if session is None:
            return _refusal(404, "session_not_found", "Session not found")
        return JSONResponse({**session, "status": "deleting"})

    async def execute(self, request: Request) -> Response:
        if refusal := self._unless_it_runs(request.path_params["id"]):
            return refusal
        body = await request.json()
        self.commands.append(body["command"])
        return JSONResponse(RAN)

    async def run_python(self, request: Request) -> Response:
        self.commands.append((await request.json())["code"])
        return JSONResponse(RAN)

    async def connect(self, request: Request) -> Response:
        self.connects += 1
        if request.path_params["id"] not in self.sessions:
            return _refusal(404, "session_not_found", "Session not found")
        if refusal := self._unless_it_runs(request.path_params["id"]):
            return refusal
        ticket = f"ticket-{self.connects}"
        self.agent.tickets.add(ticket)
        expires_at = (datetime.now(UTC) + timedelta(seconds=self.lifetime_s)).isoformat()
        url = self.agent_url
        websocket = url and f"ws{url.removeprefix('http')}/v1/shell"
        return JSONResponse(
            {"url": url, "websocket": websocket, "ticket": ticket, "expires_at": expires_at, "ssh": None}
        )

    def _unless_it_runs(self, session_id: str) -> Response | None:
        session = self.sessions.get(session_id, {})
        if session.get("status") in ARRIVES:
            session["status"] = ARRIVES[session["status"]]  # it is waited for
        if session.get("status") == "suspended" and session.get("auto_resume"):
            session["status"] = "running"
        if session.get("status") == "suspended":
            return _refusal(409, "session_suspended", f"session {session_id} is suspended: resume it first")
        return None

    async def shell(self, socket: WebSocket) -> None:
        await self._relayed(socket, shell)

    async def terminal(self, socket: WebSocket) -> None:
        await self._relayed(socket, terminal)

    async def _relayed(self, socket: WebSocket, serve: Callable[..., Awaitable[None]]) -> None:
        await socket.accept()
        if socket.headers.get("x-api-key") != KEY:
            await socket.close(4401, "X-API-Key: wrong")
        elif socket.path_params["id"] not in self.sessions:
            await socket.close(4404, "Session not found")
        elif self._unless_it_runs(socket.path_params["id"]):
            await socket.close(4409, "the session is suspended: resume it first")
        else:
            await serve(socket, self.commands)


class Wire:
    """The proxy. `script` takes faults and answers; whoever may be silent is let go when the wire closes."""

    def __init__(self, upstream: int) -> None:
        self.script: deque[Fault | Answer] = deque()
        self.requests = 0
        self.connections = 0
        self.ended = threading.Semaphore(0)  # released when a connection is closed on this side
        self._upstream = upstream
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Reset all connections that are open now; from any thread."""
        done = threading.Event()

        def reset() -> None:
            for writer in self._writers:
                _reset(writer)
            done.set()

        assert self._loop is not None
        self._loop.call_soon_threadsafe(reset)
        assert done.wait(5)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._loop = asyncio.get_running_loop()
        ended = self.ended  # of this test, though the connection may outlast it
        self._writers.add(writer)
        try:
            while await self._pass(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            self._writers.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            ended.release()

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
        if b"\r\nupgrade: websocket" in request.lower():
            await self._pump(request, reader, writer)
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

    async def _pump(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A WebSocket: bytes in both directions until one side ends."""
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        with closing(upstream_writer):
            upstream_writer.write(request)
            ways = [_copy(reader, upstream_writer), _copy(upstream_reader, writer)]
            _, pending = await asyncio.wait(map(asyncio.ensure_future, ways), return_when=asyncio.FIRST_COMPLETED)
            for way in pending:
                way.cancel()

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        with closing(writer):
            writer.write(request)
            return await _read_message(reader)


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    return head + await reader.readexactly(int(fields.get(b"content-length", 0)))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass


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
    """A running service and an agent, each with its wire; `url` and `agent_url` lead through the wires."""

    service: Service
    wire: Wire
    url: str
    agent: Agent
    agent_wire: Wire
    agent_url: str

    def reset(self) -> None:
        """As new: no session, no fault, and connect shows the way to the agent."""
        service = self.service
        for state in (service.sessions, service.commands, service.keys, service.jobs, service.says, self.wire.script):
            state.clear()
        for noted in (self.agent.tickets, self.agent.commands, self.agent.seen, self.agent_wire.script):
            noted.clear()
        self.agent.waits.clear()
        self.agent.is_frozen = False
        for wire in (self.wire, self.agent_wire):
            wire.requests = wire.connections = 0
            wire.ended = threading.Semaphore(0)
        self.service.connects = 0
        self.service.agent_url = self.agent_url
        self.service.lifetime_s = 300.0
        self.service.first_status = "running"


@contextmanager
def running() -> Iterator[Stack]:
    """All on ephemeral ports of 127.0.0.1, in one thread of their own."""
    agent = Agent()
    service = Service(agent)
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    wires = [Wire(listener.getsockname()[1]) for listener in listeners]
    wire_listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    configs = [
        uvicorn.Config(app, lifespan="off", log_config=None, ws="websockets-sansio") for app in (service.app, agent.app)
    ]
    servers = [uvicorn.Server(config) for config in configs]

    async def serve() -> None:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            for wire, wire_listener in zip(wires, wire_listeners, strict=True):
                await stack.enter_async_context(await asyncio.start_server(wire.serve, sock=wire_listener))
            for server, listener in zip(servers, listeners, strict=True):
                tasks.create_task(server.serve([listener]))

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    url, agent_root = (f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in wire_listeners)
    try:
        yield Stack(service, wires[0], url, agent, wires[1], agent_root + PREFIX)
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(10)
