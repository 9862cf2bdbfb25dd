"""Suspending a session that runs and resuming one that is suspended: what callers ask for, and the step behind it.

The work folder survives, processes do not. Resuming has no step of its own: a session that resumes is provisioned, with
its files.
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.errors import OnMemOSError, ProvisioningFailed, WriteConflict
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
    begun,
    counted,
    expiry_forgotten,
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
        if session is None or session.turn != turn:
            return
        if session.state is State.RUNNING:  # a former try let it run on, and may not have come to this
            await thawed(self.ports, session)
        elif session.state is State.SUSPENDING:
            try:
                await self._suspend(session)
            except WriteConflict as exc:
                await Removal(self.ports).unless_alive(session, exc)

    async def _suspend(self, session: Session) -> None:
        """Raises WriteConflict: somebody else has moved it on, or changed it meanwhile."""
        try:
            session = await self._saved(session)
            await self.ports.provider(session.provider).stop(session.id)
        except (*TRANSIENT, ProvisioningFailed) as exc:
            await self._not_suspended(session, exc)
            return
        await self.ports.store.update(suspended(session))
        await expiry_forgotten(self.ports, session)
        log.info("session suspended", extra={"session_id": session.id})

    async def _saved(self, session: Session) -> Session:
        """Once its files are safe; written with what ends, so that of several deliveries of the step one goes on."""
        is_safe = session.snapshot is not None or self.ports.provider(session.provider).keeps_files(session)
        processes = await self._frozen(session, is_needed=not is_safe)
        if processes is not None:
            session = told_of(session, f"suspended: {counted(processes)}")
        elif "notice" not in session.details:
            session = told_of(session, "suspended: what ran in it ended")
        return await (self.ports.store.update(session) if is_safe else Snapshots(self.ports).saved(session))

    async def _frozen(self, session: Session, *, is_needed: bool) -> int | None:
        """How many processes stand still now; None where nobody answers, as when a former try has stopped it."""
        try:
            return await self.ports.agents.freeze(session, FREEZE_LEASE_S)
        except TRANSIENT:
            if is_needed:
                raise
            return None

    async def _not_suspended(self, session: Session, exc: OnMemOSError) -> None:
        """Try again, or let it run on: with a workspace that is gone it has failed.

        Once its files are saved it never runs on: its workspace may be gone already.
        """
        if session.snapshot is None:
            condition = await Liveness(self.ports).condition(session)
            if condition.health is Health.GONE:
                await Liveness(self.ports).lose(session, condition.reason)
                return
        passes = not isinstance(exc, ProvisioningFailed) and not is_due(session, self.ports.clock())
        if session.snapshot is not None or passes:
            await Removal(self.ports).unless_alive(session, exc)
            return
        now = self.ports.clock()
        runs_on = told_of(_running_on(session, now), f"not suspended: {exc}")
        # Before the write, so that no time is written without its task. If the write fails, the task is stale.
        await self.ports.tasks.expire(runs_on, now, first_look(runs_on, now))
        await thawed(self.ports, await self.ports.store.update(runs_on))
        log.warning("session not suspended", extra={"session_id": session.id, "error": str(exc)})

    async def _enqueue_resumption(self, session: Session) -> None:
        await self.ports.tasks.expire(session, begun(session), first_look(session, begun(session)))
        await self.ports.tasks.provision(session, f"t{session.turn}")


def _suspending(session: Session, now: datetime) -> Session | None:
    match session.state:
        case State.SUSPENDED | State.SUSPENDING:
            return None
        case State.RUNNING:
            return begin(session, State.SUSPENDING, now)
    raise unfit(session, State.RUNNING)


def _running_on(session: Session, now: datetime) -> Session:
    """With the time that it had left when its suspension began."""
    return replace(
        session.moved(State.RUNNING),
        expires_at=now + (session.expires_at - begun(session)),
        expiry_generation=session.expiry_generation + 1,
    )


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
