"""Whether a session that is recorded as running really runs, and how often its workspace was started."""

import logging
from dataclasses import dataclass, replace

from shared.errors import ProviderUnavailable, SessionNotFound, WorkspaceUnreachable, WriteConflict
from shared.models import Session, State
from shared.pauses import Pauses
from shared.ports import Ports
from shared.providers.base import Condition, Health
from shared.turns import suspended, told_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Liveness:
    """Asks agents, and the provider where an agent is silent."""

    ports: Ports

    async def verified(self, session: Session) -> Session:
        """A session that says `running` is asked whether it is: a restart shows as provisioning, a loss as failed.

        One that its platform stopped is suspended where that keeps its files, and lost where it does not.
        The answer is for showing, not for writing: a restart passes by itself and is not recorded as a state. Raises
        SessionNotFound: it was deleted meanwhile; ProviderUnavailable.
        """
        if session.state is not State.RUNNING:
            return session
        try:
            boot_id = await self.ports.agents.boot_id(session)
        except WorkspaceUnreachable as silence:
            return await self._silent(session, silence)
        return await self.note_boot(session, boot_id)

    async def condition(self, session: Session) -> Condition:
        """What its provider says of its workspace; STARTING where nobody knows."""
        try:
            return await self.ports.provider(session.provider).inspect(session.id)
        except ProviderUnavailable as exc:
            return Condition(Health.STARTING, str(exc))  # nobody knows; it is certainly not known to run

    async def note_boot(self, session: Session, boot_id: str) -> Session:
        """Remember that the workspace was restarted under its handle. Whoever sees it first counts it."""
        if boot_id == session.boot_id:
            return session
        try:
            return await self.ports.store.update(replace(session, boot_id=boot_id, boots=session.boots + 1))
        except WriteConflict:
            return await self.ports.stored(session.id) or session
        except ProviderUnavailable as exc:  # the command has run: its answer counts for more than our count
            log.warning("restart not counted", extra={"session_id": session.id, "error": str(exc)})
            return session

    async def first_boot(self, session: Session, patience_s: float) -> str:
        """The platform says that it is ready; its address may need a moment more."""
        pauses = Pauses(patience_s, self.ports.sleep)
        while True:
            try:
                return await self.ports.agents.boot_id(session)
            except WorkspaceUnreachable:
                if not await pauses.next():
                    raise

    async def lose(self, session: Session, reason: str) -> Session:
        """Its workspace is gone, and so is the session. Raises WriteConflict, ProviderUnavailable."""
        return await self.ports.store.update(session.moved(State.FAILED, error=f"the workspace was lost: {reason}"))

    async def _silent(self, session: Session, silence: WorkspaceUnreachable) -> Session:
        condition = await self.condition(session)
        try:
            if condition.health is Health.GONE:
                return await self.lose(session, condition.reason)
            if condition.health is Health.STOPPED:
                return await self._stopped(session, condition.reason)
        except WriteConflict:
            current = await self.ports.store.get(session.id)
            if not current.is_visible_at(self.ports.clock()):
                raise SessionNotFound from None
            return current
        reason = condition.reason or str(silence)
        details = {**session.details, "notice": f"the workspace is restarting: {reason}"}
        return replace(session, state=State.PROVISIONING, details=details)

    async def _stopped(self, session: Session, reason: str) -> Session:
        if not self.ports.provider(session.provider).keeps_files(session):
            return await self.lose(session, reason)
        turn = replace(session, turn=session.turn + 1, turned_at=self.ports.clock())
        return await self.ports.store.update(told_of(suspended(turn), f"suspended by its platform: {reason}"))
