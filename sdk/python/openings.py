"""Opening shells and terminals: at the agent itself, or through the service's relay."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlencode

from .calls import Calls
from .errors import OnMemOSError, Unauthorized
from .faces import operation_giving
from .paths import SERVICE_START_S, path_to
from .retries import TRANSIENT
from .shells import AsyncShell, Shell
from .terminals import AsyncTerminal, Terminal
from .transport import Socket

T = TypeVar("T")

Begin = Callable[[Socket, float], Awaitable[T]]

PROMPT_S = 2.0  # a terminal says nothing when it opens; a refusal would have come by then


class ShellOperations(Calls):
    """Nothing runs before a shell is open, so opening one is tried directly first, and again after passing faults."""

    @operation_giving(Shell)
    async def open_shell(self, session_id: str) -> AsyncShell:
        """A shell in the session, to use with `with`: its state lasts from command to command.

        Raises NotFound, Conflict or Unavailable (the session failed, or is not ready).
        """

        async def begin(socket: Socket, within_s: float) -> AsyncShell:
            lock = self._link.transport.lock()
            return await AsyncShell.greeted(socket, within_s, lock=lock, patience_s=self._link.timeout_s)

        return await self._opened(session_id, "shell", "", begin)

    @operation_giving(Terminal)
    async def open_terminal(self, session_id: str, rows: int = 24, cols: int = 80) -> AsyncTerminal:
        """A terminal in the session, to use with `with`: an interactive shell, as bytes both ways.

        Raises NotFound, Conflict or Unavailable (the session failed, or is not ready), sooner or when it is first read.
        """

        async def begin(socket: Socket, within_s: float) -> AsyncTerminal:
            return await AsyncTerminal.begun(socket, min(within_s, PROMPT_S))

        return await self._opened(session_id, "terminal", urlencode({"rows": rows, "cols": cols}), begin)

    async def _opened(self, session_id: str, what: str, query: str, begin: Begin[T]) -> T:
        path = path_to("sessions", what, session_id=session_id)
        tail = f"?{query}" if query else ""
        opened = await self._opened_directly(session_id, f"/{what}{tail}", begin)
        if opened is not None:
            return opened
        link = self._link
        url = f"ws{link.base_url.removeprefix('http')}{path}{tail}"

        async def once() -> T:
            socket = await link.transport.open(url, link.own_headers(), link.timeout_s)
            return await _begun(begin, socket, link.timeout_s + SERVICE_START_S)

        return await link.retries.run(
            once, passing=TRANSIENT, patience_s=link.timeout_s + SERVICE_START_S, sleep=link.transport.sleep
        )

    async def _opened_directly(self, session_id: str, path: str, begin: Begin[T]) -> T | None:
        if self._direct is None:
            return None
        refused = None
        while way := await self._direct.way(session_id, refused):
            if way.websocket is None:
                return None
            try:
                socket = await self._link.transport.open(
                    way.websocket.removesuffix("/shell") + path, way.headers, self._link.timeout_s
                )
                return await _begun(begin, socket, self._link.timeout_s)
            except Unauthorized as exc:
                if refused is not None:
                    self._direct.avoid(session_id, str(exc))
                    return None
                refused = way
            except OnMemOSError as exc:
                self._direct.avoid(session_id, str(exc))
                return None
        return None


async def _begun(begin: Begin[T], socket: Socket, within_s: float) -> T:
    try:
        return await begin(socket, within_s)
    except BaseException:
        await socket.close()
        raise
