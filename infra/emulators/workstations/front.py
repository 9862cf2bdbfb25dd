"""The workstations' front door: /{host}/{port}/path stands for https://{port}-{host}/path.

It opens to an access token of exactly that workstation, in the Authorization header or in the query, and passes HTTP
and WebSockets on without it. What passes counts as traffic for the workstation's idle_timeout.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import aiohttp
from google.cloud.workstations_v1 import types
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from infra.emulators.port_connector import PortConnector
from infra.emulators.workstations.names import parent_of
from infra.emulators.workstations.resources import State
from infra.emulators.workstations.service import Workstations
from infra.emulators.workstations.storage import Stored
from infra.emulators.workstations.tokens import TokenRefused, WrongWorkstation
from infra.emulators.workstations.validation import AGENT_PORT, is_port
from shared import passage, socket_passage

IDLE_S = 3.0  # a connection to an agent is kept this long; the agent's uvicorn keeps them for 5 s
INSIDE = "http://workstation"  # for the URL's sake: the socket is the way, and the client's Host is passed on
# uvicorn's settings: a client that is read slowly answers pings late and is not dead for that.
SERVER: Final[dict[str, Any]] = {"ws_per_message_deflate": False, "ws_ping_timeout": 3600.0}
QUERY_TOKEN = b"_workstationAccessToken"
_PATH = re.compile(rb"/([a-z0-9.-]{1,253})/([0-9]{1,5})(/.*)?")


class Refused(Exception):
    """The door stays closed. `code` is a word for programs."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class Front:
    """An ASGI application; close it at the end. `sockets` is the folder of the containers' Unix sockets."""

    def __init__(self, workstations: Workstations, sockets: Path) -> None:
        self._workstations = workstations
        self._sockets = sockets
        self._clients: dict[tuple[str, int], aiohttp.ClientSession] = {}
        self._calls: Counter[tuple[str, int]] = Counter()

    async def close(self) -> None:
        while self._clients:
            await self._clients.popitem()[1].close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        try:
            await self._serve(scope, receive, send)
        except Refused as exc:
            await _refusal(exc.status, exc.code, str(exc))(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _PATH.fullmatch(passage.raw_path(scope))
        host, port = (match[1].decode(), int(match[2])) if match else ("", 0)
        stored = self._workstations.fleet.at_host(host)
        if match is None or stored is None:
            raise Refused(404, "not_found", f"no workstation is at '{host}'; wanted a path /HOST/PORT/…")
        query, token = _without_token(scope["query_string"])
        headers = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
        self._check_token(stored, port, _bearer(scope) or token)
        self._check_open(stored, port)
        url = passage.join(INSIDE, match[3] or b"/", query)
        await self._pass_on(stored, port, url, headers, scope, *self._watched(stored, receive, send))

    def _check_token(self, stored: Stored, port: int, token: str) -> None:
        if not token:
            raise Refused(
                401, "unauthenticated", "an access token of the workstation is wanted: Authorization: Bearer …"
            )
        try:
            self._workstations.tokens.check(token, stored.workstation.uid, port)
        except TokenRefused as exc:
            raise Refused(401, "unauthenticated", str(exc)) from exc
        except WrongWorkstation as exc:
            raise Refused(403, "forbidden", str(exc)) from exc

    def _check_open(self, stored: Stored, port: int) -> None:
        workstation: types.Workstation = stored.workstation
        config = self._workstations.fleet.configs[parent_of(workstation.name)]
        allowed = [(ports.first, ports.last) for ports in config.allowed_ports]
        if not is_port(port) or (allowed and not any(first <= port <= last for first, last in allowed)):
            raise Refused(403, "forbidden", f"port {port} of {workstation.host} is not one that its config allows")
        if workstation.state != State.STATE_RUNNING:
            state = State(workstation.state).name
            raise Refused(503, "workspace_unreachable", f"{workstation.host} is in state {state}, not STATE_RUNNING")

    def _watched(self, stored: Stored, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """The same, and each message is traffic."""
        name = stored.workstation.name
        note = self._workstations.fleet.note_traffic
        note(name)

        async def received() -> Message:
            message = await receive()
            note(name)
            return message

        async def sent(message: Message) -> None:
            note(name)
            await send(message)

        return received, sent

    async def _pass_on(
        self,
        stored: Stored,
        port: int,
        url: URL,
        headers: list[passage.Header],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        pass_it = passage.pass_http if scope["type"] == "http" else socket_passage.pass_websocket
        there = f"{port}-{stored.workstation.host}"
        way = (stored.container, port)
        self._calls[way] += 1
        gone = False
        try:
            await pass_it(self._client(way), url, headers, scope, receive, send)
        except passage.Unreachable as exc:
            gone = True
            raise Refused(502, "workspace_unreachable", f"{there}: {exc}") from exc
        except passage.Lost as exc:
            raise Refused(502, "workspace_lost", f"{there}: {exc}") from exc
        except socket_passage.Refused as exc:
            raise Refused(exc.status, "handshake_refused", f"{there}: {exc}") from exc
        finally:
            self._calls[way] -= 1
            if not self._calls[way]:
                del self._calls[way]
                if gone and (client := self._clients.pop(way, None)):
                    await client.close()

    def _client(self, way: tuple[str, int]) -> aiohttp.ClientSession:
        if way not in self._clients:
            container, port = way
            folder = self._sockets / container
            connector: aiohttp.BaseConnector
            if port == AGENT_PORT:
                connector = aiohttp.UnixConnector(str(folder / "agent.sock"), limit=0, keepalive_timeout=IDLE_S)
            else:
                connector = PortConnector(folder / "attendant.sock", port, keepalive_timeout=IDLE_S)
            self._clients[way] = passage.http_client(connector)
        return self._clients[way]


def _bearer(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if kind.lower() == "bearer" else ""
    return ""


def _without_token(query: bytes) -> tuple[bytes, str]:
    """The query without its access token, byte for byte otherwise; and the token."""
    token, kept = "", []
    for part in query.split(b"&") if query else []:
        name, _, value = part.partition(b"=")
        if name == QUERY_TOKEN:
            token = unquote_to_bytes(value).decode("latin-1")
        else:
            kept.append(part)
    return b"&".join(kept), token


def _refusal(status: int, code: str, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail, "code": code}, status)
