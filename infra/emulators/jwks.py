"""The emulators' HTTP side: the keys that identity tokens are checked with, and a health check."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from infra.emulators.oidc import OidcTokens

CERTS_PATH = "/oauth2/v3/certs"  # as on www.googleapis.com


class HttpServer:
    """Serves an application on `listener`, a socket that is bound already; closes it at the end.

    `options` are more of uvicorn's.
    """

    def __init__(self, application: ASGIApp, listener: socket.socket, **options: Any) -> None:
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                application, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1, **options
            )
        )

    async def __aenter__(self) -> Self:
        # Connections inherit it. asyncio sets it only for sockets that were made with the protocol's number, and an
        # answer in two pieces would wait 40 ms for the client's acknowledgement.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listener.listen()
        self._serving = asyncio.create_task(self._server.serve([self._listener]), name="http")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        await self._serving
        self._listener.close()


class JwksServer(HttpServer):
    """Serves the keys of `tokens`."""

    def __init__(self, tokens: OidcTokens, listener: socket.socket) -> None:
        super().__init__(_application(tokens), listener)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's own business."""
        yield


def _application(tokens: OidcTokens) -> Starlette:
    async def certs(_: Request) -> JSONResponse:
        return JSONResponse(tokens.jwks(), headers={"Cache-Control": "public, max-age=3600"})

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route(CERTS_PATH, certs), Route("/health", health)])
