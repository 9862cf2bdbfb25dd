"""A workspace's URL: passes HTTP and WebSockets on to the agent behind the service's Unix socket.

Connections are kept for a moment, shorter than the agent keeps them: nothing is sent on one that is about to close.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from shared import passage, socket_passage

IDLE_S = 3.0  # the agent's uvicorn keeps them for 5 s
SERVICE = re.compile(r"[a-z][a-z0-9-]{0,62}")  # as Cloud Run names services, so never a path of another kind
HOST = "http://workspace"  # for the URL's sake: the socket is the way, and the client's Host is passed on


class Workspaces:
    """The services' agents, at `<sockets>/<service>/agent.sock`; an async context manager."""

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._agents: dict[str, aiohttp.ClientSession] = {}
        self._calls: Counter[str] = Counter()

    async def __aenter__(self) -> "Workspaces":
        return self

    async def __aexit__(self, *_: Any) -> None:
        while self._agents:
            await self._agents.popitem()[1].close()

    async def pass_on(self, service: str, path: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or WebSocket with the agent's answer. `path` follows the service's name, percent-encoded.

        503 workspace_unreachable: there is no agent. 502 workspace_lost: it went away. 404: no service can be called
        that. A client that goes away takes its connection to the agent with it.
        """
        if not SERVICE.fullmatch(service):
            await _refusal(404, "not_found", f"'{service}' is not a service's name")(scope, receive, send)
            return
        pass_it = passage.pass_http if scope["type"] == "http" else socket_passage.pass_websocket
        url = passage.join(HOST, path, scope["query_string"])
        self._calls[service] += 1
        gone = False
        try:
            await pass_it(self._agent(service), url, scope["headers"], scope, receive, send)
        except passage.Unreachable as exc:
            gone = True
            await _refusal(503, "workspace_unreachable", f"{service} does not run here: {exc}")(scope, receive, send)
        except passage.Lost as exc:
            await _refusal(502, "workspace_lost", f"{service}: {exc}")(scope, receive, send)
        except socket_passage.Refused as exc:
            await _refusal(exc.status, "handshake_refused", f"{service}: {exc}")(scope, receive, send)
        finally:
            self._calls[service] -= 1
            if not self._calls[service]:
                del self._calls[service]
                if gone:
                    await self._forget(service)

    def _agent(self, service: str) -> aiohttp.ClientSession:
        if service not in self._agents:
            path = str(self._sockets / service / "agent.sock")
            self._agents[service] = passage.http_client(aiohttp.UnixConnector(path, limit=0, keepalive_timeout=IDLE_S))
        return self._agents[service]

    async def _forget(self, service: str) -> None:
        """A service that does not answer may be gone for good; only when no other connection to it lasts."""
        agent = self._agents.pop(service, None)
        if agent is not None:
            await agent.close()


def _refusal(status: int, code: str, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail, "code": code}, status)
