"""A session's work folder, saved in the session's own bucket and put back from there."""

import base64
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import google_crc32c

from shared import names
from shared.errors import ProviderUnavailable
from shared.models import Session, Snapshot
from shared.ports import Ports

log = logging.getLogger(__name__)

PREFIX = ".onmemos/workspace-"


@dataclass(frozen=True, slots=True)
class Snapshots:
    """One for each turn of a session's life: `.onmemos/workspace-<turn>.tar`.

    The bucket is the session's own even where it has another one mounted: that one may be other sessions' too.
    """

    ports: Ports

    async def save(self, session: Session) -> Snapshot:
        """Save what is in the work folder now; again, in the place of what a former try of this turn saved.

        Raises WorkspaceUnreachable, WorkspaceLost, ProviderUnavailable.
        """
        bucket = await self.ports.buckets.ensure(session.id)
        name = f"{PREFIX}{session.turn}.tar"
        written = await self.ports.buckets.write(bucket, name, self.ports.agents.archive(session))
        facts = {"session_id": session.id, "size_bytes": written.size_bytes}
        log.info("work folder saved", extra=facts)
        return Snapshot(name, written.size_bytes, written.crc32c)

    async def load(self, session: Session, snapshot: Snapshot) -> None:
        """Put it back into the work folder of a workspace that has just started, once however often it is tried.

        Raises WorkspaceUnreachable, WorkspaceLost, ProviderUnavailable.
        """
        name = names.bucket_name(session.id)
        tar = _whole(snapshot, self.ports.buckets.read(name, snapshot.object))
        await self.ports.agents.restore(session, f"{session.id}-{session.turn}", tar)

    async def forget(self, session: Session, snapshot: Snapshot | None) -> None:
        """Best effort: what is left costs a little until the session goes, and does no harm."""
        if snapshot is None:
            return
        try:
            await self.ports.buckets.remove(names.bucket_name(session.id), snapshot.object)
        except ProviderUnavailable as exc:
            log.info("snapshot left", extra={"session_id": session.id, "object": snapshot.object, "error": str(exc)})

    async def forget_all(self, session: Session) -> None:
        """From a bucket that is kept. Raises ProviderUnavailable."""
        bucket = names.bucket_name(session.id)
        for name, _ in await self.ports.buckets.list(bucket, PREFIX):
            await self.ports.buckets.remove(bucket, name)


async def _whole(snapshot: Snapshot, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks. Raises ProviderUnavailable at their end when they are not what was saved."""
    size, checksum = 0, google_crc32c.Checksum()
    async for chunk in chunks:
        size += len(chunk)
        checksum.update(chunk)
        yield chunk
    seen = base64.b64encode(checksum.digest()).decode()
    if (size, seen) != (snapshot.size_bytes, snapshot.crc32c):
        raise ProviderUnavailable(
            f"{snapshot.object}: got {size} bytes with the CRC32C {seen}, "
            f"wanted {snapshot.size_bytes} with {snapshot.crc32c}"
        )
