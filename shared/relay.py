"""The relay: passes HTTP and WebSockets on to a session's agent, for clients that hold a key or cannot reach it.

A WebSocket is accepted first and refused by its close code, so that browsers see why: 4000 and the HTTP status for
what the caller can change (4401, 4404, 4409), 1013 for what passes. It ends as the agent ends it, except where the
session itself ended (4410) or its workspace is replaced (1012).
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from shared import callers, errors, models, passage, socket_passage
from shared.credentials import Credentials, credentials
from shared.http import REQUEST_ID, refusal, status_of
from shared.liveness import Liveness
from shared.passage import Header, raw_path
from shared.providers.base import Address
from shared.sessions import Sessions
from shared.socket_passage import End
from shared.wiring import Services

log = logging.getLogger(__name__)

LOOK_S = 10.0  # between two looks whether a connected session is over

OVER, RESTART, INTERNAL, TRY_LATER = 4410, 1012, 1011, 1013
OF_A_REPLACED_WORKSPACE = frozenset({socket_passage.GOING_AWAY, socket_passage.ABNORMAL, RESTART})
NOT_THERE = frozenset({502, 503, 504})  # said by what stands before an agent that is not there
SUBJECT = "relay"  # of the tickets that stand for a key

# What a session answers is not ours: no browser may take it for a page of ours, or keep what it sets for our host.
DISTRUST = (
    (b"content-security-policy", b"sandbox"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
NOT_PASSED_BACK = frozenset(
    {b"alt-svc", b"clear-site-data", b"set-cookie", b"strict-transport-security", b"x-request-id"}
    | {name for name, _ in DISTRUST}
)

NOTHING_SHOWN = (
    "Missing credentials: send an API key in X-API-Key, or a ticket in X-OnMemOS-Ticket or Authorization: Bearer; "
    "in a URL they are api_key and ticket"
)


@dataclass(frozen=True, slots=True)
class Farewell:
    """The end of a client's WebSocket: its close frame, and the status that is said before."""

    code: int
    reason: str = ""
    status: str = ""

    async def say(self, send: Send) -> None:
        before = [json.dumps({"type": "status", "status": self.status})] if self.status else []
        await socket_passage.goodbye(send, self.code, self.reason, *before)


DELETED = Farewell(OVER, "the session is over", "deleted")
RESTARTING = Farewell(RESTART, "the workspace is restarting: connect again", "restarting")


@dataclass(slots=True)
class Visit:
    """What the log says of one request or connection."""

    session_id: str
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    began: float = field(default_factory=time.perf_counter)

    def ended(self, message: str, **facts: Any) -> None:
        latency_ms = round((time.perf_counter() - self.began) * 1000, 2)
        log.info(message, extra={**self._known, "latency_ms": latency_ms, **facts})

    def failed(self, message: str, exc: Exception) -> str:
        """A bug: the log has it all, and what is returned is for the client."""
        log.error(message, extra=self._known, exc_info=exc)
        return f"Internal error; the log knows it as request {self.request_id}"

    @property
    def _known(self) -> dict[str, str]:
        return {"function": "relay", "session_id": self.session_id, "request_id": self.request_id}


