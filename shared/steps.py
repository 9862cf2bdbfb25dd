"""The steps that Cloud Tasks delivers: at least once, in any order, after a crash at any line."""

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.errors import (
    ProviderUnavailable,
    WorkspaceUnreachable,
    WriteConflict,
)
from shared.launch import Launch
from shared.models import Session, State
from shared.ports import Ports
from shared.removal import Removal
from shared.snapshots import Snapshots
from shared.turns import FINAL, MAX_WRITE_TRIES, TRANSIENT, is_due, suspended, told_of

log = logging.getLogger(__name__)

NAME_LASTS = timedelta(seconds=2)  # the second of its creation, and one for clocks that differ
STANDING_STILL = frozenset({State.SUSPENDING, State.SUSPENDED, State.DELETING})  # whose time does not run
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
            await (self._start(session) if session.error is None else self._give_up(session))
        except WriteConflict as exc:
            await Removal(self.ports).unless_alive(session, exc)

    async def expire(self, session_id: str, generation: int) -> None:
        """Step: the session's time may be up, or nothing may have happened in it for too long.

        Early or stale deliveries see that and do nothing or come back.
        """
        for _ in range(MAX_WRITE_TRIES):
            session = await self.ports.stored(session_id)
            if session is None or session.expiry_generation != generation or session.state in STANDING_STILL:
                return
            now = self.ports.clock()
            idle_at = await self._idle_at(session, now)
            if not session.is_over_at(now) and (idle_at is None or idle_at > now):
                await self.ports.tasks.expire(session, now, idle_at)
                return
            try:
                await self._delete(session)
            except WriteConflict:  # its time may not be up any more
                continue
            why = "its time is up" if session.is_over_at(now) else "it was idle"
            log.info("session expired", extra={"session_id": session_id, "reason": why})
            return
        raise ProviderUnavailable(f"session {session_id} kept changing while it expired")

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
                return await self._delete(session)
            except WriteConflict:
                continue
        raise ProviderUnavailable(f"session {session_id} kept changing while it was deleted")

    async def _delete(self, session: Session) -> Session:
        """Raises WriteConflict."""
        deleting = await self.ports.store.update(session.moved(State.DELETING))
        try:
            await self.ports.tasks.teardown(deleting)
        except ProviderUnavailable as exc:
            # It is deleted for every caller; the reconciler enqueues what could not be enqueued here.
            log.warning("teardown not enqueued", extra={"session_id": session.id, "error": str(exc)})
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

    async def _start(self, session: Session) -> None:
        """Raises WriteConflict: the session was changed meanwhile."""
        try:
            started = await Launch(self.ports).start(session)
        except (*FINAL, *TRANSIENT) as exc:
            if not isinstance(exc, FINAL) and not is_due(session, self.ports.clock()):
                await Removal(self.ports).unless_alive(session, exc)
                return
            # Written before anything is removed: another delivery of the step may just have started it.
            await self._give_up(await self.ports.store.update(replace(session, error=str(exc))))
            return
        await self.ports.store.update(started.moved(State.RUNNING, ttl_left=None, snapshot=None))
        await Snapshots(self.ports).forget(session)
        log.info("session running", extra={"session_id": session.id, "provider": session.provider})

    async def _give_up(self, session: Session) -> None:
        """What does not resume stays suspended; of what never ran nothing is left. Raises WriteConflict."""
        facts = {"session_id": session.id, "error": session.error}
        if session.ttl_left is None:
            await Removal(self.ports).of_failed(session)
            await self.ports.store.update(session.moved(State.FAILED))
            log.warning("session failed", extra=facts)
        else:
            await self.ports.provider(session.provider).stop(session.id)  # what keeps its files stays
            stays = told_of(suspended(session), f"not resumed: {session.error}")
            await self.ports.store.update(replace(stays, error=None))
            log.warning("session not resumed", extra=facts)
