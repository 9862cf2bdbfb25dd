"""Removing what a session has: its workspaces, its jobs, its bucket. Each part can be repeated."""

from dataclasses import dataclass, replace

from shared import names
from shared.job_life import JobLife
from shared.models import Session
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
