"""A transport that plays a script: each try gets the next response or error. Pauses are noted, not waited."""

from collections.abc import Sequence
from typing import Any

import httpx

from sdk.python.faces import Blocking
from sdk.python.link import Link
from sdk.python.operations import Operations
from sdk.python.retries import Retries
from sdk.python.transport import Request

Turn = httpx.Response | Exception


class ScriptedTransport:
    """Never suspends, so it serves both faces."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = list(turns)
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self.closed = False

    async def send(self, request: Request) -> httpx.Response:
        self.requests.append(request)
        turn = self._turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        turn.request = httpx.Request(request.method, request.url)
        return turn

    async def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)

    async def close(self) -> None:
        self.closed = True


class ScriptedClient(Operations, Blocking):
    """The blocking face over a script."""

    def __init__(self, *turns: Turn, retries: Retries | None = None) -> None:
        self.transport = ScriptedTransport(turns)
        link = Link(
            transport=self.transport,
            base_url="http://service",
            api_key="key",
            timeout_s=30,
            retries=retries or Retries(),
        )
        super().__init__(link)
        self._core = Operations(link)

    @property
    def last(self) -> Request:
        return self.transport.requests[-1]


def ok(**body: Any) -> httpx.Response:
    """A 200 with a JSON object."""
    return httpx.Response(200, json=body)


def refusal(status: int, detail: str = "no", *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    """An error as the service writes it."""
    return httpx.Response(status, json={"detail": detail, **body}, headers=headers)
