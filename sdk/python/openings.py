"""Opening shells and terminals: at the agent itself, or through the service's relay."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar
from urllib.parse import urlencode

from .calls import Calls
from .direct import ONCE
from .errors import SESSION_NOT_FOUND, NotFound, OnMemOSError, Unauthorized
from .faces import operation_giving
from .lines import DELETED, Line
from .paths import SERVICE_START_S, path_to
from .retries import TRANSIENT
from .shapes import SessionDict
from .shells import AsyncShell, Shell
from .terminals import AsyncTerminal, Terminal

T = TypeVar("T")

Begin = Callable[[Line, float], Awaitable[T]]

# A terminal may be read slowly, which holds up the answer to a ping too; a shell is read as soon as something comes.
PONG_S: Mapping[str, float | None] = {"shell": 20.0, "terminal": None}
PROMPT_S = 2.0  # a terminal says nothing when it opens; a refusal would have come by then


class ShellOperations(Calls):
    """Nothing runs before a shell is open, so opening one is tried directly first, and again after passing faults."""

    @operation_giving(Shell)
    async def open_shell(self, session_id: str) -> AsyncShell:
        """A shell in the session, to use with `with`: its state lasts from command to command.

        Raises NotFound, Conflict or Unavailable (the session failed, is suspended, or is not ready).
        """

        async def begin(line: Line, within_s: float) -> AsyncShell:
            lock = self._link.transport.lock()
            return await AsyncShell.greeted(line, within_s, lock=lock, patience_s=self._link.timeout_s)

        return await self._opened(session_id, "shell", "", begin)

    @operation_giving(Terminal)
    async def open_terminal(self, session_id: str, rows: int = 24, cols: int = 80) -> AsyncTerminal:
        """A terminal in the session, to use with `with`: an interactive shell, as bytes both ways.

        Raises NotFound, Conflict or Unavailable (the session failed, is suspended, or is not ready), sooner or when it
        is first read.
        """

        async def begin(line: Line, within_s: float) -> AsyncTerminal:
            return await AsyncTerminal.begun(line, min(within_s, PROMPT_S))

        return await self._opened(session_id, "terminal", urlencode({"rows": rows, "cols": cols}), begin)

    async def _opened(self, session_id: str, what: str, query: str, begin: Begin[T]) -> T:
        path = path_to("sessions", what, session_id=session_id)
        tail = f"?{query}" if query else ""
        opened = await self._opened_directly(session_id, what, tail, begin)
        if opened is not None:
            return opened
        link = self._link
        url = f"ws{link.base_url.removeprefix('http')}{path}{tail}"
        within_s = link.timeout_s + SERVICE_START_S

        async def once() -> T:
            return await self._begun(session_id, url, link.own_headers(), PONG_S[what], within_s, begin)

        return await link.retries.run(once, passing=TRANSIENT, patience_s=within_s, sleep=link.transport.sleep)

    async def _opened_directly(self, session_id: str, what: str, tail: str, begin: Begin[T]) -> T | None:
        direct, within_s = self._direct, self._link.timeout_s
        refused = None
        while direct is not None and (way := await direct.way(session_id, refused)) and way.websocket is not None:
            url = f"{way.websocket.removesuffix('/shell')}/{what}{tail}"
            try:
                opened = await self._begun(session_id, url, way.headers, PONG_S[what], within_s, begin)
            except Unauthorized as exc:
                if refused is not None:
                    direct.avoid(session_id, str(exc))
                    return None
                refused = way
            except OnMemOSError as exc:
                direct.led_nowhere(session_id, way, exc)
                return None
            else:
                direct.led(session_id, way)
                return opened
        return None

    async def _begun(
        self,
        session_id: str,
        url: str,
        headers: Mapping[str, str],
        pong_s: float | None,
        within_s: float,
        begin: Begin[T],
    ) -> T:
        socket = await self._link.transport.open(url, headers, self._link.timeout_s, pong_s)
        try:
            return await begin(Line(socket, partial(self._status, session_id)), within_s)
        except BaseException:
            await socket.close()
            raise

    async def _status(self, session_id: str) -> str:
        """What the service says of the session: its status, `deleted`, or nothing."""
        path = path_to("sessions", session_id=session_id)
        try:
            session = await self._link.call(SessionDict, "GET", path, idempotent=True, retries=ONCE)
        except NotFound as exc:
            return DELETED if exc.code == SESSION_NOT_FOUND else ""
        except OnMemOSError:
            return ""
        return str(session.get("status", ""))
