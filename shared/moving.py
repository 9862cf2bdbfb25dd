"""Moving a session to another provider under its id, with its files: what callers ask for, and the step behind it.

The old workspace stands still until the new one runs with the same files; if that one does not start, the old one goes
on as if nothing had been.
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime

from shared.errors import (
    InvalidRequest,
    OnMemOSError,
    ProviderNotConfigured,
    ProviderUnavailable,
    ProvisioningFailed,
    QuotaExceeded,
    WorkspaceExhausted,
    WriteConflict,
)
from shared.launch import Launch
from shared.models import ProviderName, Session, State
from shared.ports import Ports
from shared.providers.base import Wanted
from shared.removal import Removal
from shared.snapshots import Snapshots
from shared.turns import FREEZE_LEASE_S, TRANSIENT, begin, counted, is_due, thawed, told_of, turned, unfit

log = logging.getLogger(__name__)

FINAL = (ProvisioningFailed, QuotaExceeded, InvalidRequest, WorkspaceExhausted)


@dataclass(frozen=True, slots=True)
class Moving:
    """Moves sessions that run."""

    ports: Ports

    async def move(self, session: Session, target: ProviderName) -> Session:
        """Begin it; nothing to do for one that is there or on its way.

        Raises InvalidRequest: the target cannot have such a session; SessionFailed, SessionNotReady, SessionNotFound.
        """
        provider = self.ports.providers.get(target)
        if provider is None:
            offered = " or ".join(f"'{name}'" for name in self.ports.providers)
            complaint = f"got '{target}', which this deployment does not offer; wanted {offered}"
            raise ProviderNotConfigured(f"provider: {complaint}", {"provider": [complaint]})
        provider.check(Wanted.of(session))

        def moving(session: Session, now: datetime) -> Session | None:
            if session.state is State.MOVING and session.target is target:
                return None
            if session.state is not State.RUNNING:
                raise unfit(session, State.RUNNING)
            if session.provider is target:
                return None
            return replace(begin(session, State.MOVING, now), target=target, leaving=None)

        return await turned(self.ports, session, moving, self.ports.tasks.move)

    async def step(self, session_id: str, turn: int) -> None:
        """Step: carry it over. Raises ProviderUnavailable to be delivered again."""
        session = await self.ports.stored(session_id)
        if session is None or session.turn != turn:
            return
        if session.state is State.RUNNING and session.leaving is not None:
            await self._leave(session)
        elif session.state is State.MOVING and session.target is not None:
            try:
                await self._carry(session, session.target)
            except WriteConflict as exc:
                await self._try_again(session, exc)

    async def _carry(self, session: Session, target: ProviderName) -> None:
        """Raises WriteConflict: the session was changed meanwhile."""
        if session.snapshot is not None and is_due(session, self.ports.clock()):  # it may have been thawed since
            await self._stay(session, target, ProviderUnavailable("it took too long"))
            return
        try:
            processes = await self.ports.agents.freeze(session, FREEZE_LEASE_S)
            session = await self._saved(session)
            there = replace(session, provider=target, url=None, details={"reason": f"{target}: moved there"})
            arrived = await Launch(self.ports).start(there)
        except FINAL as exc:
            await self._stay(session, target, exc)
            return
        except TRANSIENT as exc:
            if is_due(session, self.ports.clock()):
                await self._stay(session, target, exc)
            else:
                await self._try_again(session, exc)
            return
        running = arrived.moved(State.RUNNING, target=None, leaving=session.provider, snapshot=None)
        notice = f"moved from {session.provider}: {counted(processes)}"
        written = await self.ports.store.update(told_of(running, notice))
        log.info("session moved", extra={"session_id": session.id, "provider": target, "from": session.provider})
        await Snapshots(self.ports).forget(session, session.snapshot)
        await self._leave(written)

    async def _saved(self, session: Session) -> Session:
        """With its files in the bucket. What was saved before a crash is not saved again: it stood still since."""
        if session.snapshot is not None:
            return session
        snapshot = await Snapshots(self.ports).save(session)
        return await self.ports.store.update(replace(session, snapshot=snapshot))

    async def _stay(self, session: Session, target: ProviderName, exc: OnMemOSError) -> None:
        """Nothing is left where it did not start, and what stood still goes on. Raises ProviderUnavailable."""
        await self.ports.providers[target].delete(session.id)
        await thawed(self.ports, session)
        stays = session.moved(State.RUNNING, target=None, snapshot=None)
        await self.ports.store.update(told_of(stays, f"not moved to {target}: {exc}"))
        await Snapshots(self.ports).forget(session, session.snapshot)
        log.warning("session not moved", extra={"session_id": session.id, "provider": target, "error": str(exc)})

    async def _leave(self, session: Session) -> None:
        """Remove the workspace that it came from. Raises ProviderUnavailable."""
        if session.leaving is None:
            return
        await self.ports.providers[session.leaving].delete(session.id)
        try:
            await self.ports.store.update(replace(session, leaving=None))
        except WriteConflict:
            raise ProviderUnavailable(f"session {session.id} was changed while it moved") from None

    async def _try_again(self, session: Session, why: OnMemOSError) -> None:
        """Raises ProviderUnavailable, but not for a session that was deleted: its teardown may have come too early."""
        current = await self.ports.stored(session.id)
        if current is None or current.state is State.DELETING:
            await Removal(self.ports).resources(session)
        elif current.state is State.MOVING:
            raise ProviderUnavailable(f"session {session.id} does not move yet: {why}") from why
