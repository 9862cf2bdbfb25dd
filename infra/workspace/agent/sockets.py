"""One accepted WebSocket, as its conversations see it."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .errors import Abandoned

DONE = 1000  # the codes of a close: RFC 6455, 7.4.1, and the IANA registry
WRONG = 1008
FAILED = 1011
RESTARTING = 1012
TRY_AGAIN = 1013
BAD_TICKET = 4401  # ours: 4000 and an HTTP status
NOT_FOUND = 4404
MAX_REASON_BYTES = 123  # what a control frame has beside the code: RFC 6455, 5.5

Message = MutableMapping[str, Any]


class Socket:
    """`lost` is done when the connection is. Everything that waits for the client raises Abandoned once it has gone."""

    def __init__(
        self,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        lost: asyncio.Future[None],
    ) -> None:
        self._receive = receive
        self._send = send
        self.lost = lost

    async def accept(self, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """Complete the handshake."""
        await self._receive()
        await self._sent({"type": "websocket.accept", "headers": headers})

    async def receive(self) -> str | bytes:
        """The next message. While nobody asks for one, the client is not read from."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise Abandoned("the client went away")
        text: str | None = message.get("text")
        return bytes(message["bytes"]) if text is None else text

    async def send(self, message: str | bytes) -> None:
        """Waits while the client has not read enough of what was sent before."""
        await self._sent({"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message})

    async def close(self, code: int, reason: str = "") -> None:
        """A client that has gone is not an error."""
        short = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        try:
            await self._sent({"type": "websocket.close", "code": code, "reason": short})
        except Abandoned:
            return

    async def _sent(self, message: Message) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as exc:  # uvicorn's words for: it has gone; it is being closed for a wrong frame
            raise Abandoned("the client went away") from exc
