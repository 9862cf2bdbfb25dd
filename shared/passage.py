"""Passing one HTTP exchange or one WebSocket on, from an ASGI scope to a URL: as it streams, in both directions.

In each direction one message is in hand and nothing is queued: a side that does not read makes the other side wait.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send
from yarl import URL

CONNECT_TIMEOUT_S = 5.0
HANDSHAKE_TIMEOUT_S = 15.0  # a workspace that scales from zero answers by then
CLOSE_TIMEOUT_S = 5.0  # for the goodbyes: who doesn't read doesn't hear them
NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
ADDED_BY_THE_CLIENT = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
MAX_ANSWER_BYTES = (
    16 << 20
)  # of the agent's messages: two outputs of 1,000,000 bytes, each byte a \uXXXX in the worst case
MAX_REASON_BYTES = 123  # RFC 6455, 5.5

# RFC 9110, 7.6.1; Expect was answered where it arrived.
HOP_BY_HOP = frozenset(
    b"connection expect keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)

# RFC 6455, 7.4.1: what may stand in a close frame, and what stands for one that held nothing or never came.
NORMAL, GOING_AWAY, NO_CODE, ABNORMAL, BAD_GATEWAY = 1000, 1001, 1005, 1006, 1014
SENDABLE = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})

# uvicorn's settings for WebSockets. A peer that is read slowly answers pings late and is not dead for that, so the
# pings only keep the way open: no wait for an answer is shorter than Cloud Run's longest request.
SERVER: Final[dict[str, Any]] = {
    "ws": "shared.websocket_server:Protocol",
    "ws_max_size": 1 << 20,  # the agent's own limit for what clients send
    "ws_per_message_deflate": False,
    "ws_ping_timeout": 3600.0,
}

# What sending to a client that is gone raises: uvicorn's ClientDisconnected, and its complaint where it closed itself.
GONE = (OSError, RuntimeError)

Header = tuple[bytes, bytes]
T = TypeVar("T")


class Unreachable(Exception):
    """There was no connection: nothing was sent."""


class Lost(Exception):
    """The connection broke, and nobody knows what the other side did."""


class Refused(Exception):
    """The other side answered the WebSocket's handshake with an HTTP `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the workspace answered {status}")
        self.status = status


class Redirected(aiohttp.ClientError):
    """The other side wants to be asked elsewhere, with `status`. Unlike aiohttp's own errors it repeats no header."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it answered {status}, a redirect")
        self.status = status


@dataclass(frozen=True, slots=True)
class End:
    """How a WebSocket ended, and whether its client ended it. ABNORMAL: without a close frame."""

    code: int
    reason: str = ""
    by_client: bool = False


def http_client(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """A client for servers that are not ours: it keeps no cookie."""
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def _handshaker(client: aiohttp.ClientSession) -> aiohttp.ClientSession:
    """A client with the same connections that follows no redirect, which `ws_connect` has no argument for."""
    policy = aiohttp.TraceConfig()
    policy.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(
        connector=client.connector,
        connector_owner=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[policy],  # slows each request a little, so the other client has none
    )


async def _refuse_redirect(_: Any, __: Any, params: aiohttp.TraceRequestRedirectParams) -> None:
    params.response.close()
    raise Redirected(params.response.status)


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
) -> None:
    """Answer one request with another server's answer. `headers` are sent as they are, but for those of one hop.

    Raises Unreachable and Lost before the answer began, ConnectionAbortedError when it broke off. A client that goes
    away takes the connection with it.
    """
    upload = _Upload(receive)
    body = await upload.body()
    streamed = body is not None and not isinstance(body, bytes)
    chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
    kept = _end_to_end(headers, *([b"content-length"] if streamed and chunked else []))
    await first(_answer(client, scope["method"], url, kept, body, send), upload.left())


async def _answer(
    client: aiohttp.ClientSession, method: str, url: URL, headers: CIMultiDict[str], body: Any, send: Send
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


@asynccontextmanager
async def websocket(
    client: aiohttp.ClientSession, url: URL, headers: Iterable[Header], protocols: Iterable[str] = ()
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket to another server, closed at the end. `headers` are sent, but for those of one hop and handshake.

    Raises Unreachable, Lost and Refused.
    """
    given = [(name, value) for name, value in headers if not name.startswith(b"sec-websocket-")]
    async with _handshaker(client) as handshaker:
        there = await _connected(handshaker, url, _end_to_end(given), tuple(protocols))
        try:
            yield there
        finally:
            await hang_up(there, GOING_AWAY)


