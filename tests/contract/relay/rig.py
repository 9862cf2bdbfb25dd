"""The relay as it is served, before an agent's stand-in over real TCP; the use cases are real, over memory."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from functions.relay import app as relay_app
from shared import wiring
from shared.callers import ApiKey
from shared.keys import Keys, digest
from shared.models import Session
from shared.passage import http_client
from shared.ports import Ports
from shared.providers.base import Condition, Health
from shared.relay import Relay
from shared.sessions import Sessions
from shared.tickets import Tickets, new_private_key
from shared.websocket_server import SERVER
from shared.wiring import utc_now
from tests.fakes import (
    MemoryAgents,
    MemoryBuckets,
    MemoryKeys,
    MemoryProvider,
    MemoryStore,
    MemoryTasks,
    a_session,
)

SOON_S = 10.0
SESSION = "ws-test-developer-1"
KEY = "the-bootstrap-key"
OTHERS_KEY, KEYS_KEY = "another-tenants-key", "a-key-for-keys-alone"
QUICK_LOOK_S = 0.01


class Server(uvicorn.Server):
    """On the test's own loop, whose signals are the test's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The application's address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, http="httptools", timeout_graceful_shutdown=0, **SERVER
    )
    web = Server(config)
    running = asyncio.create_task(web.serve(sockets=[listener]))
    host, port = listener.getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        web.should_exit = True
        await running
        listener.close()


