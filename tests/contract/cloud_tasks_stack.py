"""The Cloud Tasks emulator with everything around it real: Google's client over gRPC, a target behind uvicorn."""

import asyncio
import functools
import heapq
import itertools
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import uvicorn
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.protobuf import duration_pb2, timestamp_pb2

from infra.emulators.oidc import OidcTokens
from infra.emulators.tasks import CloudTasks
from infra.emulators.tasks.clock import Alarm, Clock

LOCATION = "projects/p/locations/us-central1"
QUEUE = f"{LOCATION}/queues/q"
PATIENCE_S = 10.0  # how long a test waits for what should come within milliseconds


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def task(self) -> str:
        return self.headers["x-cloudtasks-taskname"]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Answer = Callable[[Request], Reply | Awaitable[Reply]]


class Target:
    """An HTTP server that notes what it receives, and answers as `answer` says (200 unless a test sets it)."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.answer: Answer = lambda _: Reply()
        self._came = asyncio.Condition()

    def answers(self, *statuses: int) -> None:
        """One status after the other; the last one for ever."""
        left = itertools.chain(statuses, itertools.repeat(statuses[-1]))
        self.answer = lambda _: Reply(next(left))

    async def received(self, count: int) -> list[Request]:
        """Wait until `count` requests have come in all, and return them."""
        async with asyncio.timeout(PATIENCE_S), self._came:
            await self._came.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        request = Request(scope["method"], scope["path"], headers, body)
        async with self._came:
            self.requests.append(request)
            self._came.notify_all()
        answer = self.answer(request)
        reply = answer if isinstance(answer, Reply) else await answer
        named = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": named})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serving() -> AsyncIterator[Target]:
    """A target on a port of its own."""
    target = Target()
    listener = socket.create_server(("127.0.0.1", 0))
    target.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(target, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])  # not serve(): it takes the process's signals, and polls
    try:
        yield target
    finally:
        for listening in server.servers:  # not shutdown(): it sleeps
            listening.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()


class FakeClock:
    """Stands still until a test moves it; alarms ring in the order of their times."""

    def __init__(self, start: datetime = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)) -> None:
        self._now_us = int(start.timestamp()) * 1_000_000
        self._alarms: list[tuple[int, int, FakeAlarm]] = []
        self._numbers = itertools.count()

    def now_us(self) -> int:
        return self._now_us

    def call_at(self, when_us: int, call: Callable[[], None]) -> Alarm:
        alarm = FakeAlarm(call)
        heapq.heappush(self._alarms, (when_us, next(self._numbers), alarm))
        return alarm

    def advance(self, seconds: float) -> None:
        until_us = self._now_us + round(seconds * 1_000_000)
        while self._alarms and self._alarms[0][0] <= until_us:
            when_us, _, alarm = heapq.heappop(self._alarms)
            self._now_us = max(self._now_us, when_us)
            alarm.ring()
        self._now_us = until_us


class FakeAlarm:
    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self._call = None

    def ring(self) -> None:
        if self._call is not None:
            self._call()


@dataclass(slots=True)
class Stack:
    """What a test holds: the client, the emulator behind it and the target."""

    client: tasks_v2.CloudTasksAsyncClient
    emulator: CloudTasks
    target: Target
    tokens: OidcTokens
    clock: Clock

    async def queue(self, **settings: Any) -> tasks_v2.Queue:
        queue = tasks_v2.Queue(name=QUEUE, **settings)
        return await self.client.create_queue(parent=LOCATION, queue=queue)

    async def task(self, name: str = "", *, path: str = "/work", **fields: Any) -> tasks_v2.Task:
        """Create a task in QUEUE that POSTs to the target; `fields` are the Task's, `http_request` is merged."""
        request = {"url": self.target.url + path, **fields.pop("http_request", {})}
        task = tasks_v2.Task(name=f"{QUEUE}/tasks/{name}" if name else "", http_request=request, **fields)
        return await self.client.create_task(parent=QUEUE, task=task)

    async def tasks(self) -> list[tasks_v2.Task]:
        return [task async for task in await self.client.list_tasks(parent=QUEUE)]

    async def settled(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.emulator.settled()


@asynccontextmanager
async def stack(folder: Path, target: Target, clock: Clock, **settings: Any) -> AsyncIterator[Stack]:
    """The emulator on the state in `folder`, until the end of the block; open it again and it has restarted."""
    tokens = _tokens(folder / "oidc.pem")
    async with CloudTasks(folder / "tasks.sqlite", tokens, clock=clock, **settings) as emulator:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(emulator.handlers())
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        client = tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
        try:
            yield Stack(client, emulator, target, tokens, clock)
        finally:
            await channel.close()
            await server.stop(grace=None)


def _tokens(path: Path) -> OidcTokens:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_key())
    return OidcTokens(path)


@functools.cache
def _key() -> bytes:
    """One key for all tests of a process: making one takes a quarter of a second."""
    with tempfile.TemporaryDirectory() as folder:
        OidcTokens(Path(folder) / "key.pem")
        return (Path(folder) / "key.pem").read_bytes()


def seconds(value: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromMicroseconds(round(value * 1_000_000))
    return duration


def after(clock: Clock, value: float) -> timestamp_pb2.Timestamp:
    """The time `value` seconds from now."""
    moment = timestamp_pb2.Timestamp()
    moment.FromMicroseconds(clock.now_us() + round(value * 1_000_000))
    return moment
