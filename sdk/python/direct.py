"""The direct way: from here to a session's agent with a short-lived ticket, past the service's functions."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import httpx

from . import answers
from .errors import (
    FROZEN,
    RESTORING,
    SESSION_NOT_FOUND,
    SESSION_NOT_READY,
    WORKSPACE_UNREACHABLE,
    APIError,
    BadRequest,
    Conflict,
    ConnectError,
    Forbidden,
    InvalidResponse,
    NotFound,
    OnMemOSError,
    RateLimited,
    ServerError,
    Unauthorized,
)
from .link import USER_AGENT, Link
from .paths import SERVICE_START_S, path_to
from .retries import Retries
from .shapes import ConnectionDict, ExecutionDict
from .transport import Request

log = logging.getLogger(__name__)

RENEW_BEFORE_S = 30.0  # before a ticket's end: on its way to the agent it ages, and clocks differ
AVOID_S = 30.0  # how long the functions are used after the direct way led nowhere
MAX_SESSIONS = 1024  # whose ways are remembered

ONCE = Retries(times=0)  # asking for a way: the functions, which are asked next, have tries enough
FINAL = (Unauthorized, Forbidden, Conflict)  # what the functions would say too


class NoWay(Exception):
    """The direct way led nowhere and nothing was run."""


class TicketRefused(NoWay):
    """The agent does not take the ticket."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach one agent. `renew_at`: by the link's clock."""

    url: str
    websocket: str | None
    ticket: str = field(repr=False)
    renew_at: float

    @property
    def headers(self) -> dict[str, str]:
        """What an agent is told: the ticket, and never the API key."""
        return {"User-Agent": USER_AGENT, "Accept": "application/json", "Authorization": f"Bearer {self.ticket}"}


@dataclass(slots=True)
class _Known:
    """What is known of one session. `lock` is held while its way is asked for, so that it is asked for once.

    `has_led`: whether the way once led to the agent.
    """

    lock: AbstractAsyncContextManager[None]
    way: Way | None = None
    has_led: bool = False
    avoid_until: float = float("-inf")
    asked_in_vain: float = float("-inf")  # when the last answer without a way came