@dataclass
class Agent:
    """Echoes, and remembers what it was shown. A WebSocket does what its texts say; `left`: how they were closed."""

    seen: list[dict[str, Any]] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    sent_bytes: int = 0
    got_bytes: int = 0
    silent: asyncio.Event = field(default_factory=asyncio.Event)
    open: dict[str, WebSocket] = field(default_factory=dict)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                WebSocketRoute("/v1/shell", self.shell),
                WebSocketRoute("/v1/terminal", self.shell),
                WebSocketRoute("/moved", self.moved),
                Route("/echo", self.echo, methods=["GET", "POST", "PUT"]),
                Route("/away", self.away),
                Route("/endless", self.endless),
                Route("/broken", self.broken),
            ]
        )

    def note(self, scope: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append({"path": scope["raw_path"].decode(), "query": scope["query_string"].decode(), **headers})

    async def shell(self, websocket: WebSocket) -> None:
        self.note(websocket.scope)
        await websocket.accept()
        try:
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    self.left.append(message["code"])
                    return
                if message.get("bytes") is not None:
                    await websocket.send_bytes(message["bytes"])
                elif not await self.obey(websocket, message["text"]):
                    return
        except WebSocketDisconnect as exc:
            self.left.append(exc.code)

    async def obey(self, websocket: WebSocket, text: str) -> bool:
        match text.split():
            case ["close", code]:
                await websocket.close(int(code), "as you wish")
            case ["drop"]:
                pass
            case ["flood", size]:
                while True:
                    await websocket.send_bytes(bytes(int(size)))
                    self.sent_bytes += int(size)
            case ["deaf"]:
                self.silent.set()
                await asyncio.Event().wait()
            case ["name", name]:
                self.open[name] = websocket
                await websocket.send_text(name)
                return True
            case _:
                await websocket.send_text(text)
                return True
        return False

    async def moved(self, websocket: WebSocket) -> None:
        await websocket.send_denial_response(RedirectResponse("/v1/shell", 307))

    async def echo(self, request: Request) -> Response:
        self.note(request.scope)
        body = await request.body()
        headers = {
            "set-cookie": "a=b",
            "x-frame-options": "x",
            "content-security-policy": "default-src *",
            "x-own": "1",
        }
        return Response(body, 207, headers, "text/html")

    async def away(self, request: Request) -> Response:
        return RedirectResponse("/echo", 302)

    async def endless(self, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(65_536)
                    self.sent_bytes += 65_536
                    await asyncio.sleep(0)  # uvicorn takes what nobody waits for at once, and nobody else got a turn
            finally:
                self.silent.set()

        return StreamingResponse(chunks())

    async def broken(self, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"
            raise ConnectionAbortedError("on purpose")

        return StreamingResponse(chunks(), headers={"content-length": "10"})


@dataclass
class House:
    """What the relay stands on: the part of the services that it uses, and the stand-in agent."""

    http: aiohttp.ClientSession
    agent: Agent = field(default_factory=Agent)
    store: MemoryStore = field(default_factory=MemoryStore)
    agents: MemoryAgents = field(default_factory=MemoryAgents)
    provider: MemoryProvider = field(default_factory=MemoryProvider)
    key_store: MemoryKeys = field(default_factory=MemoryKeys)
    url: str = ""

    def __post_init__(self) -> None:
        self.tickets = Tickets(new_private_key(), clock=utc_now)
        self.keys = Keys(self.key_store, KEY, clock=utc_now)
        providers: Any = {self.provider.name: self.provider}
        ports = Ports(self.store, MemoryTasks(), MemoryBuckets(), self.agents, providers, self.tickets, utc_now)
        self.sessions = self.workspaces = Sessions(ports)
        for secret, tenant, scope in ((OTHERS_KEY, "other", "sessions"), (KEYS_KEY, "default", "admin")):
            self.key_store.keys[digest(secret)] = ApiKey(digest(secret), "x", tenant, frozenset({scope}), utc_now())

    def ws(self, path: str = "") -> str:
        """A URL of the relay; by default the shell's."""
        return f"ws{self.url.removeprefix('http')}{path or f'/v1/sessions/{SESSION}/shell'}"

    def http_url(self, path: str) -> str:
        return f"{self.url}/v1/sessions/{SESSION}/agent{path}"

    def session(self, agent_url: str, **changes: Any) -> Session:
        """Record a session that runs there."""
        times = {"created_at": utc_now(), "expires_at": utc_now().replace(year=2100)}
        session = a_session(**{"id": SESSION, "url": agent_url, **times, **changes})
        self.store.documents[session.id] = session
        self.provider.conditions[session.id] = Condition(Health.STARTING, "it restarts")
        self.provider.made[session.id] = {}
        return session

    def delete(self) -> None:
        del self.store.documents[SESSION]

    def ticket(self, session_id: str = SESSION) -> str:
        return self.tickets.fresh(session_id, "test").token


@asynccontextmanager
async def house(agent_url: str | None = None) -> AsyncIterator[House]:
    """The relay, and the session that it passes on to: the stand-in's, or another agent's."""
    async with (
        http_client(aiohttp.TCPConnector(keepalive_timeout=3.0)) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        made = House(client)
        if agent_url is None:
            agent_url = await stack.enter_async_context(serving(made.agent.app))
        made.session(agent_url)
        loop = asyncio.get_running_loop()
        services: Any = wiring._services
        services[loop] = made
        stack.callback(services.pop, loop)
        made.url = await stack.enter_async_context(serving(relay_app))
        yield made


@asynccontextmanager
async def watchful(house: House) -> AsyncIterator[str]:
    """A relay of the shell that looks all the time whether the session is over; its address."""
    services: Any = house
    relay = Relay(services, house.sessions, look_s=QUICK_LOOK_S)

    async def shell(scope: Any, receive: Any, send: Any) -> None:
        await relay.websocket(SESSION, b"/v1/shell", scope, receive, send)

    async with serving(shell) as url:
        yield url


async def ending(socket: aiohttp.ClientWebSocketResponse) -> tuple[list[Any], int | None, str]:
    """What is still said, the close code, and its reason."""
    said: list[Any] = []
    async with asyncio.timeout(SOON_S):
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                said.append(message.json() if message.data.startswith("{") else message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                said.append(message.data)
            else:
                return said, socket.close_code, str(message.extra or "")


@contextmanager
def nobody() -> Iterator[str]:
    """An address where nothing listens."""
    with contextlib.closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}"
