"""One HTTP request and its answer, over ASGI."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Protocol
from urllib.parse import parse_qsl

from .errors import Abandoned, AgentError, BadRequest, BadTicket, Refused

MAX_BODY_BYTES = 32 * 1024 * 1024  # Cloud Run's limit for an HTTP/1 request
OUR_HEADER = b"x-onmemos-ticket"
UNAUTHENTICATED = 401

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

    def check_adoption(self, token: str) -> None:
        """As `check`, of a ticket for the name that this workspace has had first. Raises BadTicket."""

    def readdress(self, session_id: str) -> None:
        """Whose tickets open this workspace from now on."""


class Exchange:
    """`boot_id` is the header that every answer has."""

    __slots__ = ("_boot_id", "_receive", "_scope", "_send")

    def __init__(self, scope: Message, receive: Receive, send: Send, boot_id: Header) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._boot_id = boot_id

    @property
    def path(self) -> str:
        return str(self._scope["path"])

    @property
    def method(self) -> str:
        return str(self._scope["method"])

    def query(self) -> dict[str, str]:
        """A parameter that is there twice counts as its last."""
        return dict(parse_qsl(self._scope["query_string"].decode("latin-1"), keep_blank_values=True))

    def header(self, name: bytes) -> bytes | None:
        """By its name in small letters."""
        return next((value for key, value in self._scope["headers"] if key == name), None)

    def ticket(self) -> str:
        """Raises BadTicket: there is none."""
        return ticket_of(self._scope["headers"])

    def meant_for_this_boot(self) -> None:
        """Raises Refused for a request that another process than this one was to get."""
        wanted = self.header(b"x-boot-id")
        if wanted is not None and wanted != self._boot_id[1]:
            seen, here = wanted.decode("latin-1"), self._boot_id[1].decode()
            raise Refused("wrong_boot", f"X-Boot-Id: got {seen}; this is {here}", boot_id=here)

    async def piece(self) -> tuple[bytes, bool]:
        """What has come of the body, and whether there is more. Raises Abandoned."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Abandoned("the client went away before its request was complete")
        return message["body"], message["more_body"]

    async def body(self) -> bytes:
        """All of it. Raises Abandoned, BadRequest."""
        chunks: list[bytes] = []
        size = 0
        more = True
        while more:
            chunk, more = await self.piece()
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise BadRequest(f"the body has more than {MAX_BODY_BYTES} bytes; send large files in parts")
        return b"".join(chunks)

    async def disconnected(self) -> None:
        """Returns when the client has gone, or has its answer."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def send(self, status: int, pieces: Iterable[bytes], headers: tuple[Header, ...] = ()) -> None:
        """JSON. One piece is sent with its length, more are streamed as fast as the client reads."""
        waiting = iter(pieces)
        first, second = next(waiting), next(waiting, None)
        headers += (self._boot_id, (b"content-type", b"application/json"))
        if second is None:
            headers += ((b"content-length", str(len(first)).encode()),)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        piece, following = first, second
        while following is not None:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)  # encoding a large answer must not hold up the others
            piece, following = following, next(waiting, None)
        await self._send({"type": "http.response.body", "body": piece})

    async def send_json(self, document: Mapping[str, object]) -> None:
        """With 200."""
        await self.send(200, (json.dumps(document).encode(),))

    async def begin(self, content_type: bytes) -> None:
        """With 200 and a body of unknown length, which `go_on` sends; an answer without its end is seen as broken."""
        headers = (self._boot_id, (b"content-type", content_type))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def go_on(self, piece: bytes, *, more: bool = True) -> None:
        """Returns when the client has read enough of what was sent before."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})

    async def refuse(self, status: int, exc: AgentError) -> None:
        """In the error's words."""
        more: dict[str, object] = {}
        if isinstance(exc, BadRequest) and exc.errors:
            more["errors"] = exc.errors
        if isinstance(exc, Refused):
            more.update(exc.facts)
        await self.refuse_with(status, exc.code, str(exc), more)

    async def refuse_with(
        self,
        status: int,
        code: str,
        detail: str,
        more: Mapping[str, object] | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        """`more` are further fields of the body."""
        if status == UNAUTHENTICATED:
            headers += ((b"www-authenticate", b"Bearer"),)
        await self.send(status, (json.dumps({"detail": detail, "code": code, **(more or {})}).encode(),), headers)

    async def fail(self) -> None:
        """What nobody has foreseen."""
        await self.refuse_with(500, "internal", "the agent failed; its log says why")


def ticket_of(headers: Iterable[Header]) -> str:
    """X-OnMemOS-Ticket wins: behind Cloud Run, Authorization may carry Google's own token. Raises BadTicket."""
    given = dict(headers)
    ticket = given.get(OUR_HEADER)
    if ticket is None:
        scheme, _, ticket = given.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            ticket = b""
    if not ticket.strip():
        raise BadTicket("there is no ticket; wanted the header Authorization: Bearer <ticket>")
    return ticket.strip().decode("latin-1")
