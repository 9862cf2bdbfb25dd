"""Where sessions, idempotency records and those of kept buckets are: the Protocol, and Firestore behind it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, cast

from google.api_core import exceptions
from google.cloud.firestore_v1 import AsyncClient, AsyncQuery
from google.cloud.firestore_v1.base_query import FieldFilter

from shared import names
from shared.collection import SWEEP_PAGE, TIMEOUT_S, Collection, Snapshot, told
from shared.documents import DocumentReader, fields_of, of_kept, to_document, to_kept, to_session
from shared.errors import AlreadyExists, SessionNotFound
from shared.models import (
    Idempotency,
    KeptBucket,
    Page,
    Position,
    Session,
    SessionFilter,
    State,
)

MAX_DECODED = 1024
UNFINISHED = frozenset({State.PROVISIONING, State.SUSPENDING, State.MOVING, State.DELETING})


class Store(Protocol):
    """State of the control plane. Every method may raise ProviderUnavailable."""

    async def create(self, session: Session, idempotency: Idempotency | None = None) -> Session:
        """Write both or neither, and that the session's bucket is kept if it is. Raises AlreadyExists."""

    async def get(self, session_id: str) -> Session:
        """Raises SessionNotFound."""

    async def get_many(self, session_ids: list[str]) -> dict[str, Session]:
        """Those that exist, by id."""

    async def update(self, session: Session) -> Session:
        """Write `session` if its document is still of `session.version`; WriteConflict if it isn't or is gone."""

    async def delete(self, session_id: str) -> None:
        """Forget a session; one that is gone is not an error."""

    async def discard(self, session_id: str, idempotency: Idempotency | None) -> None:
        """Take back a `create`, as far as it went."""

    async def kept_buckets(self, bucket_names: list[str]) -> dict[str, KeptBucket]:
        """Those of the buckets that outlive their session, by name."""

    async def forget_kept(self, bucket_name: str) -> None:
        """The bucket is not kept after all; one that never was is not an error."""

    async def page(self, tenant: str, where: SessionFilter, size: int, after: Position | None) -> Page:
        """Visible sessions, newest first; reads `size + 1` documents at the most."""

    def unfinished(self) -> AsyncIterator[Session]:
        """Every session that is on its way to another state (UNFINISHED), of all tenants."""

    def expired(self, now: datetime) -> AsyncIterator[Session]:
        """Every session whose time was up at `now`, of all tenants, whatever its state."""

    async def idempotency(self, record_id: str) -> Idempotency | None:
        """The record, if there is one."""

    async def has_spent_idempotency(self, before: datetime) -> bool:
        """Whether there are records that expired before."""

    async def forget_idempotency(self, before: datetime) -> int:
        """Delete the records that expired before; how many there were."""