class Direct:
    """The ways to the agents of one client's sessions; safe to share between threads."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._guard = threading.Lock()

    async def execute(self, session_id: str, body: Mapping[str, Any], timeout_s: float) -> ExecutionDict | None:
        """What the command did; None: it was not run, and the functions are the ones to ask.

        Raises what execute_session raises.
        """
        refused: Way | None = None
        while way := await self.way(session_id, refused):
            try:
                result = await self._ask(way, body, timeout_s)
            except TicketRefused:
                if refused is not None:
                    self.avoid(session_id, "the agent refuses the tickets")
                    return None
                refused = way
            except (NoWay, ConnectError) as exc:
                self.led_nowhere(session_id, way, exc)
                return None
            except (InvalidResponse, ServerError) as exc:
                if not isinstance(exc, APIError) or exc.code is None:
                    self.avoid(session_id, str(exc))  # whatever it was, it was not the agent
                raise
            else:
                self.led(session_id, way)
                return result
        return None

    async def way(self, session_id: str, refused: Way | None = None) -> Way | None:
        """The way to the session's agent, with a ticket that is good for a while; None: there is none, or not now.

        `refused`: not this one. Raises NotFound, Conflict, Unauthorized, Forbidden.
        """
        known, clock = self._of(session_id), self._link.clock
        began = clock()
        async with known.lock:
            now = clock()
            if now < known.avoid_until or began < known.asked_in_vain:  # the answer to another is one to this
                return None
            if known.way is None or known.way is refused or now >= known.way.renew_at:
                known.way, known.has_led = await self._asked_for(session_id), False
                if known.way is None:
                    known.asked_in_vain = clock()
            return known.way

    def led(self, session_id: str, way: Way) -> None:
        """This way led to the agent."""
        known = self._of(session_id)
        if known.way is way:
            known.has_led = True

    def led_nowhere(self, session_id: str, way: Way, exc: Exception) -> None:
        """This way did not lead to the agent. If it did before, the session was suspended or moved since, or is now.

        Then another way is asked for at the next occasion; else the functions are used for a while.
        """
        known = self._of(session_id)
        if known.way is not way:
            return  # it was given up meanwhile, and another may be better
        if known.has_led or _is_frozen(exc):
            known.way = None
        else:
            self.avoid(session_id, str(exc))

    def avoid(self, session_id: str, reason: str) -> None:
        """Use the functions for this session, for a while."""
        known = self._of(session_id)
        known.avoid_until = self._link.clock() + AVOID_S
        known.way = None
        log.info("no direct way to the agent", extra={"session_id": session_id, "reason": reason})

    def forget(self, session_id: str) -> None:
        """The session is gone."""
        with self._guard:
            self._known.pop(session_id, None)

    def _of(self, session_id: str) -> _Known:
        with self._guard:
            known = self._known.get(session_id) or _Known(self._link.transport.lock())
            self._known[session_id] = known
            self._known.move_to_end(session_id)
            if len(self._known) > MAX_SESSIONS:
                self._known.popitem(last=False)
            return known

    async def _asked_for(self, session_id: str) -> Way | None:
        try:
            connection = await self._link.call(
                ConnectionDict,
                "GET",
                path_to("sessions", "connect", session_id=session_id),
                idempotent=True,
                takes_s=SERVICE_START_S,
                retries=ONCE,
            )
            return self._read(connection)
        except FINAL:
            raise
        except NotFound as exc:
            if exc.code == SESSION_NOT_FOUND:
                self.forget(session_id)
                raise
            self.avoid(session_id, str(exc))  # an older service, which has no /connect
        except APIError as exc:
            if exc.code != SESSION_NOT_READY:  # the functions wait until it is; the next command may go directly
                self.avoid(session_id, str(exc))
        except (OnMemOSError, NoWay) as exc:
            self.avoid(session_id, str(exc))
        return None

    def _read(self, connection: ConnectionDict) -> Way:
        url, websocket, ticket = (connection.get(name) for name in ("url", "websocket", "ticket"))
        if not isinstance(url, str) or not isinstance(ticket, str):
            raise NoWay("the service knows no way to the agent")
        if self._link.base_url.startswith("https:") and not url.startswith("https:"):
            raise NoWay("the way to the agent is not encrypted, that to the service is")
        if not isinstance(websocket, str) or websocket.startswith("wss:") != url.startswith("https:"):
            websocket = None
        try:
            lifetime_s = (datetime.fromisoformat(connection["expires_at"]) - datetime.now(UTC)).total_seconds()
        except (KeyError, TypeError, ValueError) as exc:
            raise NoWay(f"the ticket's expires_at cannot be read: {exc!r}") from exc
        return Way(
            url=url.rstrip("/"),
            websocket=websocket,
            ticket=ticket,
            renew_at=self._link.clock() + lifetime_s - RENEW_BEFORE_S,
        )

    async def _ask(self, way: Way, body: Mapping[str, Any], timeout_s: float) -> ExecutionDict:
        link = self._link
        request = Request(
            method="POST",
            url=f"{way.url}/v1/execute",
            timeout_s=link.timeout_s + timeout_s,
            headers=way.headers,
            json=body,
        )

        async def once() -> ExecutionDict:
            return judged(await link.transport.send(request))

        return await link.retries.run(
            once, passing=(RateLimited,), patience_s=request.timeout_s, sleep=link.transport.sleep
        )


def _is_frozen(exc: Exception) -> bool:
    """Whether the agent is there and waits, because its session is being suspended, moved or resumed."""
    told = exc.__cause__ if isinstance(exc, NoWay) else exc
    return isinstance(told, APIError) and told.code in {FROZEN, RESTORING}


def judged(response: httpx.Response) -> ExecutionDict:
    """What the agent's answer means, in the service's words.

    Raises NoWay where no agent can have run the command; InvalidResponse or an APIError where one may have.
    """
    try:
        result = answers.read(response)
    except Unauthorized as exc:
        raise TicketRefused(str(exc)) from exc
    except RateLimited:
        raise
    except BadRequest as exc:
        if exc.code is None:
            raise NoWay(str(exc)) from exc
        exc.code = "invalid_request"  # what the service calls it
        raise
    except ServerError as exc:
        if exc.code in {WORKSPACE_UNREACHABLE, SESSION_NOT_READY, FROZEN, RESTORING}:
            raise NoWay(str(exc)) from exc
        raise
    except APIError as exc:  # something before the agent: it passed nothing on
        raise NoWay(str(exc)) from exc
    if not isinstance(result.get("returncode"), int):
        raise InvalidResponse(f"POST {response.request.url}: HTTP {response.status_code} without a returncode")
    return cast("ExecutionDict", result)
