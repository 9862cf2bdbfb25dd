"""The API server's WebSockets: kubectl names a protocol, SPDY/3.1+portforward.k8s.io, that RFC 6455 has no room for."""

from typing import Any

from shared import websocket_server


class Protocol(websocket_server.Protocol):
    """Leaves the protocols' names unchecked: the application chooses among them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn.process_subprotocol = lambda _: None  # type: ignore[method-assign, assignment]
