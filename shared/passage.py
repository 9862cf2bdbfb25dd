"""Passing one HTTP exchange on, from an ASGI scope to a URL: as it streams, in both directions.

In each direction one chunk is in hand and nothing is queued: a side that does not read makes the other side wait.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from ssl import SSLContext
from typing import Any, TypeVar

import aiohttp
from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send
from yarl import URL

CONNECT_TIMEOUT_S = 5.0
NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
ADDED_BY_THE_CLIENT = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
# RFC 9110, 7.6.1; Expect was answered where it arrived.
HOP_BY_HOP = frozenset(
    b"connection expect keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
Header = tuple[bytes, bytes]
T = TypeVar("T")


class Unreachable(Exception):
    """There was no connection: nothing was sent."""


class Lost(Exception):
    """The connection broke, and nobody knows what the other side did."""


def http_client(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """A client for servers that are not ours: it keeps no cookie."""
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def raw_path(scope: Scope) -> bytes:
    """The path as the client wrote it, with its percent-encoding."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0]


def join(base: str, path: bytes, query: bytes) -> URL:
    """A URL of parts that are percent-encoded already. `path` begins with a slash."""
    tail = path + b"?" + query if query else path
    return URL(base + tail.decode("latin-1"), encoded=True)


async def pass_http(
    client: aiohttp.ClientSession,
    url: URL,
    headers: Iterable[Header],
    scope: Scope,
    receive: Receive,
    send: Send,
    ssl: SSLContext | None = None,
) -> None:
    """Answer one request with another server's answer. `headers` are sent as they are, but for those of one hop.

    `ssl`: whom to trust; None: the public authorities.

    Raises Unreachable and Lost before the answer began, ConnectionAbortedError when it broke off. A client that goes
    away takes the connection with it.
    """
    upload = _Upload(receive)
    body = await upload.body()
    streamed = body is not None and not isinstance(body, bytes)
    chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
    kept = end_to_end(headers, *([b"content-length"] if streamed and chunked else []))
    await first(_answer(client, scope["method"], url, kept, body, send, ssl), upload.left())


async def _answer(
    client: aiohttp.ClientSession,
    method: str,
    url: URL,
    headers: CIMultiDict[str],
    body: Any,
    send: Send,
    ssl: SSLContext | None,
) -> None:
    started = False
    try:
        async with client.request(
            method,
            url,
            data=body,
            headers=headers,
            skip_auto_headers=ADDED_BY_THE_CLIENT,
            allow_redirects=False,
            auto_decompress=False,
            timeout=NO_LIMIT,
            ssl=ssl or True,
        ) as answer:
            lowered = [(name.lower(), value) for name, value in answer.raw_headers]
            kept = [(name, value) for name, value in lowered if name not in HOP_BY_HOP]
            started = True
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
        raise Unreachable(f"nothing answers there ({type(exc).__name__})") from exc
    except (aiohttp.ClientError, OSError) as exc:
        if started:
            raise ConnectionAbortedError("the workspace's answer broke off") from exc  # so does ours
        raise Lost(f"the connection broke before the answer ({type(exc).__name__})") from exc


async def first(*works: Coroutine[Any, Any, T]) -> T:
    """Run all until one is done; its outcome. When several are, that of the first of them."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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


def end_to_end(headers: Iterable[Header], *more: bytes) -> CIMultiDict[str]:
    """The headers without those of one hop, and without `more`."""
    return CIMultiDict(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name not in HOP_BY_HOP and name not in more
    )
