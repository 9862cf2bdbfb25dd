"""The seam to the network: requests that get one response or one typed error, WebSockets, pauses and locks.

Both transports speak async; the blocking one never suspends, so that its callers can be run to their end in one step.
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import httpx

from .errors import ConnectError, ConnectionLost, ConnectTimeout, InvalidResponse, Timeout, TransportError

CONNECT_S = 5.0
WRITE_S = 30.0  # for one chunk, not for the whole body

# An idle connection must be dropped on this side first: a request sent while the other side closes is lost, and a lost
# execute cannot be repeated. uvicorn closes after 5 s; Google's front ends after 610 s
# (cloud.google.com/load-balancing/docs/https/#timeout-keepalive-client).
KEEPALIVE_S: Mapping[str, float] = {"http": 3.0, "https": 60.0}
KEPT_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `url` is absolute, without a query; `timeout_s`: the wait for the answer's next bytes."""

    method: str
    url: str
    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str | int | float] = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


class SocketClosed(ConnectionLost):
    """A WebSocket is closed; `code` and `reason` are the other side's, None when the connection just broke."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        how = "the connection broke" if self.code is None else f"the connection was closed with {self.code}"
        return f"{how}{': ' if self.reason else ''}{self.reason}"


class Socket(Protocol):
    """An open WebSocket, for one reader at a time. Raises SocketClosed when it is no longer open."""

    async def send(self, message: str | bytes) -> None: ...

    async def receive(self, timeout_s: float | None) -> str | bytes:
        """The next message, also one that came before the end. Raises Timeout; what comes later is not lost then."""

    async def close(self) -> None:
        """Idempotent."""


class Transport(Protocol):
    """Sends requests and waits between them."""

    async def send(self, request: Request) -> httpx.Response:
        """The response with its body read, whatever its status. Raises TransportErrors, nothing of httpx."""

    async def open(self, url: str, headers: Mapping[str, str], timeout_s: float, pong_s: float | None) -> Socket:
        """A WebSocket. Redirects are not followed: `headers` hold secrets. Raises TransportErrors and APIErrors.

        `pong_s`: how long the other side may take to answer a ping, None for ever.
        """

    def lock(self) -> AbstractAsyncContextManager[None]:
        """A lock that waits as this transport waits; each `async with` takes it anew."""

    async def sleep(self, pause_s: float) -> None: ...

    async def close(self) -> None:
        """Idempotent."""


class BlockingTransport:
    """Blocks its thread; safe to share between threads. A client that was brought along stays open at `close`."""

    def __init__(self, scheme: str, http: httpx.Client | None = None) -> None:
        self._owned = http is None
        self._http = http or httpx.Client(limits=_limits(scheme), verify=_tls())

    async def send(self, request: Request) -> httpx.Response:
        with _translated(request):
            return self._http.send(_built(self._http, request), follow_redirects=False, **_auth(request))

    async def open(self, url: str, headers: Mapping[str, str], timeout_s: float, pong_s: float | None) -> Socket:
        from .sockets import BlockingSocket  # with its package 40 ms, which only shells need

        return BlockingSocket(url, headers, timeout_s, pong_s, _tls() if url.startswith("wss:") else None)

    def lock(self) -> AbstractAsyncContextManager[None]:
        return ThreadLock()

    async def sleep(self, pause_s: float) -> None:
        time.sleep(pause_s)  # noqa: ASYNC251  # blocking is what this transport is for

    async def close(self) -> None:
        if self._owned:
            self._http.close()


class AsyncTransport:
    """For one event loop. A client that was brought along stays open at `close`."""

    def __init__(self, scheme: str, http: httpx.AsyncClient | None = None) -> None:
        self._owned = http is None
        self._http = http or httpx.AsyncClient(limits=_limits(scheme), verify=_tls())

    async def send(self, request: Request) -> httpx.Response:
        with _translated(request):
            return await self._http.send(_built(self._http, request), follow_redirects=False, **_auth(request))

    async def open(self, url: str, headers: Mapping[str, str], timeout_s: float, pong_s: float | None) -> Socket:
        from .sockets import AsyncSocket

        return await AsyncSocket.opened(url, headers, timeout_s, pong_s, _tls() if url.startswith("wss:") else None)

    def lock(self) -> AbstractAsyncContextManager[None]:
        return asyncio.Lock()

    async def sleep(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)

    async def close(self) -> None:
        if self._owned:
            await self._http.aclose()


class ThreadLock(AbstractAsyncContextManager[None]):
    """A lock between threads, for coroutines that never suspend."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


@cache
def _tls() -> ssl.SSLContext:
    """One for all clients: reading the certificate authorities takes 60 ms."""
    return httpx.create_ssl_context()


def _limits(scheme: str) -> httpx.Limits:
    # No cap on connections: a command holds one for as long as it runs, and how many run is the caller's choice.
    return httpx.Limits(
        max_connections=None,
        max_keepalive_connections=KEPT_CONNECTIONS,
        keepalive_expiry=KEEPALIVE_S[scheme],
    )


def _built(http: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
    return http.build_request(
        request.method,
        request.url,
        headers=dict(request.headers),
        params=dict(request.query) or None,
        json=request.json,
        timeout=httpx.Timeout(request.timeout_s, connect=CONNECT_S, write=WRITE_S, pool=None),
    )


def _auth(request: Request) -> dict[str, Any]:
    """None where the request has its own credentials: those of a client that was brought along are the service's."""
    return {"auth": None} if "Authorization" in request.headers else {}


@contextmanager
def _translated(request: Request) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
        raise ConnectTimeout(f"{request}: no connection within {CONNECT_S:g} s") from exc
    except (httpx.ConnectError, httpx.ProxyError) as exc:
        raise ConnectError(f"{request}: no connection: {exc}") from exc
    except httpx.TimeoutException as exc:
        raise Timeout(f"{request}: no answer within {request.timeout_s:g} s") from exc
    except httpx.NetworkError as exc:
        raise ConnectionLost(f"{request}: the connection broke: {exc or type(exc).__name__}") from exc
    except httpx.RemoteProtocolError as exc:
        raise ConnectionLost(f"{request}: the answer broke off: {exc}") from exc
    except httpx.DecodingError as exc:
        raise InvalidResponse(f"{request}: the answer cannot be decoded: {exc}") from exc
    except httpx.RequestError as exc:
        raise TransportError(f"{request}: {exc or type(exc).__name__}") from exc
