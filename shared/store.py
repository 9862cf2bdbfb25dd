"""Where sessions, keys and idempotency records are kept: the Protocol, and Firestore behind it.

Every write is conditional: `create`, or an update that holds only while the document is what was read. Nothing is
claimed inside a transaction (contended ones livelock in the emulator and crawl in production).
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, cast

from google.api_core import exceptions
from google.cloud.firestore_v1 import AsyncClient, AsyncCollectionReference, AsyncQuery, DocumentSnapshot
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.cloud import reason
from shared.errors import AlreadyExists, ProviderUnavailable, SessionNotFound, WriteConflict
from shared.models import (
    Idempotency,
    Page,
    Position,
    ProviderName,
    Resources,
    Session,
    SessionFilter,
    State,
)

TIMEOUT_S = 15.0  # the client's own default is 60 s, longer than a caller waits
SWEEP_PAGE = 300


class Store(Protocol):
    """State of the control plane. Every method may raise ProviderUnavailable."""

    async def create(self, session: Session, idempotency: Idempotency | None = None) -> Session:
        """Write both or neither. Raises AlreadyExists: one of the two is there."""

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

    async def page(self, tenant: str, where: SessionFilter, size: int, after: Position | None) -> Page:
        """Visible sessions, newest first; reads `size + 1` documents at the most."""

    def unfinished(self) -> AsyncIterator[Session]:
        """Every session that is provisioning or deleting, of all tenants."""

    def expired(self, now: datetime) -> AsyncIterator[Session]:
        """Every session whose time was up at `now`, of all tenants, whatever its state."""

    async def idempotency(self, record_id: str) -> Idempotency | None:
        """The record, if there is one."""

    async def has_spent_idempotency(self, before: datetime) -> bool:
        """Whether there are records that expired before."""

    async def forget_idempotency(self, before: datetime) -> int:
        """Delete the records that expired before; how many there were."""

    async def key(self, digest: str) -> Mapping[str, Any] | None:
        """An API key's document by the key's digest, if there is one."""


class FirestoreStore:
    """The Store on Firestore: collections `sessions`, `idempotency`, `keys`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(self, session: Session, idempotency: Idempotency | None = None) -> Session:
        batch = self._client.batch()
        batch.create(self._sessions.document(session.id), _to_document(session))
        if idempotency is not None:
            record = {
                "body_digest": idempotency.body_digest,
                "session_id": idempotency.session_id,
                "expires_at": idempotency.expires_at,
            }
            batch.create(self._client.collection("idempotency").document(idempotency.id), record)
        try:
            results = await batch.commit(timeout=TIMEOUT_S)
        except exceptions.Conflict as exc:
            raise AlreadyExists(session.id) from exc
        except exceptions.GoogleAPIError as exc:
            raise _unavailable(exc) from exc
        return replace(session, version=results[0].update_time)

    async def get(self, session_id: str) -> Session:
        snapshot = await self._read("sessions", session_id)
        if snapshot is None:
            raise SessionNotFound
        return _to_session(snapshot)

    async def get_many(self, session_ids: list[str]) -> dict[str, Session]:
        if not session_ids:
            return {}
        references = [self._sessions.document(one) for one in session_ids]
        try:
            found = [s async for s in self._client.get_all(references, timeout=TIMEOUT_S) if s.exists]
        except exceptions.GoogleAPIError as exc:
            raise _unavailable(exc) from exc
        return {snapshot.id: _to_session(snapshot) for snapshot in found}

    async def update(self, session: Session) -> Session:
        condition = self._client.write_option(last_update_time=session.version)
        reference = self._sessions.document(session.id)
        try:
            # update() and not set(): only update carries a precondition.
            result = await reference.update(_to_document(session), option=condition, timeout=TIMEOUT_S)
        except (exceptions.FailedPrecondition, exceptions.NotFound, exceptions.Aborted) as exc:
            raise WriteConflict(session.id) from exc
        except exceptions.GoogleAPIError as exc:
            raise _unavailable(exc) from exc
        return replace(session, version=result.update_time)

    async def delete(self, session_id: str) -> None:
        try:
            await self._sessions.document(session_id).delete(timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise _unavailable(exc) from exc

    async def discard(self, session_id: str, idempotency: Idempotency | None) -> None:
        batch = self._client.batch()
        batch.delete(self._sessions.document(session_id))
        if idempotency is not None:
            batch.delete(self._client.collection("idempotency").document(idempotency.id))
        try:
            await batch.commit(timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise _unavailable(exc) from exc

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
        if where.label is not None:
            query = query.where(filter=FieldFilter("label_pairs", "array_contains", "=".join(where.label)))
        query = query.order_by("created_at", direction="DESCENDING").order_by("__name__", direction="DESCENDING")
        if after is not None:
            place = {"created_at": after.created_at, "__name__": self._sessions.document(after.session_id)}
            query = query.start_after(place)
        try:
            snapshots = await query.limit(size + 1).get(timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise _unavailable(exc) from exc
        sessions = tuple(_to_session(snapshot) for snapshot in snapshots[:size])
        more = len(snapshots) > size
        return Page(sessions, Position(sessions[-1].created_at, sessions[-1].id) if more else None)

    async def unfinished(self) -> AsyncIterator[Session]:
        states = FieldFilter("state", "in", [str(State.PROVISIONING), str(State.DELETING)])
        async for session in self._sweep(self._sessions.where(filter=states)):
            yield session

    async def expired(self, now: datetime) -> AsyncIterator[Session]:
        query = self._sessions.where(filter=FieldFilter("expires_at", "<=", now)).order_by("expires_at")
        async for session in self._sweep(query):
            yield session

    async def idempotency(self, record_id: str) -> Idempotency | None:
        snapshot = await self._read("idempotency", record_id)
        if snapshot is None:
            return None
        record = cast("dict[str, Any]", snapshot.to_dict())
        return Idempotency(snapshot.id, record["body_digest"], record["session_id"], record["expires_at"])

    async def has_spent_idempotency(self, before: datetime) -> bool:
        try:
            return bool(await self._spent(before).limit(1).get(timeout=TIMEOUT_S))
        except exceptions.GoogleAPIError as exc:
            raise _unavailable(exc) from exc

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
                raise _unavailable(exc) from exc
            forgotten += len(snapshots)

    async def key(self, digest: str) -> Mapping[str, Any] | None:
        snapshot = await self._read("keys", digest)
        return None if snapshot is None else cast("dict[str, Any]", snapshot.to_dict())

    @property
    def _sessions(self) -> AsyncCollectionReference:
        return self._client.collection("sessions")

    def _spent(self, before: datetime) -> AsyncQuery:
        return self._client.collection("idempotency").where(filter=FieldFilter("expires_at", "<=", before))

    async def _read(self, collection: str, name: str) -> "DocumentSnapshot[Any] | None":
        try:
            snapshot = await self._client.collection(collection).document(name).get(timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise _unavailable(exc) from exc
        return snapshot if snapshot.exists else None

    async def _sweep(self, query: Any) -> AsyncIterator[Session]:
        """Page by page, so that a sweep holds neither all sessions in memory nor one stream open all the while."""
        last: DocumentSnapshot[Any] | None = None
        while True:
            page = query.limit(SWEEP_PAGE) if last is None else query.start_after(last).limit(SWEEP_PAGE)
            try:
                snapshots = await page.get(timeout=TIMEOUT_S)
            except exceptions.GoogleAPIError as exc:
                raise _unavailable(exc) from exc
            for snapshot in snapshots:
                yield _to_session(snapshot)
            if len(snapshots) < SWEEP_PAGE:
                return
            last = snapshots[-1]


def _unavailable(exc: exceptions.GoogleAPIError) -> ProviderUnavailable:
    return ProviderUnavailable(f"Firestore did not answer as expected: {reason(exc)}")


def _to_document(session: Session) -> dict[str, Any]:
    return {
        "tenant": session.tenant,
        "namespace": session.namespace,
        "user": session.user,
        "provider": str(session.provider),
        "template": session.template,
        "state": str(session.state),
        "visible": session.state is not State.DELETING,
        "created_at": session.created_at,
        "expires_at": session.expires_at,
        "resources": {"cpu": session.resources.cpu, "memory_bytes": session.resources.memory_bytes},
        "env": dict(session.env),
        "labels": dict(session.labels),
        # Equality on a map's keys would need an index for each key; one array serves every label.
        "label_pairs": [f"{key}={value}" for key, value in session.labels.items()],
        "egress": session.egress,
        "url": session.url,
        "details": dict(session.details),
        "error": session.error,
        "expiry_generation": session.expiry_generation,
        "boot_id": session.boot_id,
        "boots": session.boots,
    }


def _to_session(snapshot: "DocumentSnapshot[Any]") -> Session:
    document = cast("dict[str, Any]", snapshot.to_dict())
    resources = document["resources"]
    return Session(
        id=snapshot.id,
        tenant=document["tenant"],
        namespace=document["namespace"],
        user=document["user"],
        provider=ProviderName(document["provider"]),
        template=document["template"],
        state=State(document["state"]),
        created_at=document["created_at"],
        expires_at=document["expires_at"],
        resources=Resources(resources["cpu"], resources["memory_bytes"]),
        env=document["env"],
        labels=document["labels"],
        egress=document["egress"],
        url=document["url"],
        details=document["details"],
        error=document["error"],
        expiry_generation=document["expiry_generation"],
        boot_id=document["boot_id"],
        boots=document["boots"],
        version=snapshot.update_time,
    )
