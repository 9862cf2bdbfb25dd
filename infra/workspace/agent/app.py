"""The agent's face, a plain ASGI application: GET /health (open), and with a ticket POST /v1/execute and WebSockets."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Protocol
from urllib.parse import parse_qsl

from . import VERSION
from .commands import Commands
from .conversations import Conversations
from .errors import Abandoned, AgentError, BadRequest, BadTicket, Exhausted, Stopping
from .idle import Activity
from .requests import parse
from .sockets import BAD_TICKET, NOT_FOUND, Socket

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 * 1024 * 1024  # Cloud Run's limit for an HTTP/1 request
STATUS: dict[type[AgentError], int] = {BadRequest: 400, BadTicket: 401, Exhausted: 503, Stopping: 503}
METHODS = {"/health": ("GET", "HEAD"), "/v1/execute": ("POST",)}
OUR_HEADER = b"x-onmemos-ticket"
SOCKETS = ("/v1/shell", "/v1/terminal")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]


class Checks(Protocol):
    """Verifies tickets."""

    def check(self, token: str) -> None:
        """Raises BadTicket."""

    def spend(self, token: str) -> None:
        """As `check`, once for each ticket; from then on it opens nothing. Raises BadTicket."""


class App:
    """`tickets` gives the verifier, which may still be loading when the first request is there."""

    def __init__(
        self,
        boot_id: str,
        tickets: Callable[[], Awaitable[Checks]],
        commands: Commands,
        conversations: Conversations,
        activity: Activity,
    ) -> None:
        self._tickets = tickets
        self._commands = commands
        self._conversations = conversations
        self._activity = activity
        self._boot_id = (b"x-boot-id", boot_id.encode())
        self._facts = {"status": "ok", "boot_id": boot_id, "version": VERSION}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] == "websocket":
            await self._converse(scope, receive, send)
        elif scope["method"] not in METHODS.get(path, ()):
            await self._refuse_route(send, path, scope["method"])
        elif path == "/health":
            health = {**self._facts, "idle_s": round(self._activity.idle_s(), 3)}
            await self._send(send, 200, (json.dumps(health).encode(),))
        else:
            await self._answer_execute(scope, receive, send)

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
            tickets.check(_ticket(headers))

    async def _answer_execute(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            pieces = await self._execute(scope["headers"], receive)
        except Abandoned:
            log.info("client went away; command ended")
        except AgentError as exc:
            errors = {"errors": exc.errors} if isinstance(exc, BadRequest) and exc.errors else {}
            await self._refuse(send, STATUS[type(exc)], exc.code, str(exc), errors)
        except Exception:
            log.exception("request failed")
            await self._refuse(send, 500, "internal", "the agent failed; its log says why")
        else:
            await self._send(send, 200, pieces)

    async def _execute(self, headers: Iterable[Header], receive: Receive) -> Iterable[bytes]:
        token = _ticket(headers)
        (await self._tickets()).check(token)
        try:
            command = parse(await _body(receive))
        except MemoryError as exc:
            raise Exhausted("the workspace has no memory left to take the request") from exc
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            with self._activity.busy():
                outcome = await self._commands.run(command, gone)
        finally:
            gone.cancel()
        return outcome.json()

    async def _refuse_route(self, send: Send, path: str, method: str) -> None:
        if path in SOCKETS:
            upgrade = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
            await self._refuse(send, 426, "upgrade_required", f"{path} is a WebSocket", headers=upgrade)
            return
        if path not in METHODS:
            await self._refuse(send, 404, "not_found", f"there is no {path} here")
            return
        allowed = ", ".join(METHODS[path])
        await self._refuse(
            send,
            405,
            "method_not_allowed",
            f"{path} does not take {method}; wanted {allowed}",
            headers=((b"allow", allowed.encode()),),
        )

    async def _refuse(
        self,
        send: Send,
        status: int,
        code: str,
        detail: str,
        more: dict[str, Any] | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        if status == STATUS[BadTicket]:
            headers += ((b"www-authenticate", b"Bearer"),)
        body = json.dumps({"detail": detail, "code": code, **(more or {})}).encode()
        await self._send(send, status, (body,), headers)

    async def _send(self, send: Send, status: int, pieces: Iterable[bytes], headers: tuple[Header, ...] = ()) -> None:
        """One piece is sent with its length, more are streamed as fast as the client reads."""
        waiting = iter(pieces)
        first, second = next(waiting), next(waiting, None)
        headers += (self._boot_id, (b"content-type", b"application/json"))
        if second is None:
            headers += ((b"content-length", str(len(first)).encode()),)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        piece, following = first, second
        while following is not None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)  # encoding a large answer must not hold up the others
            piece, following = following, next(waiting, None)
        await send({"type": "http.response.body", "body": piece})


def _ticket(headers: Iterable[Header]) -> str:
    """X-OnMemOS-Ticket wins: behind Cloud Run, Authorization may carry Google's own token."""
    given = dict(headers)
    ticket = given.get(OUR_HEADER)
    if ticket is None:
        scheme, _, ticket = given.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            ticket = b""
    if not ticket.strip():
        raise BadTicket("there is no ticket; wanted the header Authorization: Bearer <ticket>")
    return ticket.strip().decode("latin-1")


async def _body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Abandoned("the client went away before its request was complete")
        chunks.append(message["body"])
        size += len(chunks[-1])
        if size > MAX_BODY_BYTES:
            raise BadRequest(f"the body has more than {MAX_BODY_BYTES} bytes; send large files in parts")
        if not message["more_body"]:
            return b"".join(chunks)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