class FirestoreStore:
    """The Store on Firestore: collections `sessions`, `idempotency`, `kept_buckets`."""

    def __init__(self, client: AsyncClient, reader: DocumentReader) -> None:
        self._client = client
        self._sessions, self._idempotency, self._kept = (
            Collection(client, reader, name) for name in ("sessions", "idempotency", "kept_buckets")
        )
        self._decoded: dict[str, Session] = {}  # making a session of a document takes a tenth of a command's time

    async def create(self, session: Session, idempotency: Idempotency | None = None) -> Session:
        batch = self._client.batch()
        batch.create(self._sessions.document(session.id), to_document(session))
        if idempotency is not None:
            record = {
                "body_digest": idempotency.body_digest,
                "session_id": idempotency.session_id,
                "expires_at": idempotency.expires_at,
            }
            batch.create(self._idempotency.document(idempotency.id), record)
        kept = kept_by(session)
        if kept is not None:
            batch.set(self._kept.document(kept.name), of_kept(kept))
        with told():
            try:
                results = await batch.commit(timeout=TIMEOUT_S)
            except exceptions.Conflict as exc:
                raise AlreadyExists(session.id) from exc
        return replace(session, version=results[0].update_time)

    async def get(self, session_id: str) -> Session:
        document = await self._sessions.read(session_id)
        if document is None:
            raise SessionNotFound
        known = self._decoded.get(session_id)
        if known is None or known.version != document.update_time:
            if len(self._decoded) >= MAX_DECODED:
                self._decoded.clear()
            known = to_session(session_id, fields_of(document), document.update_time)
            self._decoded[session_id] = known
        return known

    async def get_many(self, session_ids: list[str]) -> dict[str, Session]:
        return {found.id: _session_of(found) for found in await self._sessions.many(session_ids)}

    async def update(self, session: Session) -> Session:
        version = await self._sessions.update(session.id, to_document(session), session.version)
        return replace(session, version=version)

    async def delete(self, session_id: str) -> None:
        await self._sessions.delete(session_id)

    async def discard(self, session_id: str, idempotency: Idempotency | None) -> None:
        batch = self._client.batch()
        batch.delete(self._sessions.document(session_id))
        batch.delete(self._kept.document(names.bucket_name(session_id)))
        if idempotency is not None:
            batch.delete(self._idempotency.document(idempotency.id))
        with told():
            await batch.commit(timeout=TIMEOUT_S)

    async def kept_buckets(self, bucket_names: list[str]) -> dict[str, KeptBucket]:
        return {one.id: to_kept(one.id, _fields(one)) for one in await self._kept.many(bucket_names)}

    async def forget_kept(self, bucket_name: str) -> None:
        await self._kept.delete(bucket_name)

    async def page(self, tenant: str, where: SessionFilter, size: int, after: Position | None) -> Page:
        equal = {
            "tenant": tenant,
            "visible": True,
            "namespace": where.namespace,
            "user": where.user,
            "state": where.status and str(where.status),
            "provider": where.provider and str(where.provider),
        }
        more = []
        if where.namespaces is not None:
            more.append(FieldFilter("namespace", "in", sorted(where.namespaces)))
        if where.label is not None:
            more.append(FieldFilter("label_pairs", "array_contains", "=".join(where.label)))
        found, is_cut = await self._sessions.page(self._sessions.where(equal, *more), size, after)
        sessions = tuple(map(_session_of, found))
        return Page(sessions, Position(sessions[-1].created_at, sessions[-1].id) if is_cut else None)

    async def unfinished(self) -> AsyncIterator[Session]:
        states = FieldFilter("state", "in", sorted(map(str, UNFINISHED)))
        async for found in self._sessions.sweep(self._sessions.where({}, states)):
            yield _session_of(found)

    async def expired(self, now: datetime) -> AsyncIterator[Session]:
        over = self._sessions.where({}, FieldFilter("expires_at", "<=", now))
        async for found in self._sessions.sweep(over.order_by("expires_at")):
            yield _session_of(found)

    async def idempotency(self, record_id: str) -> Idempotency | None:
        document = await self._idempotency.read(record_id)
        if document is None:
            return None
        record = fields_of(document)
        return Idempotency(record_id, record["body_digest"], record["session_id"], record["expires_at"])

    async def has_spent_idempotency(self, before: datetime) -> bool:
        return bool(await self._idempotency.found(self._spent(before).limit(1)))

    async def forget_idempotency(self, before: datetime) -> int:
        forgotten = 0
        while records := await self._idempotency.found(self._spent(before).limit(SWEEP_PAGE)):
            batch = self._client.batch()
            for record in records:
                batch.delete(record.reference)
            with told():
                await batch.commit(timeout=TIMEOUT_S)
            forgotten += len(records)
        return forgotten

    def _spent(self, before: datetime) -> AsyncQuery:
        return self._idempotency.where({}, FieldFilter("expires_at", "<=", before))


def kept_by(session: Session) -> KeptBucket | None:
    """The record of the session's own bucket, if that is to outlive it."""
    if session.storage.bucket is not None or not session.storage.keep:
        return None
    return KeptBucket(names.bucket_name(session.id), session.tenant, session.namespace, session.id)


def _session_of(snapshot: Snapshot) -> Session:
    return to_session(snapshot.id, _fields(snapshot), snapshot.update_time)


def _fields(snapshot: Snapshot) -> dict[str, Any]:
    return cast("dict[str, Any]", snapshot.to_dict())
