"""Suspending a session that runs and resuming one that is suspended: what callers ask for, and the step behind it.

The work folder survives, processes do not. Resuming has no step of its own: a session that resumes is provisioned, with
its files.
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.errors import OnMemOSError, ProviderUnavailable, WorkspaceUnreachable, WriteConflict
from shared.liveness import Liveness
from shared.models import Session, State
from shared.ports import Ports
from shared.providers.base import Health
from shared.removal import Removal
from shared.snapshots import Snapshots
from shared.tasks import first_look
from shared.turns import (
    FREEZE_LEASE_S,
    TRANSIENT,
    begin,
    counted,
    is_due,
    suspended,
    thawed,
    told_of,
    turned,
    unfit,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Suspension:
    """Moves sessions between running and suspended."""

    ports: Ports

    async def suspend(self, session: Session) -> Session:
        """Begin it; nothing to do for one that is suspended. Raises SessionFailed, SessionNotReady, SessionNotFound."""
        return await turned(self.ports, session, _suspending, self.ports.tasks.suspend)

    async def resume(self, session: Session) -> Session:
        """Begin it; nothing to do for one that runs. Raises as `suspend`."""
        return await turned(self.ports, session, _resuming, self._enqueue_resumption)

    async def step(self, session_id: str, turn: int) -> None:
        """Step: save the files and stop the workspace. Raises ProviderUnavailable to be delivered again."""
        session = await self.ports.stored(session_id)
        if session is None or session.state is not State.SUSPENDING or session.turn != turn:
            return
        try:
            stopped = await self._stopped(session)
        except TRANSIENT as exc:
            await self._not_suspended(session, exc)
            return
        except WriteConflict as exc:
            await self._try_again(session, exc)
            return
        now = self.ports.clock()
        try:
            await self.ports.store.update(suspended(stopped, now))
        except WriteConflict as exc:
            await self._try_again(stopped, exc)
            return
        await self._forget_expiry(session, now)
        log.info("session suspended", extra={"session_id": session_id})

    async def _stopped(self, session: Session) -> Session:
        """Once its workspace is stopped and its files are safe. What was saved before a crash is not saved again."""
        provider = self.ports.providers[session.provider]
        is_safe = session.snapshot is not None or provider.keeps_files(session)
        processes = await self._frozen(session, is_needed=not is_safe)
        if processes is not None:
            session = told_of(session, f"suspended: {counted(processes)}")
        if not is_safe:
            snapshot = await Snapshots(self.ports).save(session)
            session = await self.ports.store.update(replace(session, snapshot=snapshot))
        await provider.stop(session.id)
        return session

    async def _frozen(self, session: Session, *, is_needed: bool) -> int | None:
        """How many processes stand still now; None when the workspace is stopped already."""
        try:
            return await self.ports.agents.freeze(session, FREEZE_LEASE_S)
        except WorkspaceUnreachable:
            if is_needed:
                raise
            return None

    async def _not_suspended(self, session: Session, exc: OnMemOSError) -> None:
        """Try again, or leave it running: with a workspace that is gone it has failed.

        Once its files are saved it is never left running again: its workspace may be gone already.
        """
        if session.snapshot is None:
            condition = await Liveness(self.ports).condition(session)
            if condition.health is Health.GONE:
                await Liveness(self.ports).lose(session, condition.reason)
                return
        if session.snapshot is not None or not is_due(session, self.ports.clock()):
            await self._try_again(session, exc)
            return
        await thawed(self.ports, session)
        try:
            await self.ports.store.update(told_of(session.moved(State.RUNNING), f"not suspended: {exc}"))
        except WriteConflict as conflict:
            await self._try_again(session, conflict)
            return
        log.warning("session not suspended", extra={"session_id": session.id, "error": str(exc)})

    async def _try_again(self, session: Session, why: OnMemOSError) -> None:
        """Raises ProviderUnavailable, but not for a session that was deleted: its teardown may have come too early."""
        current = await self.ports.stored(session.id)
        if current is None or current.state is State.DELETING:
            await Removal(self.ports).resources(session)
        elif current.state is State.SUSPENDING:
            raise ProviderUnavailable(f"session {session.id} is not suspended yet: {why}") from why

    async def _enqueue_resumption(self, session: Session) -> None:
        await self.ports.tasks.expire(session, self.ports.clock(), first_look(session, self.ports.clock()))
        await self.ports.tasks.provision(session, f"t{session.turn}")

    async def _forget_expiry(self, session: Session, now: datetime) -> None:
        try:
            await self.ports.tasks.forget(session, now)
        except ProviderUnavailable as exc:  # it will find that it is stale, and do nothing
            log.info("stale expiry left", extra={"session_id": session.id, "error": str(exc)})


def _suspending(session: Session, now: datetime) -> Session | None:
    match session.state:
        case State.SUSPENDED | State.SUSPENDING:
            return None
        case State.RUNNING:
            return begin(session, State.SUSPENDING, now)
    raise unfit(session, State.RUNNING)


def _resuming(session: Session, now: datetime) -> Session | None:
    match session.state:
        case State.RUNNING | State.PROVISIONING:
            return None
        case State.SUSPENDED:
            left = session.ttl_left or timedelta()
            return replace(
                begin(session, State.PROVISIONING, now),
                expires_at=now + left,
                expiry_generation=session.expiry_generation + 1,
            )
    raise unfit(session, State.SUSPENDED)
