"""Moving a session to another provider under its id, with its files: what callers ask for, and the step behind it.

The old workspace stands still until the new one runs with the same files; if that one does not start, the old one goes
on as if nothing had been.
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime

from shared.errors import (
    OnMemOSError,
    ProviderNotConfigured,
    ProviderUnavailable,
    WriteConflict,
)
from shared.launch import Launch
from shared.models import ProviderName, Session, State
from shared.ports import Ports
from shared.providers.base import Wanted
from shared.removal import Removal
from shared.snapshots import Snapshots
from shared.turns import FINAL, FREEZE_LEASE_S, TRANSIENT, begin, counted, is_due, thawed, told_of, turned, unfit

log = logging.getLogger(__name__)


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
            return replace(begin(session, State.MOVING, now), target=target)

        return await turned(self.ports, session, moving, self.ports.tasks.move)

    async def step(self, session_id: str, turn: int) -> None:
        """Step: carry it over. Raises ProviderUnavailable to be delivered again."""
        session = await self.ports.stored(session_id)
        if session is None or session.turn != turn:
            return
        try:
            if session.state is State.RUNNING:  # a former try decided where it runs, and may not have come further
                await thawed(self.ports, session)
                await self._leave(session)
            elif session.state is State.MOVING and session.target is not None:
                await self._carry(await self._leave(session), session.target)
        except WriteConflict as exc:
            await Removal(self.ports).unless_alive(session, exc)

    async def _carry(self, session: Session, target: ProviderName) -> None:
        """Raises WriteConflict: the session was changed meanwhile."""
        if session.snapshot is not None and is_due(session, self.ports.clock()):  # it may have been thawed since
            await self._stay(session, target, ProviderUnavailable("it took too long"))
            return
        try:
            processes = await self.ports.agents.freeze(session, FREEZE_LEASE_S)
            session = await Snapshots(self.ports).saved(session)
            there = replace(session, provider=target, url=None, details={"reason": f"{target}: moved there"})
            arrived = await Launch(self.ports).start(there)
        except (*FINAL, *TRANSIENT) as exc:
            if not isinstance(exc, FINAL) and not is_due(session, self.ports.clock()):
                await Removal(self.ports).unless_alive(session, exc)
            else:
                await self._stay(session, target, exc)
            return
        running = arrived.moved(State.RUNNING, target=None, leaving=session.provider, snapshot=None)
        notice = f"moved from {session.provider}: {counted(processes)}"
        written = await self.ports.store.update(told_of(running, notice))
        log.info("session moved", extra={"session_id": session.id, "provider": target, "from": session.provider})
        await Snapshots(self.ports).forget(session)
        await self._leave(written)

    async def _stay(self, session: Session, target: ProviderName, exc: OnMemOSError) -> None:
        """What stood still goes on, and nothing is left where it did not start.

        That it stays is written first: another delivery of the step may just have brought it there. Raises as `_leave`.
        """
        stays = session.moved(State.RUNNING, target=None, leaving=target, snapshot=None)
        written = await self.ports.store.update(told_of(stays, f"not moved to {target}: {exc}"))
        log.warning("session not moved", extra={"session_id": session.id, "provider": target, "error": str(exc)})
        await thawed(self.ports, written)
        await Snapshots(self.ports).forget(session)
        await self._leave(written)

    async def _leave(self, session: Session) -> Session:
        """The session without the workspace that is still to be removed. Raises ProviderUnavailable, WriteConflict."""
        if session.leaving is None:
            return session
        if session.leaving in self.ports.providers:
            await self.ports.providers[session.leaving].delete(session.id)
        return await self.ports.store.update(replace(session, leaving=None))
