"""WebSockets over the `websockets` package. Slow to import: transport.py does, when the first one is wanted."""

import asyncio
import logging
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import httpx
from websockets.asyncio import client as asynchronous
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)
from websockets.http11 import Response
from websockets.sync import client as blocking

from . import answers
from .errors import ConnectError, ConnectionLost, ConnectTimeout, InvalidResponse, OnMemOSError, Timeout, TransportError
from .transport import SocketClosed

MAX_MESSAGE_BYTES = 32 * 1024 * 1024  # the agent's frames are at most 1 MiB; a newer one's may be larger
CLOSE_S = 5.0

# The package writes headers and messages down at DEBUG: keys, tickets, and what people type.
_log = logging.getLogger(f"{__name__}.frames")
_log.setLevel(logging.INFO)


class BlockingSocket:
    """A Socket that blocks its thread. Other threads may send while one receives."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        timeout_s: float,
        pong_s: float | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._exit = ExitStack()
        options = _options(headers, timeout_s, pong_s, tls)
        with _opening(url, timeout_s):
            connection = blocking.connect(url, create_connection=_BlockingConnection, **options)
            self._connection = self._exit.enter_context(connection)

    async def send(self, message: str | bytes) -> None:
        with _translated():
            self._connection.send(message)

    async def receive(self, timeout_s: float | None) -> str | bytes:
        with _translated(timeout_s):
            message: str | bytes = self._connection.recv(timeout_s)
            return message

    async def close(self) -> None:
        self._exit.close()


class AsyncSocket:
    """A Socket for one event loop."""

    def __init__(self, connection: asynchronous.ClientConnection) -> None:
        self._connection = connection

    @classmethod
    async def opened(
        cls,
        url: str,
        headers: Mapping[str, str],
        timeout_s: float,
        pong_s: float | None,
        tls: ssl.SSLContext | None,
    ) -> Self:
        options = _options(headers, timeout_s, pong_s, tls)
        with _opening(url, timeout_s):
            return cls(await asynchronous.connect(url, create_connection=_AsyncConnection, **options))

    async def send(self, message: str | bytes) -> None:
        with _translated():
            await self._connection.send(message)

    async def receive(self, timeout_s: float | None) -> str | bytes:
        with _translated(timeout_s):
            async with asyncio.timeout(timeout_s):
                return await self._connection.recv()

    async def close(self) -> None:
        await self._connection.close()


class _BlockingConnection(blocking.ClientConnection):
    def handshake(self, *args: Any, **kwargs: Any) -> None:
        with _refused(self.protocol.uri):
            super().handshake(*args, **kwargs)


class _AsyncConnection(asynchronous.ClientConnection):
    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        with _refused(self.protocol.uri):
            await super().handshake(*args, **kwargs)


def _options(
    headers: Mapping[str, str], timeout_s: float, pong_s: float | None, tls: ssl.SSLContext | None
) -> dict[str, Any]:
    options = {
        "additional_headers": dict(headers),
        "user_agent_header": None,  # it is among the headers
        "compression": None,
        "open_timeout": timeout_s,
        "ping_timeout": pong_s,
        "close_timeout": CLOSE_S,
        "max_size": MAX_MESSAGE_BYTES,
        "logger": _log,
    }
    return options | ({"ssl": tls} if tls is not None else {})


@contextmanager
def _refused(uri: Any) -> Iterator[None]:
    """Here and not further out, where the package would follow a redirect with our headers."""
    try:
        yield
    except InvalidStatus as exc:
        answers.read(_as_httpx(exc.response, uri))  # raises what any answer with this status raises
        raise InvalidResponse(f"HTTP {exc.response.status_code} where a WebSocket is wanted") from exc


def _as_httpx(response: Response, uri: Any) -> httpx.Response:
    request = httpx.Request("GET", f"http{'s' if uri.secure else ''}://{uri.host}:{uri.port}{uri.path}")
    headers = [(name, value) for name, value in response.headers.raw_items() if name.lower() != "content-encoding"]
    return httpx.Response(response.status_code, headers=headers, content=bytes(response.body or b""), request=request)


@contextmanager
def _opening(url: str, timeout_s: float) -> Iterator[None]:
    where = f"WebSocket {url.partition('?')[0]}"
    try:
        yield
    except OnMemOSError:
        raise
    except TimeoutError as exc:
        raise ConnectTimeout(f"{where}: not open within {timeout_s:g} s") from exc
    except (OSError, ProxyError) as exc:
        raise ConnectError(f"{where}: no connection: {exc}") from exc
    except (InvalidMessage, ConnectionClosed, EOFError) as exc:
        raise ConnectionLost(f"{where}: the connection broke: {exc}") from exc
    except InvalidHandshake as exc:
        raise InvalidResponse(f"{where}: what answers is no WebSocket: {exc}") from exc
    except WebSocketException as exc:
        raise TransportError(f"{where}: {exc}") from exc


@contextmanager
def _translated(timeout_s: float | None = None) -> Iterator[None]:
    try:
        yield
    except TimeoutError as exc:
        raise Timeout(f"no message within {timeout_s} s") from exc
    except ConnectionClosed as exc:
        received = exc.rcvd
        raise SocketClosed(received.code if received else None, received.reason if received else "") from exc
