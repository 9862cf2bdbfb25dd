"""Kubernetes' channels over a WebSocket: each message begins with a byte that says which stream it belongs to.

The protocols: v4.channel.k8s.io, and v5, in which (255, CHANNEL) ends a channel.
"""

import asyncio
import json
from typing import Any, Final, NoReturn

from starlette.types import Receive, Scope, Send

from infra.emulators.kubernetes.statuses import BadRequest, StatusError
from shared.socket_passage import GONE, goodbye

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE: Final = 255
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
CHUNK: Final = 1 << 16
NORMAL: Final = 1000
SUCCESS: Final[dict[str, Any]] = {"metadata": {}, "status": "Success"}


class Departed(Exception):
    """The client has gone, or ends the connection."""


class Channels:
    """One accepted WebSocket."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, protocol: str) -> None:
        self.protocol = protocol
        self._receive = receive
        self._send = send
        self._lost: asyncio.Future[None] | None = (scope.get("state") or {}).get("lost")

    async def read(self) -> tuple[int, bytes]:
        """(channel, data) of the next message. Raises Departed."""
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                raise Departed
            text = message.get("text")
            data = text.encode() if text is not None else message.get("bytes") or b""
            if data:
                return data[0], data[1:]

    async def write(self, channel: int, data: bytes) -> None:
        """Waits while the client has not read enough. Raises Departed."""
        for start in range(0, len(data) or 1, CHUNK):
            try:
                await self._send({"type": "websocket.send", "bytes": bytes((channel,)) + data[start : start + CHUNK]})
            except GONE as exc:
                raise Departed from exc

    async def close(self, status: dict[str, Any]) -> None:
        """How it ended, on the error channel: the last thing that is said."""
        await self.write(ERROR, json.dumps(status, separators=(",", ":")).encode())
        await self.end()

    async def end(self) -> None:
        await goodbye(self._send, NORMAL)

    async def departure(self) -> NoReturn:
        """Raises Departed when the connection is lost, also while nobody reads from it."""
        await asyncio.shield(self._lost or asyncio.get_running_loop().create_future())
        raise Departed


async def accepted(scope: Scope, receive: Receive, send: Send, offered: tuple[str, ...]) -> Channels:
    """Accept with the client's first protocol of `offered`. Raises BadRequest."""
    protocol = agreed(scope, offered)
    await receive()
    await send({"type": "websocket.accept", "subprotocol": protocol})
    return Channels(scope, receive, send, protocol)


def agreed(scope: Scope, offered: tuple[str, ...]) -> str:
    """Raises BadRequest: no WebSocket, or none of its protocols is spoken here."""
    if scope["type"] != "websocket":
        upgrade = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"upgrade"), "")
        told = "Upgrade request required" if not upgrade else f"unable to upgrade: {upgrade} is not spoken here"
        raise BadRequest(f"{told}: use a WebSocket with one of the protocols {', '.join(offered)}")
    wanted: list[str] = scope.get("subprotocols") or []
    protocol = next((one for one in wanted if one in offered), None)
    if protocol is None:
        raise BadRequest(
            f"unable to upgrade: none of the protocols {', '.join(wanted) or '(none)'} is spoken here; "
            f"wanted one of {', '.join(offered)}"
        )
    return protocol


def exit_status(code: int) -> dict[str, Any]:
    if code == 0:
        return SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: command terminated with exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure(error: StatusError) -> dict[str, Any]:
    body = error.body()
    return {key: body[key] for key in body if key not in ("kind", "apiVersion")}
