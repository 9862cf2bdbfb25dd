"""Passing one WebSocket on, from an ASGI scope to a URL, until either side ends it.

In each direction one message is in hand and nothing is queued: a side that does not read makes the other side wait.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

import aiohttp
from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send
from yarl import URL

from shared.passage import Header, Lost, Unreachable, end_to_end, first

HANDSHAKE_TIMEOUT_S = 15.0  # a workspace that scales from zero answers by then
CLOSE_TIMEOUT_S = 5.0  # for the goodbyes: who doesn't read doesn't hear them
MAX_ANSWER_BYTES = 2 << 20  # of one message of the agent, whose frames are at most 1 MiB
MAX_REASON_BYTES = 123  # RFC 6455, 5.5
# RFC 6455, 7.4.1: what may stand in a close frame, and what stands for one that held nothing or never came.
NORMAL, GOING_AWAY, NO_CODE, ABNORMAL, BAD_GATEWAY = 1000, 1001, 1005, 1006, 1014
SENDABLE = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})
# What sending to a client that is gone raises: uvicorn's ClientDisconnected, and its complaint where it closed itself.
GONE = (OSError, RuntimeError)


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


@asynccontextmanager
async def websocket(
    client: aiohttp.ClientSession,
    url: URL,
    headers: Iterable[Header],
    protocols: Iterable[str] = (),
    ssl: SSLContext | None = None,
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket to another server, closed at the end. `headers` are sent, but for those of one hop and handshake.

    Raises Unreachable, Lost and Refused.
    """
    given = [(name, value) for name, value in headers if not name.startswith(b"sec-websocket-")]
    async with _handshaker(client) as handshaker:
        there = await _connected(handshaker, url, end_to_end(given), tuple(protocols), ssl)
        try:
            yield there
        finally:
            await hang_up(there, GOING_AWAY)


async def _connected(
    client: aiohttp.ClientSession,
    url: URL,
    headers: CIMultiDict[str],
    protocols: tuple[str, ...],
    ssl: SSLContext | None,
) -> aiohttp.ClientWebSocketResponse:
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            return await client.ws_connect(
                url,
                headers=headers,
                protocols=protocols,
                autoclose=False,
                max_msg_size=MAX_ANSWER_BYTES,
                ssl=ssl or True,
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


def _sendable(code: int) -> int:
    return code if code in SENDABLE else NORMAL


def _clipped(reason: str) -> bytes:
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
