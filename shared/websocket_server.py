"""uvicorn's WebSocket protocol with what a relay needs more: `ws="shared.websocket_server:Protocol"`."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

LINGER_S = 15.0  # longer than uvicorn waits for the answer to a close frame

# uvicorn's settings for WebSockets. A peer that is read slowly answers pings late and is not dead for that, so the
# pings only keep the way open: no wait for an answer is shorter than Cloud Run's longest request.
SERVER: Final[dict[str, Any]] = {
    "ws": "shared.websocket_server:Protocol",
    "ws_max_size": 1 << 20,  # the agent's own limit for what clients send
    "ws_per_message_deflate": False,
    "ws_ping_timeout": 3600.0,
}


class Protocol(WebSocketsSansIOProtocol):
    """Keeps nothing for a client that does not read, and tells of a lost connection while nobody waits for messages.

    That is `scope["state"]["lost"]`, a future.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lost: asyncio.Future[None] = self.loop.create_future()
        self._owed_pong = b""
        self.app_state = {**self.app_state, "lost": self._lost}

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._lost.done():
            self._lost.set_result(None)

    def handle_ping(self) -> None:
        """Of many pings the last may be answered for all: RFC 6455, 5.5.3. The pongs would pile up unread."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self._owed_pong = b"".join(self.conn.data_to_send()) or self._owed_pong

    def resume_writing(self) -> None:
        super().resume_writing()
        owed, self._owed_pong = self._owed_pong, b""
        if owed and not self.transport.is_closing():
            self.transport.write(owed)

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.loop.call_later(LINGER_S, self.transport.abort)  # what was not read by then
