"""A transport that plays a script: each try gets the next response or error. Pauses are noted, not waited."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

from sdk.python.direct import Direct
from sdk.python.faces import BlockingContext
from sdk.python.link import Link
from sdk.python.retries import Retries
from sdk.python.sessions import AsyncSessions, Sessions
from sdk.python.transport import Request, SocketClosed, ThreadLock
from sdk.python.workspaces import WithWorkspaces

Turn = httpx.Response | Exception


class ScriptedSocket:
    """A WebSocket whose other end plays a script: each `receive` gets the next message, or what it raises."""

    def __init__(self, *turns: str | bytes | Exception) -> None:
        self.turns = list(turns)
        self.sent: list[str | bytes] = []
        self.closed = False
        self.url = ""
        self.headers: Mapping[str, str] = {}

    async def send(self, message: str | bytes) -> None:
        if self.turns and isinstance(self.turns[0], SocketClosed):
            raise self.turns[0]
        self.sent.append(message)

    async def receive(self, timeout_s: float | None) -> str | bytes:
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    async def close(self) -> None:
        self.closed = True


class ScriptedTransport:
    """Never suspends, so it serves both faces."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = list(turns)
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self.sockets: list[ScriptedSocket | Exception] = []
        self.opened: list[ScriptedSocket] = []
        self.now = 1000.0
        self.closed = False

    async def send(self, request: Request) -> httpx.Response:
        self.requests.append(request)
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        turn.request = httpx.Request(request.method, request.url)
        return turn

    async def open(
        self, url: str, headers: Mapping[str, str], timeout_s: float, pong_s: float | None
    ) -> ScriptedSocket:
        socket = self.sockets.pop(0)
        if isinstance(socket, Exception):
            raise socket
        socket.url, socket.headers = url, headers
        self.opened.append(socket)
        return socket

    def lock(self) -> AbstractAsyncContextManager[None]:
        return ThreadLock()

    async def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        self.now += pause_s

    async def close(self) -> None:
        self.closed = True


class ScriptedClient(WithWorkspaces, BlockingContext):
    """The blocking face over a script. The clock is the transport's: only pauses and the test move it."""

    def __init__(
        self, *turns: Turn, retries: Retries | None = None, direct: bool = False, base_url: str = "http://service"
    ) -> None:
        self.transport = ScriptedTransport(turns)
        link = Link(
            transport=self.transport,
            base_url=base_url,
            api_key="key",
            timeout_s=30,
            retries=retries or Retries(),
            clock=lambda: self.transport.now,
        )
        super().__init__(link)
        self._core = WithWorkspaces(link, Direct(link) if direct else None)
        self.sessions = Sessions(AsyncSessions(self._core))

    def play(self, *turns: Turn) -> None:
        """More of the script."""
        self.transport.turns.extend(turns)

    @property
    def last(self) -> Request:
        return self.transport.requests[-1]


def ok(**body: Any) -> httpx.Response:
    """A 200 with a JSON object."""
    return httpx.Response(200, json=body)


def refusal(status: int, detail: str = "no", *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    """An error as the service writes it."""
    return httpx.Response(status, json={"detail": detail, **body}, headers=headers)