@dataclass(frozen=True, slots=True)
class Relay:
    """Passes on to the agents of those sessions that `sessions` shows."""

    app: Services
    sessions: Sessions
    look_s: float = LOOK_S

    async def http(self, session_id: str, path: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with the agent's answer, or with the usual errors. `path` is percent-encoded."""
        visit = Visit(session_id)
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        if REQUEST_ID.fullmatch(given):
            visit.request_id = given
        answer = Distrusted(send, visit.request_id)
        try:
            await self._answer(session_id, path, scope, receive, answer)
        except errors.OnMemOSError as exc:
            await refusal(exc)(scope, receive, answer)
        except Exception as exc:
            if answer.began:  # it breaks off: nobody may take it for whole
                raise
            body = {"detail": visit.failed("request failed", exc), "code": "internal"}
            await JSONResponse(body, 500)(scope, receive, answer)
        finally:
            visit.ended("request served", status=answer.status)

    async def websocket(self, session_id: str, path: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry one WebSocket to the agent's, until either side ends it or the session is over."""
        visit, farewell = Visit(session_id), Farewell(socket_passage.ABNORMAL)
        await receive()
        await send({"type": "websocket.accept"})
        try:
            async with AsyncExitStack() as there:  # closed after the client's side: it may take longer
                try:
                    farewell = await self._carry(session_id, path, scope, receive, send, there)
                except errors.OnMemOSError as exc:
                    farewell = _farewell(exc)
                except Exception as exc:
                    farewell = Farewell(INTERNAL, visit.failed("connection failed", exc))
                await farewell.say(send)
        finally:
            visit.ended("connection ended", close_code=farewell.code)

    async def _answer(self, session_id: str, path: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        session, shown = await self._let_in(session_id, scope)
        address = await self._address(session)
        url, headers = passage.join(address.url, path, shown.query), _with(address.headers, shown.headers)
        try:
            await passage.pass_http(self.app.http, url, headers, scope, receive, send, address.ssl)
        except passage.Unreachable as exc:
            await self._look_again(session)
            raise errors.WorkspaceUnreachable(f"the workspace of {session.id} does not answer: {exc}") from exc
        except passage.Lost as exc:
            raise errors.WorkspaceLost(f"the workspace of {session.id} was lost: {exc}") from exc

    async def _carry(
        self, session_id: str, path: bytes, scope: Scope, receive: Receive, send: Send, there: AsyncExitStack
    ) -> Farewell:
        session, shown = await self._let_in(session_id, scope)
        address = await self._address(session)
        url, headers = passage.join(address.url, path, shown.query), _with(address.headers, shown.headers)
        try:
            agent = await there.enter_async_context(
                socket_passage.websocket(self.app.http, url, headers, ssl=address.ssl)
            )
        except socket_passage.Refused as exc:
            if exc.status in NOT_THERE:
                return await self._without_agent(session)
            return Farewell(4000 + exc.status if 400 <= exc.status < 500 else socket_passage.BAD_GATEWAY, str(exc))
        except (passage.Unreachable, passage.Lost):
            return await self._without_agent(session)
        end = await passage.first(socket_passage.exchange(agent, scope, receive, send), self._over(session_id))
        if end.by_client:
            await socket_passage.hang_up(agent, end.code, end.reason)
        elif end.code in OF_A_REPLACED_WORKSPACE:
            return await self._without_agent(session)
        elif end.code == OVER or await self._is_over(session_id):
            return DELETED
        return Farewell(end.code, end.reason)

    async def _address(self, session: models.Session) -> Address:
        return await self.sessions.ports.provider(session.provider).address(session)

    async def _let_in(self, session_id: str, scope: Scope) -> tuple[models.Session, Credentials]:
        """The session once it runs, and what is passed on of what the client showed: a ticket, never a key."""
        shown = credentials(scope)
        if shown.key:
            caller = await self.app.keys.caller(shown.key)
            caller.require(callers.Scope.SESSIONS)
            session = await self.sessions.opened(caller, session_id)
            return session, shown.with_ticket(self.app.tickets.issue(session.id, SUBJECT).token)
        if not shown.ticket:
            raise errors.Unauthenticated(NOTHING_SHOWN)
        self.app.tickets.verify(shown.ticket, session_id)
        return await self.sessions.opened_by_ticket(session_id), shown

    async def _over(self, session_id: str) -> End:
        """Return when the session is over."""
        while True:
            await asyncio.sleep(self.look_s)
            if await self._is_over(session_id):
                return End(OVER)

    async def _is_over(self, session_id: str) -> bool:
        try:
            return await self.sessions.is_over(session_id)
        except errors.ProviderUnavailable:  # nobody knows: what works goes on
            return False

    async def _without_agent(self, session: models.Session) -> Farewell:
        try:
            await self._look_again(session)
        except errors.SessionNotFound:
            return DELETED
        except errors.ProviderUnavailable:
            log.info("session not looked at", extra={"function": "relay", "session_id": session.id})
        return RESTARTING

    async def _look_again(self, session: models.Session) -> None:
        """What became of a session whose agent is not there. Raises SessionNotFound and SessionFailed."""
        if await self._is_over(session.id):
            raise errors.SessionNotFound
        seen = await Liveness(self.sessions.ports).verified(session)
        if seen.state is models.State.FAILED:
            raise errors.SessionFailed(f"session {session.id} failed: {seen.error}")


class Distrusted:
    """An ASGI `send` for answers that are not ours. `status` is 499 (nginx' code: the client left) until one began."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._ours = (*DISTRUST, (b"x-request-id", request_id.encode()))
        self.began = False
        self.status = 499

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began, self.status = True, message["status"]
            kept = [(name, value) for name, value in message["headers"] if name not in NOT_PASSED_BACK]
            message = {**message, "headers": [*kept, *self._ours]}
        await self._send(message)


def agent_path(scope: Scope) -> bytes:
    """What follows /v1/sessions/{session_id}/agent, as the client wrote it."""
    parts = raw_path(scope).split(b"/", 5)
    return b"/" + (parts[5] if len(parts) > 5 else b"")


def _with(platform: Mapping[str, str], shown: Iterable[Header]) -> list[Header]:
    """What opens the way, in the place of what the client sent under these names."""
    ours = [(name.lower().encode(), value.encode("latin-1")) for name, value in platform.items()]
    taken = {name for name, _ in ours}
    return [*(header for header in shown if header[0] not in taken), *ours]


def _farewell(exc: errors.OnMemOSError) -> Farewell:
    return Farewell(_close_code(status_of(type(exc))), str(exc))


def _close_code(status: int) -> int:
    """4000 and the status for what the caller can change."""
    match status:
        case 503:
            return TRY_LATER
        case 502 | 504:
            return socket_passage.BAD_GATEWAY
        case _:
            return 4000 + status if 400 <= status < 500 else INTERNAL
