"""A WebSocket to a session whose end is a typed error."""

from collections.abc import Awaitable, Callable

from .errors import (
    SESSION_FAILED,
    SESSION_NOT_FOUND,
    SESSION_NOT_READY,
    SESSION_SUSPENDED,
    ConnectionLost,
    OnMemOSError,
    SessionSuspended,
    ShellExited,
    class_of,
)
from .transport import Socket, SocketClosed

NORMAL = 1000  # the shell came to its own end
GONE = 4410
CONFLICT = 4409
UNTYPED = {1001, 1005, 1006, 1012, None}  # how an agent's connections end, for one when its session is deleted
DELETED, SUSPENDED = "deleted", frozenset({"suspending", "suspended"})

# How the service closes a WebSocket, as the status and code of the HTTP answer that means the same.
CLOSED = {
    4401: (401, "unauthenticated", "the credentials do not open this session"),
    4404: (404, SESSION_NOT_FOUND, "Session not found"),
    CONFLICT: (409, SESSION_FAILED, "the session failed"),
    GONE: (410, "session_ended", "the session was deleted"),
    1013: (503, SESSION_NOT_READY, "the session was not ready in time"),
}


class Line:
    """For one reader at a time; others may send. `look`: the status of the session, `deleted`, or "" if nobody says."""

    def __init__(self, socket: Socket, look: Callable[[], Awaitable[str]]) -> None:
        self._socket = socket
        self._look = look
        self._end: SocketClosed | None = None
        self._is_suspended = False

    async def send(self, message: str | bytes) -> None:
        """Raises what the end means."""
        if self._end is not None:
            error = self._meaning(self._end)
            error.may_have_executed = False  # this was not even sent
            raise error from self._end
        try:
            await self._socket.send(message)
        except SocketClosed as exc:
            raise await self._ended(exc) from exc

    async def receive(self, timeout_s: float | None) -> str | bytes:
        """The next message. Raises Timeout, or what the end means."""
        try:
            return await self._socket.receive(timeout_s)
        except SocketClosed as exc:
            raise await self._ended(exc) from exc

    async def close(self) -> None:
        """Idempotent."""
        await self._socket.close()

    async def _ended(self, closed: SocketClosed) -> OnMemOSError:
        is_untyped = closed.code in UNTYPED
        status = await self._look() if is_untyped or closed.code == CONFLICT else ""
        if is_untyped and status == DELETED:
            closed = SocketClosed(GONE, "")
        self._end, self._is_suspended = closed, status in SUSPENDED
        error = self._meaning(closed)
        error.may_have_executed |= is_untyped  # what ran was ended with the connection
        return error

    def _meaning(self, closed: SocketClosed) -> OnMemOSError:
        if self._is_suspended:
            return SessionSuspended(409, closed.reason or "the session is suspended", SESSION_SUSPENDED)
        return meaning(closed)


def meaning(closed: SocketClosed) -> OnMemOSError:
    """The error that an end is, as far as its close code tells."""
    if closed.code in CLOSED:
        status, code, detail = CLOSED[closed.code]
        return class_of(status, code)(status, closed.reason or detail, code)
    if closed.code == NORMAL:
        return ShellExited(f"the shell has exited{': ' if closed.reason else ''}{closed.reason}")
    return ConnectionLost(str(closed))
