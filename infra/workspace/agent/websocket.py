"""uvicorn's WebSocket protocol with what it lacks. Slow to import (websockets): only the first connection does it."""

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class Protocol(WebSocketsSansIOProtocol):
    """Tells of a lost connection also while the application does not read (scope["state"]["lost"]); bounds pongs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lost: asyncio.Future[None] = self.loop.create_future()
        self._owed_pongs = b""
        self.app_state = {**self.app_state, "lost": self._lost}

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._lost.done():
            self._lost.set_result(None)

    def handle_ping(self) -> None:
        """A client that sends pings and reads nothing is owed only the latest: RFC 6455, 5.5.3."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self._owed_pongs = b"".join(self.conn.data_to_send()) or self._owed_pongs

    def resume_writing(self) -> None:
        super().resume_writing()
        owed, self._owed_pongs = self._owed_pongs, b""
        if owed and not self.transport.is_closing():
            self.transport.write(owed)