async def _connected(
    client: aiohttp.ClientSession, url: URL, headers: CIMultiDict[str], protocols: tuple[str, ...]
) -> aiohttp.ClientWebSocketResponse:
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            return await client.ws_connect(
                url, headers=headers, protocols=protocols, autoclose=False, max_msg_size=MAX_ANSWER_BYTES
            )
    except (aiohttp.WSServerHandshakeError, Redirected) as exc:
        raise Refused(exc.status) from None  # its text holds the URL, and that a ticket
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
        raise Unreachable(f"nothing answers there ({type(exc).__name__})") from exc
    except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
        raise Lost(f"the connection broke before it was open ({type(exc).__name__})") from exc


async def exchange(there: aiohttp.ClientWebSocketResponse, scope: Scope, receive: Receive, send: Send) -> End:
    """Carry messages both ways until one side ends it. Neither side is closed yet."""
    ends = [_down(there, send), _up(there, receive)]
    if lost := scope.get("state", {}).get("lost"):  # as shared.websocket_server tells it
        ends.append(_lost(lost))
    return await first(*ends)


async def _lost(connection: asyncio.Future[None]) -> End:
    """The client's connection, also while its message waits for an agent that does not read."""
    await asyncio.shield(connection)
    return End(ABNORMAL, by_client=True)


async def _up(there: aiohttp.ClientWebSocketResponse, receive: Receive) -> End:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return End(message.get("code", NO_CODE), message.get("reason") or "", by_client=True)
        try:
            if message.get("text") is not None:
                await there.send_str(message["text"])
            else:
                await there.send_bytes(message["bytes"])
        except (aiohttp.ClientError, OSError):
            await asyncio.get_running_loop().create_future()  # what it still said comes first: `_down` finds its end


async def _down(there: aiohttp.ClientWebSocketResponse, send: Send) -> End:
    while True:
        message = await there.receive()
        try:
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    await send({"type": "websocket.send", "text": message.data})
                case aiohttp.WSMsgType.BINARY:
                    await send({"type": "websocket.send", "bytes": message.data})
                case aiohttp.WSMsgType.CLOSE:
                    return End(message.data or NO_CODE, message.extra or "")
                case aiohttp.WSMsgType.ERROR:
                    return End(BAD_GATEWAY, f"the workspace broke the protocol: {message.data}")
                case _:
                    return End(ABNORMAL)
        except GONE:
            return End(ABNORMAL, by_client=True)


async def pass_websocket(
    client: aiohttp.ClientSession,
    url: URL,
    headers: Iterable[Header],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Accept a WebSocket once another server has, and end it as either side ends it. Raises as `websocket` does."""
    await receive()
    async with websocket(client, url, headers, scope.get("subprotocols", ())) as there:
        await send({"type": "websocket.accept", "subprotocol": there.protocol})
        end = await exchange(there, scope, receive, send)
        if end.by_client:
            await hang_up(there, end.code, end.reason)
        elif end.code != ABNORMAL:  # else the server drops the client's connection, as the agent dropped ours
            await goodbye(send, end.code, end.reason)


async def goodbye(send: Send, code: int, reason: str = "", *before: str) -> None:
    """Close the client's side, after the text messages of `before`; not for a client that does not read."""
    with contextlib.suppress(*GONE):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            for text in before:
                await send({"type": "websocket.send", "text": text})
            await send({"type": "websocket.close", "code": _sendable(code), "reason": _clipped(reason).decode()})


async def hang_up(there: aiohttp.ClientWebSocketResponse, code: int, reason: str = "") -> None:
    """Close the other server's side; what it has not read after a while is thrown away. Idempotent."""
    if there.closed:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await there.close(code=_sendable(code), message=_clipped(reason))
    transport = there._writer.transport  # noqa: SLF001 - aiohttp only closes it, which waits for a peer that doesn't read
    asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, transport.abort)


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


def _end_to_end(headers: Iterable[Header], *more: bytes) -> CIMultiDict[str]:
    return CIMultiDict(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name not in HOP_BY_HOP and name not in more
    )


def _sendable(code: int) -> int:
    return code if code in SENDABLE else NORMAL


def _clipped(reason: str) -> bytes:
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
