"""A session's work folder, saved in the session's own bucket and put back from there."""

import base64
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace

import google_crc32c

from shared import names
from shared.errors import ProviderUnavailable, WriteConflict
from shared.models import Session, Snapshot
from shared.ports import Ports

log = logging.getLogger(__name__)

PREFIX = ".onmemos/workspace-"
OF_TURN = re.compile(rf"{re.escape(PREFIX)}(\d+)\b.*\.tar")


@dataclass(frozen=True, slots=True)
class Snapshots:
    """A turn of a session's life has one: `.onmemos/workspace-<turn>-<random>.tar`.

    The bucket is the session's own even where it has another one mounted: that one may be other sessions' too.
    """

    ports: Ports

    async def saved(self, session: Session) -> Session:
        """The session, written, with what is in its work folder in the bucket; one that has a snapshot, as it is.

        Two that save the same turn write an object each, and the first of them to come to its end is the one.

        Raises WriteConflict, WorkspaceUnreachable, WorkspaceLost, ProviderUnavailable, ProvisioningFailed.
        """
        if session.snapshot is not None:
            return session
        bucket = await self.ports.buckets.ensure(session.id, session.tenant)
        name = f"{PREFIX}{session.turn}-{secrets.token_hex(4)}.tar"
        written = await self.ports.buckets.write(bucket, name, self.ports.agents.archive(session))
        log.info("work folder saved", extra={"session_id": session.id, "size_bytes": written.size_bytes})
        snapshot = Snapshot(name, written.size_bytes, written.crc32c)
        try:
            return await self.ports.store.update(replace(session, snapshot=snapshot))
        except WriteConflict:
            with suppress(ProviderUnavailable):
                await self.ports.buckets.remove(bucket, name)
            raise

    async def load(self, session: Session, snapshot: Snapshot) -> None:
        """Put it back into the work folder of a workspace that has just started, once however often it is tried.

        Raises WorkspaceUnreachable, WorkspaceLost, ProviderUnavailable.
        """
        name = names.bucket_name(session.id)
        tar = _whole(snapshot, self.ports.buckets.read(name, snapshot.object))
        await self.ports.agents.restore(session, f"{session.id}-{session.turn}", tar)

    async def forget(self, session: Session) -> None:
        """What was saved up to the session's turn, if it was.

        Best effort: what is left costs a little until the session goes, and does no harm.
        """
        if session.snapshot is None:
            return
        try:
            await self._remove(session, session.turn)
        except ProviderUnavailable as exc:
            log.info("snapshot left", extra={"session_id": session.id, "error": str(exc)})

    async def forget_all(self, session: Session) -> None:
        """From a bucket that is kept. Raises ProviderUnavailable."""
        await self._remove(session, None)

    async def _remove(self, session: Session, last_turn: int | None) -> None:
        bucket = names.bucket_name(session.id)
        for name, _ in await self.ports.buckets.list(bucket, PREFIX):
            of_turn = OF_TURN.fullmatch(name)
            if of_turn and (last_turn is None or int(of_turn[1]) <= last_turn):
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
