"""The agent's face, a plain ASGI application: GET /health (open), and with a ticket all below /v1."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from urllib.parse import parse_qsl

from . import VERSION
from .commands import Commands
from .conversations import Conversations
from .errors import Abandoned, AgentError, BadRequest, BadTicket, Exhausted, Frozen, Full, Refused, Restoring, Stopping
from .exchange import OUR_HEADER, Checks, Exchange, Header, Message, Receive, Send, ticket_of
from .idle import Activity
from .requests import parse
from .sockets import BAD_TICKET, NOT_FOUND, Socket
from .upkeep import Upkeep

log = logging.getLogger(__name__)

STATUS: tuple[tuple[type[AgentError], int], ...] = (
    (BadRequest, 400),
    (BadTicket, 401),
    (Refused, 409),
    (Exhausted, 503),
    (Frozen, 503),
    (Restoring, 503),
    (Stopping, 503),
    (Full, 507),
)
SOCKETS = ("/v1/shell", "/v1/terminal")


class App:
    """`tickets` gives the verifier, which may still be loading when the first request is there."""

    def __init__(
        self,
        boot_id: str,
        tickets: Callable[[], Awaitable[Checks]],
        commands: Commands,
        conversations: Conversations,
        upkeep: Upkeep,
        activity: Activity,
    ) -> None:
        self._tickets = tickets
        self._commands = commands
        self._conversations = conversations
        self._upkeep = upkeep
        self._activity = activity
        self._boot_id = (b"x-boot-id", boot_id.encode())
        self._facts = {"status": "ok", "boot_id": boot_id, "version": VERSION}
        self._methods: Mapping[str, Mapping[str, Callable[[Exchange], Awaitable[None]]]] = {
            "/health": {"GET": self._health, "HEAD": self._health},
            "/v1/execute": {"POST": self._execute},
            "/v1/freeze": {"POST": upkeep.freeze},
            "/v1/thaw": {"POST": upkeep.thaw},
            "/v1/workspace": {"GET": self._archive, "PUT": self._restore},
            "/v1/adopt": {"POST": upkeep.adopt},
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._converse(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._boot_id)
        handle = self._methods.get(scope["path"], {}).get(scope["method"], self._refuse_route)
        try:
            await handle(exchange)
        except Abandoned:
            log.info("client went away", extra={"path": scope["path"]})
        except AgentError as exc:
            await exchange.refuse(next(status for kind, status in STATUS if isinstance(exc, kind)), exc)
        except Exception:
            log.exception("request failed")
            await exchange.fail()

    async def _health(self, exchange: Exchange) -> None:
        health = {**self._facts, "idle_s": round(self._activity.idle_s(), 3), "frozen": self._upkeep.frozen}
        await exchange.send(200, (json.dumps(health).encode(),))

    async def _converse(self, scope: Message, receive: Receive, send: Send) -> None:
        """Whatever is wrong, it is accepted and then closed: browsers show no status of a refused handshake."""
        path = scope["path"]
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        socket = Socket(receive, send, scope["state"]["lost"])
        try:
            await socket.accept((self._boot_id,))
            if path not in SOCKETS:
                await socket.close(NOT_FOUND, f"there is no WebSocket {path} here")
                return
            await self._admit(scope["headers"], query)
        except Abandoned:
            return
        except BadTicket as exc:
            await socket.close(BAD_TICKET, str(exc))
            return
        with self._activity.busy():
            await self._conversations.hold(path, query, socket)

    async def _admit(self, headers: Iterable[Header], query: Mapping[str, str]) -> None:
        """Raises BadTicket. A ticket in the URL, which ends up in logs, is spent."""
        tickets = await self._tickets()
        if "ticket" in query and not any(name == OUR_HEADER for name, _ in headers):
            tickets.spend(query["ticket"])
        else:
            tickets.check(ticket_of(headers))

    async def _execute(self, exchange: Exchange) -> None:
        (await self._tickets()).check(exchange.ticket())
        try:
            command = parse(await exchange.body())
        except MemoryError as exc:
            raise Exhausted("the workspace has no memory left to take the request") from exc
        gone = asyncio.ensure_future(exchange.disconnected())
        try:
            with self._activity.busy():
                outcome = await self._commands.run(command, gone)
        finally:
            gone.cancel()
        await exchange.send(200, outcome.json())

    async def _archive(self, exchange: Exchange) -> None:
        with self._activity.busy():
            await self._upkeep.archive(exchange)

    async def _restore(self, exchange: Exchange) -> None:
        with self._activity.busy():
            await self._upkeep.restore(exchange)

    async def _refuse_route(self, exchange: Exchange) -> None:
        path, allowed = exchange.path, ", ".join(self._methods.get(exchange.path, ()))
        if path in SOCKETS:
            upgrade = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
            await exchange.refuse_with(426, "upgrade_required", f"{path} is a WebSocket", headers=upgrade)
        elif not allowed:
            await exchange.refuse_with(404, "not_found", f"there is no {path} here")
        else:
            detail = f"{path} does not take {exchange.method}; wanted {allowed}"
            allow = ((b"allow", allowed.encode()),)
            await exchange.refuse_with(405, "method_not_allowed", detail, headers=allow)
