"""Where sessions, idempotency records and those of kept buckets are: the Protocol, and Firestore behind it.

Every write is conditional: `create`, or an update that holds only while the document is what was read. Nothing is
claimed inside a transaction (contended ones livelock in the emulator and crawl in production).
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, cast

from google.api_core import exceptions
from google.cloud.firestore_v1 import AsyncClient, AsyncCollectionReference, AsyncQuery, DocumentSnapshot
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.types import Document

from shared import names
from shared.cloud import unavailable
from shared.documents import DocumentReader, fields_of, of_kept, to_document, to_kept, to_session
from shared.errors import AlreadyExists, SessionNotFound, WriteConflict
from shared.models import (
    Idempotency,
    KeptBucket,
    Page,
    Position,
    Session,
    SessionFilter,
    State,
)

TIMEOUT_S = 15.0  # the client's own default is 60 s, longer than a caller waits
SWEEP_PAGE = 300
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
    """The Store on Firestore: collections `sessions`, `idempotency`, `kept_buckets`.

    `reader` reads single documents: every command of a session begins with one, and the client's own way, a stream of
    one, takes half as long again.
    """

    def __init__(self, client: AsyncClient, reader: DocumentReader) -> None:
        self._client = client
        self._reader = reader
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
            batch.create(self._client.collection("idempotency").document(idempotency.id), record)
        kept = kept_by(session)
        if kept is not None:
            batch.set(self._kept.document(kept.name), of_kept(kept))
        try:
            results = await batch.commit(timeout=TIMEOUT_S)
        except exceptions.Conflict as exc:
            raise AlreadyExists(session.id) from exc
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc
        return replace(session, version=results[0].update_time)

    async def get(self, session_id: str) -> Session:
        document = await self._read("sessions", session_id)
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
        found = await self._snapshots([self._sessions.document(one) for one in session_ids])
        return {snapshot.id: _session_of(snapshot) for snapshot in found}

    async def update(self, session: Session) -> Session:
        condition = self._client.write_option(last_update_time=session.version)
        reference = self._sessions.document(session.id)
        try:
            # update() and not set(): only update carries a precondition.
            result = await reference.update(to_document(session), option=condition, timeout=TIMEOUT_S)
        except (exceptions.FailedPrecondition, exceptions.NotFound, exceptions.Aborted) as exc:
            raise WriteConflict(session.id) from exc
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc
        return replace(session, version=result.update_time)

    async def delete(self, session_id: str) -> None:
        try:
            await self._sessions.document(session_id).delete(timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc

    async def discard(self, session_id: str, idempotency: Idempotency | None) -> None:
        batch = self._client.batch()
        batch.delete(self._sessions.document(session_id))
        batch.delete(self._kept.document(names.bucket_name(session_id)))
        if idempotency is not None:
            batch.delete(self._client.collection("idempotency").document(idempotency.id))
        try:
            await batch.commit(timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc

    async def kept_buckets(self, bucket_names: list[str]) -> dict[str, KeptBucket]:
        found = await self._snapshots([self._kept.document(name) for name in bucket_names])
        return {one.id: to_kept(one.id, cast("dict[str, Any]", one.to_dict())) for one in found}

    async def forget_kept(self, bucket_name: str) -> None:
        try:
            await self._kept.document(bucket_name).delete(timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc

    async def page(self, tenant: str, where: SessionFilter, size: int, after: Position | None) -> Page:
        query = self._sessions.where(filter=FieldFilter("tenant", "==", tenant))
        query = query.where(filter=FieldFilter("visible", "==", True))
        equal = {
            "namespace": where.namespace,
            "user": where.user,
            "state": where.status,
            "provider": where.provider,
        }
        for name, value in equal.items():
            if value is not None:
                query = query.where(filter=FieldFilter(name, "==", str(value)))
        if where.namespaces is not None:
            query = query.where(filter=FieldFilter("namespace", "in", sorted(where.namespaces)))
        if where.label is not None:
            query = query.where(filter=FieldFilter("label_pairs", "array_contains", "=".join(where.label)))
        query = query.order_by("created_at", direction="DESCENDING").order_by("__name__", direction="DESCENDING")
        if after is not None:
            place = {"created_at": after.created_at, "__name__": self._sessions.document(after.session_id)}
            query = query.start_after(place)
        try:
            snapshots = await query.limit(size + 1).get(timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc
        sessions = tuple(_session_of(snapshot) for snapshot in snapshots[:size])
        more = len(snapshots) > size
        return Page(sessions, Position(sessions[-1].created_at, sessions[-1].id) if more else None)

    async def unfinished(self) -> AsyncIterator[Session]:
        states = FieldFilter("state", "in", sorted(map(str, UNFINISHED)))
        async for session in self._sweep(self._sessions.where(filter=states)):
            yield session

    async def expired(self, now: datetime) -> AsyncIterator[Session]:
        query = self._sessions.where(filter=FieldFilter("expires_at", "<=", now)).order_by("expires_at")
        async for session in self._sweep(query):
            yield session

    async def idempotency(self, record_id: str) -> Idempotency | None:
        document = await self._read("idempotency", record_id)
        if document is None:
            return None
        record = fields_of(document)
        return Idempotency(record_id, record["body_digest"], record["session_id"], record["expires_at"])

    async def has_spent_idempotency(self, before: datetime) -> bool:
        try:
            return bool(await self._spent(before).limit(1).get(timeout=TIMEOUT_S))
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc

    async def forget_idempotency(self, before: datetime) -> int:
        query = self._spent(before)
        forgotten = 0
        while True:
            try:
                snapshots = await query.limit(SWEEP_PAGE).get(timeout=TIMEOUT_S)
                if not snapshots:
                    return forgotten
                batch = self._client.batch()
                for snapshot in snapshots:
                    batch.delete(snapshot.reference)
                await batch.commit(timeout=TIMEOUT_S)
            except exceptions.GoogleAPIError as exc:
                raise unavailable("Firestore", exc) from exc
            forgotten += len(snapshots)

    @property
    def _sessions(self) -> AsyncCollectionReference:
        return self._client.collection("sessions")

    @property
    def _kept(self) -> AsyncCollectionReference:
        return self._client.collection("kept_buckets")

    async def _snapshots(self, references: list[Any]) -> "list[DocumentSnapshot[Any]]":
        if not references:
            return []
        try:
            return [s async for s in self._client.get_all(references, timeout=TIMEOUT_S) if s.exists]
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc

    def _spent(self, before: datetime) -> AsyncQuery:
        return self._client.collection("idempotency").where(filter=FieldFilter("expires_at", "<=", before))

    async def _read(self, collection: str, name: str) -> Document | None:
        try:
            return await self._reader.read(f"{collection}/{name}")
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc

    async def _sweep(self, query: Any) -> AsyncIterator[Session]:
        """Page by page, so that a sweep holds neither all sessions in memory nor one stream open all the while."""
        last: DocumentSnapshot[Any] | None = None
        while True:
            page = query.limit(SWEEP_PAGE) if last is None else query.start_after(last).limit(SWEEP_PAGE)
            try:
                snapshots = await page.get(timeout=TIMEOUT_S)
            except exceptions.GoogleAPIError as exc:
                raise unavailable("Firestore", exc) from exc
            for snapshot in snapshots:
                yield _session_of(snapshot)
            if len(snapshots) < SWEEP_PAGE:
                return
            last = snapshots[-1]


def kept_by(session: Session) -> KeptBucket | None:
    """The record of the session's own bucket, if that is to outlive it."""
    if session.storage.bucket is not None or not session.storage.keep:
        return None
    return KeptBucket(names.bucket_name(session.id), session.tenant, session.namespace, session.id)


def _session_of(snapshot: "DocumentSnapshot[Any]") -> Session:
    return to_session(snapshot.id, cast("dict[str, Any]", snapshot.to_dict()), snapshot.update_time)
