"""The steps that Cloud Tasks delivers: at least once, in any order, after a crash at any line."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.errors import (
    OnMemOSError,
    ProviderUnavailable,
    ProvisioningFailed,
    QuotaExceeded,
    WorkspaceExhausted,
    WorkspaceUnreachable,
    WriteConflict,
)
from shared.launch import Launch
from shared.models import Session, State
from shared.ports import Ports
from shared.removal import Removal
from shared.snapshots import Snapshots
from shared.turns import MAX_WRITE_TRIES, TRANSIENT, is_due, suspended, told_of

log = logging.getLogger(__name__)

NAME_LASTS = timedelta(seconds=2)  # the second of its creation, and one for clocks that differ
ASKED_AGAIN = timedelta(minutes=1)  # a workspace that restarts answers by then


@dataclass(frozen=True, slots=True)
class Steps:
    """What moves a session from state to state. Each can be repeated."""

    ports: Ports

    async def provision(self, session_id: str) -> None:
        """Step: start the workspace. Raises ProviderUnavailable to be delivered again."""
        session = await self.ports.stored(session_id)
        if session is None or session.state is not State.PROVISIONING:
            return
        try:
            started = await Launch(self.ports).start(session)
        except (ProvisioningFailed, QuotaExceeded, WorkspaceExhausted) as exc:
            await self._not_started(session, exc)
            return
        except TRANSIENT as exc:
            if is_due(session, self.ports.clock()):
                await self._not_started(session, exc)
            else:
                await self._try_again(session, exc)
            return
        try:
            await self.ports.store.update(started.moved(State.RUNNING, ttl_left=None, snapshot=None))
        except WriteConflict as exc:
            await self._try_again(session, exc)
            return
        await Snapshots(self.ports).forget(session, session.snapshot)
        log.info("session running", extra={"session_id": session.id, "provider": session.provider})

    async def expire(self, session_id: str, generation: int) -> None:
        """Step: the session's time may be up, or nothing may have happened in it for too long.

        Early or stale deliveries see that and do nothing or come back.
        """
        session = await self.ports.stored(session_id)
        if session is None or session.expiry_generation != generation:
            return
        if session.state in {State.SUSPENDED, State.DELETING}:
            return
        now = self.ports.clock()
        idle_at = await self._idle_at(session, now)
        if not session.is_over_at(now) and (idle_at is None or idle_at > now):
            await self.ports.tasks.expire(session, now, idle_at)
            return
        await self.begin_deletion(session_id)
        why = "its time is up" if session.is_over_at(now) else "it was idle"
        log.info("session expired", extra={"session_id": session_id, "reason": why})

    async def teardown(self, session_id: str) -> None:
        """Step: remove everything of a deleted session, its document last.

        Raises ProviderUnavailable to be delivered again.
        """
        session = await self.ports.stored(session_id)
        if session is None or session.state is not State.DELETING:
            return
        await Removal(self.ports).resources(session)
        await self.ports.tasks.forget(session, self.ports.clock())
        # Names hold the second of creation. While that lasts the document keeps its name from being given again.
        young_s = (session.created_at + NAME_LASTS - self.ports.clock()).total_seconds()
        if young_s > 0:
            await self.ports.sleep(young_s)
        await self.ports.store.delete(session.id)
        log.info("session gone", extra={"session_id": session.id})

    async def begin_deletion(self, session_id: str) -> Session | None:
        """Write `deleting` and enqueue the teardown; None when it was deleted already."""
        for _ in range(MAX_WRITE_TRIES):
            session = await self.ports.stored(session_id)
            if session is None or session.state is State.DELETING:
                return None
            try:
                deleting = await self.ports.store.update(session.moved(State.DELETING))
                break
            except WriteConflict:
                continue
        else:
            raise ProviderUnavailable(f"session {session_id} kept changing while it was deleted")
        try:
            await self.ports.tasks.teardown(deleting)
        except ProviderUnavailable as exc:
            # It is deleted for every caller; the reconciler enqueues what could not be enqueued here.
            log.warning("teardown not enqueued", extra={"session_id": session_id, "error": str(exc)})
        return deleting

    async def _idle_at(self, session: Session, now: datetime) -> datetime | None:
        """When its idle timeout will be over if nothing happens; None: it has none. Only a workspace itself knows."""
        if session.idle_timeout_minutes is None:
            return None
        timeout = timedelta(minutes=session.idle_timeout_minutes)
        if session.state is not State.RUNNING:
            return now + timeout
        try:
            idle = timedelta(seconds=await self.ports.agents.idle_s(session))
        except WorkspaceUnreachable:
            return now + ASKED_AGAIN
        return now + timeout - idle

    async def _try_again(self, session: Session, why: OnMemOSError) -> None:
        """Raises ProviderUnavailable, but not for a session that was deleted: its teardown may have come too early."""
        current = await self.ports.stored(session.id)
        if current is None or current.state is State.DELETING:
            await Removal(self.ports).resources(session)
        elif current.state is State.PROVISIONING:
            raise ProviderUnavailable(f"session {session.id} does not run yet: {why}") from why

    async def _not_started(self, session: Session, exc: OnMemOSError) -> None:
        if session.ttl_left is None:
            await self._fail(session, str(exc))
        else:
            await self._stay_suspended(session, str(exc))

    async def _fail(self, session: Session, error: str) -> None:
        """Nothing is left behind first, then it is said: a crash in between tries to start it again."""
        await Removal(self.ports).of_failed(session)
        try:
            await self.ports.store.update(session.moved(State.FAILED, error=error))
        except WriteConflict:
            return  # deleted meanwhile; its teardown finds nothing, and that is fine
        log.warning("session failed", extra={"session_id": session.id, "error": error})

    async def _stay_suspended(self, session: Session, error: str) -> None:
        """What keeps its files stays, wherever those are."""
        await self.ports.providers[session.provider].stop(session.id)
        stays = told_of(suspended(session, self.ports.clock()), f"not resumed: {error}")
        try:
            await self.ports.store.update(stays)
        except WriteConflict as exc:
            await self._try_again(session, exc)
            return
        log.warning("session not resumed", extra={"session_id": session.id, "error": error})
