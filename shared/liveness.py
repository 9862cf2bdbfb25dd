"""Whether a session that is recorded as running really runs, and how often its workspace was started."""

import logging
from dataclasses import dataclass, replace

from shared.errors import ProviderUnavailable, WorkspaceUnreachable, WriteConflict
from shared.models import Session, State
from shared.pauses import Pauses
from shared.ports import Ports
from shared.providers.base import Condition, Health

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Liveness:
    """Asks agents, and the provider where an agent is silent."""

    ports: Ports

    async def verified(self, session: Session) -> Session:
        """A session that says `running` is asked whether it is: a restart shows as provisioning, a loss as failed.

        The answer is for showing, not for writing: a restart passes by itself and is not recorded as a state.
        """
        if session.state is not State.RUNNING:
            return session
        try:
            boot_id = await self.ports.agents.boot_id(session)
        except WorkspaceUnreachable as silence:
            condition = await self._condition(session)
            if condition.health is Health.GONE:
                return await self._lost(session, condition.reason)
            reason = condition.reason or str(silence)
            details = {**session.details, "notice": f"the workspace is restarting: {reason}"}
            return replace(session, state=State.PROVISIONING, details=details)
        return await self.note_boot(session, boot_id)

    async def _condition(self, session: Session) -> Condition:
        try:
            return await self.ports.providers[session.provider].inspect(session.id)
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

    async def _lost(self, session: Session, reason: str) -> Session:
        failed = session.moved(State.FAILED, error=f"the workspace was lost: {reason}")
        try:
            return await self.ports.store.update(failed)
        except WriteConflict:
            return await self.ports.store.get(session.id)
