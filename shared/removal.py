"""Removing what a session has: its workspaces, its jobs, its bucket. Each part can be repeated."""

from dataclasses import dataclass, replace

from shared import names
from shared.errors import OnMemOSError, ProviderUnavailable
from shared.job_life import JobLife
from shared.models import Session, State
from shared.ports import Ports
from shared.snapshots import Snapshots


@dataclass(frozen=True, slots=True)
class Removal:
    """Removes everything but the session's document."""

    ports: Ports

    async def resources(self, session: Session) -> None:
        """On every provider that may have a workspace of it. Raises ProviderUnavailable."""
        for place in session.places:
            if place in self.ports.providers:
                await self.ports.providers[place].delete(session.id)
        await JobLife(self.ports).remove_all(session)
        # After the workspaces and the jobs, which have it mounted.
        if session.storage.bucket is None and session.storage.keep:
            await Snapshots(self.ports).forget_all(session)
        else:
            await self.ports.buckets.delete(session.id)

    async def of_failed(self, session: Session) -> None:
        """The same for a session that never ran: its bucket is not kept, since nothing can be in it."""
        await self.resources(replace(session, storage=replace(session.storage, keep=False)))
        if session.storage.keep:
            await self.ports.store.forget_kept(names.bucket_name(session.id))

    async def unless_alive(self, session: Session, why: OnMemOSError) -> None:
        """End a step that did not come to its end, by `why`; `session` is as the step knows it.

        Of one that was deleted meanwhile all is removed: its teardown may have come before what the step made. Raises
        ProviderUnavailable, for the step to be delivered again, while its session is still in that state and turn; one
        that others have moved on needs nothing.
        """
        current = await self.ports.stored(session.id)
        if current is None or current.state is State.DELETING:
            await self.resources(session)
        elif (current.state, current.turn) == (session.state, session.turn):
            raise ProviderUnavailable(f"session {session.id} is still {session.state}: {why}") from why
