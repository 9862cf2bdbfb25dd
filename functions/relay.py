"""The relay: `python -m functions.relay`, on PORT.

WebSockets to a session's shell and terminal, and HTTP and WebSockets to whatever else its agent serves. A program of
its own, for functions-framework refuses WebSockets.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from shared.config import ConfigError, Settings, port
from shared.errors import RouteNotFound
from shared.http import refusal
from shared.logs import configure
from shared.relay import Relay, agent_path
from shared.websocket_server import SERVER
from shared.wiring import services

configure()


@dataclass(frozen=True, slots=True)
class To:
    """An ASGI application that passes on to one path of the session's agent; by default to what follows /agent."""

    path: bytes | None = None
    of_workspaces: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = services()
        relay = Relay(app, app.workspaces if self.of_workspaces else app.sessions)
        passed = relay.http if scope["type"] == "http" else relay.websocket
        path = self.path or agent_path(scope)
        await passed(scope["path_params"]["session_id"], path, scope, receive, send)


async def not_found(request: Request, _: Exception) -> Response:
    return refusal(RouteNotFound(f"path: got '{request.url.path}', which is not the relay's, or wants a WebSocket"))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Where it is a program of its own; a wrong setting is told at the start."""
    app = services()
    try:
        yield
    finally:
        await app.close()


KEEP_ALIVE_S = 610  # Google's front ends': cloud.google.com/load-balancing/docs/https/#timeout-keepalive-client
STOP_GRACE_S = 8  # for what is under way; Cloud Run kills 10 s after its TERM
WRONG_SETTINGS = 2

SHELL, TERMINAL = b"/v1/shell", b"/v1/terminal"
AGENT = "/v1/sessions/{session_id}/agent/{path:path}"

app = Starlette(
    routes=[
        WebSocketRoute("/v1/cloudrun/workspaces/{session_id}/shell", To(SHELL, of_workspaces=True)),
        WebSocketRoute("/v1/sessions/{session_id}/shell", To(SHELL)),
        WebSocketRoute("/v1/sessions/{session_id}/terminal", To(TERMINAL)),
        WebSocketRoute(AGENT, To()),
        Route(AGENT, To()),
    ],
    exception_handlers={404: not_found},
    lifespan=lifespan,
)
app.router.redirect_slashes = False


def main() -> int:
    """Serve until TERM. 2: a setting is wrong."""
    try:
        Settings.from_environment()
        place = port()
    except ConfigError as exc:
        sys.stderr.write(f"relay: {exc}\n")
        return WRONG_SETTINGS
    uvicorn.run(
        app,
        host="0.0.0.0",
        port=place,
        http="httptools",
        **SERVER,
        lifespan="on",
        access_log=False,  # the relay logs each of its connections, without the ticket in the URL
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_GRACE_S,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
