"""Turns of a session's life: from running to suspended and back, or to another provider.

A turn is written with its state first and enqueued then. Each has a number, and a step that finds another is stale.
"""

import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from shared.errors import (
    InvalidRequest,
    OnMemOSError,
    ProviderUnavailable,
    ProvisioningFailed,
    QuotaExceeded,
    SessionFailed,
    SessionNotFound,
    SessionNotReady,
    SessionSuspended,
    WorkspaceExhausted,
    WorkspaceLost,
    WorkspaceUnreachable,
    WriteConflict,
)
from shared.models import NEVER, Session, State
from shared.ports import Ports

log = logging.getLogger(__name__)

TURN_DEADLINE = timedelta(minutes=15)  # transient faults are retried for so long, then it goes on as it was
FREEZE_LEASE_S = 1800.0  # as long as a step: Cloud Tasks waits 30 minutes for its answer
MAX_WRITE_TRIES = 8
TRANSIENT = (ProviderUnavailable, WorkspaceUnreachable, WorkspaceLost, WorkspaceExhausted)
FINAL = (ProvisioningFailed, QuotaExceeded, InvalidRequest, WorkspaceExhausted)  # of a start: trying again won't help


async def turned(
    ports: Ports,
    session: Session,
    turn: Callable[[Session, datetime], Session | None],
    enqueue: Callable[[Session], Coroutine[Any, Any, None]],
) -> Session:
    """Write what `turn` makes of the session, and enqueue its step. None: it is there already, or on its way.

    Raises SessionNotFound, and ProviderUnavailable, then nothing has changed or the reconciler goes on with it.
    """
    for _ in range(MAX_WRITE_TRIES):
        wanted = turn(session, ports.clock())
        if wanted is None:
            return session
        try:
            written = await ports.store.update(wanted)
        except WriteConflict:
            current = await ports.stored(session.id)
            if current is None or not current.is_visible_at(ports.clock()):
                raise SessionNotFound from None
            session = current
            continue
        try:
            await enqueue(written)
        except ProviderUnavailable:
            await _taken_back(ports, written, session)
            raise
        return written
    raise ProviderUnavailable(f"session {session.id} kept changing")


async def _taken_back(ports: Ports, written: Session, before: Session) -> None:
    """Whatever of the turn was enqueued finds that it is stale: turns only count up."""
    try:
        await ports.store.update(replace(before, turn=written.turn, version=written.version))
    except (WriteConflict, ProviderUnavailable) as exc:
        log.warning("turn not taken back", extra={"session_id": written.id, "error": repr(exc)})


def begin(session: Session, state: State, now: datetime) -> Session:
    """The session in the first state of a new turn; what was told of the last one is over."""
    details = {name: text for name, text in session.details.items() if name != "notice"}
    return session.moved(state, turn=session.turn + 1, turned_at=now, details=details)


def begun(session: Session) -> datetime:
    """When its turn began: what it goes through now."""
    return session.turned_at or session.created_at


def suspended(session: Session) -> Session:
    """The session suspended: its TTL stands still since its turn began, and its expiry's task is stale."""
    left = session.ttl_left if session.ttl_left is not None else max(session.expires_at - begun(session), timedelta())
    return session.moved(
        State.SUSPENDED, ttl_left=left, expires_at=NEVER, expiry_generation=session.expiry_generation + 1, url=None
    )


def told_of(session: Session, notice: str) -> Session:
    """With a sentence for whoever looks at it."""
    return replace(session, details={**session.details, "notice": notice})


def unfit(session: Session, wanted: State) -> OnMemOSError:
    """Why a session in this state cannot be turned."""
    match session.state:
        case State.FAILED:
            return SessionFailed(f"session {session.id} failed: {session.error}")
        case State.SUSPENDED:
            return SessionSuspended(f"session {session.id} is suspended; wanted {wanted}: resume it first")
        case State.DELETING:
            return SessionNotFound()
    return SessionNotReady(f"session {session.id} is {session.state}; wanted {wanted}: try again in a moment")


async def thawed(ports: Ports, session: Session) -> None:
    """Let its processes go on. Best effort: their lease lets them go on by itself."""
    try:
        await ports.agents.thaw(session)
    except TRANSIENT as exc:
        log.info("session not thawed", extra={"session_id": session.id, "error": str(exc)})


async def expiry_forgotten(ports: Ports, session: Session) -> None:
    """Take back the task of an expiry that is no more. Best effort: delivered, it finds that it is stale."""
    try:
        await ports.tasks.forget(session, ports.clock())
    except ProviderUnavailable as exc:
        log.info("stale expiry left", extra={"session_id": session.id, "error": str(exc)})


def is_due(session: Session, now: datetime) -> bool:
    """Whether its turn has been tried for long enough."""
    return now - begun(session) >= TURN_DEADLINE


def counted(processes: int) -> str:
    """What is said of processes that ended."""
    return "no process ran" if processes == 0 else f"{processes} process{'es' * (processes > 1)} ended"
