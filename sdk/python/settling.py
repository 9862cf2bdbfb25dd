"""Waiting for a session: until it runs, is suspended or has failed. Whatever else it is, it will not be for long."""

from collections.abc import AsyncGenerator

from .errors import (
    SESSION_FAILED,
    SESSION_NOT_READY,
    SESSION_SUSPENDED,
    SessionFailed,
    SessionSuspended,
    Unavailable,
)
from .operations import Operations
from .shapes import SessionDict

WAIT_S = 300.0
FIRST_LOOK_S = 0.25
LONGEST_LOOK_S = 2.0
RUNNING, SUSPENDED, FAILED = "running", "suspended", "failed"
SETTLED = frozenset({RUNNING, SUSPENDED, FAILED})


async def looks(operations: Operations, session: SessionDict, timeout_s: float) -> AsyncGenerator[SessionDict, None]:
    """A session as it is now and again, until it settled or the time is up. Raises NotFound."""
    clock, sleep = operations._link.clock, operations._link.transport.sleep  # noqa: SLF001
    deadline, pause_s = clock() + timeout_s, FIRST_LOOK_S
    while session["status"] not in SETTLED and (left_s := deadline - clock()) > 0:
        await sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, LONGEST_LOOK_S)
        session = await operations.get_session(session["id"])
        yield session


def running(session: SessionDict, waited_s: float) -> SessionDict:
    """The session, which runs. Raises SessionFailed, SessionSuspended, Unavailable."""
    if session["status"] == RUNNING:
        return session
    if session["status"] == FAILED:
        raise failure(session)
    if session["status"] == SUSPENDED:
        raise SessionSuspended(409, f"{session['id']} is suspended", SESSION_SUSPENDED)
    detail = f"{session['id']} is {session['status']} after {waited_s:g} s"
    raise Unavailable(503, detail, SESSION_NOT_READY)


def failure(session: SessionDict) -> SessionFailed:
    """Of a session that failed."""
    reason = session.get("error") or "no reason is given"
    return SessionFailed(409, f"{session['id']} failed: {reason}", SESSION_FAILED)
