"""Sessions as Firestore documents, and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core.exceptions import NotFound
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from google.cloud.firestore_v1.types import Document, GetDocumentRequest

from shared.callers import ApiKey
from shared.models import (
    Filestore,
    KeptBucket,
    ProviderName,
    Resources,
    Session,
    Snapshot,
    State,
    Storage,
)

READ_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class DocumentReader:
    """Reads single documents by the plain call. The client's own way, a stream of one, takes half as long again.

    `root`: projects/P/databases/D/documents. `metadata` goes with every call: an emulator's owner token, or nothing.
    """

    client: FirestoreAsyncClient
    root: str
    metadata: tuple[tuple[str, str], ...] = ()

    async def read(self, path: str) -> Document | None:
        """The document at `collection/name`, if there is one. Raises GoogleAPIError."""
        try:
            return await self.client.get_document(
                GetDocumentRequest(name=f"{self.root}/{path}"), timeout=READ_TIMEOUT_S, metadata=self.metadata
            )
        except NotFound:
            return None


def to_document(session: Session) -> dict[str, Any]:
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
        "image": session.image,
        "idle_timeout_minutes": session.idle_timeout_minutes,
        "storage": asdict(session.storage),
        "url": session.url,
        "details": dict(session.details),
        "error": session.error,
        "expiry_generation": session.expiry_generation,
        "boot_id": session.boot_id,
        "boots": session.boots,
        "long_lived": session.long_lived,
        "auto_resume": session.auto_resume,
        "turn": session.turn,
        "turned_at": session.turned_at,
        "ttl_left_s": None if session.ttl_left is None else session.ttl_left.total_seconds(),
        "snapshot": session.snapshot and asdict(session.snapshot),
        "target": session.target and str(session.target),
        "leaving": session.leaving and str(session.leaving),
    }


def to_session(session_id: str, document: Mapping[str, Any], written_at: datetime | None) -> Session:
    """The session of a document's fields; `written_at` is the document's update time, as the client gives it.

    Fields that came with later versions may be missing: a session outlives an upgrade.
    """
    resources, snapshot, ttl_left_s = document["resources"], document.get("snapshot"), document.get("ttl_left_s")
    return Session(
        id=session_id,
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
        image=document.get("image", ""),
        idle_timeout_minutes=document.get("idle_timeout_minutes"),
        storage=_to_storage(document.get("storage")),
        url=document["url"],
        details=document["details"],
        error=document["error"],
        expiry_generation=document["expiry_generation"],
        boot_id=document["boot_id"],
        boots=document["boots"],
        long_lived=document.get("long_lived", False),
        auto_resume=document.get("auto_resume", False),
        turn=document.get("turn", 0),
        turned_at=document.get("turned_at"),
        ttl_left=None if ttl_left_s is None else timedelta(seconds=ttl_left_s),
        snapshot=snapshot and Snapshot(**snapshot),
        target=_to_provider(document.get("target")),
        leaving=_to_provider(document.get("leaving")),
        version=written_at,
    )


def _to_provider(name: str | None) -> ProviderName | None:
    return None if name is None else ProviderName(name)


def _to_storage(fields: Mapping[str, Any] | None) -> Storage:
    if fields is None:
        return Storage()
    return Storage(**{**fields, "filestore": fields["filestore"] and Filestore(**fields["filestore"])})


def of_key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "namespaces": None if key.namespaces is None else sorted(key.namespaces),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }


def to_key(digest: str, document: Mapping[str, Any]) -> ApiKey:
    """The key of a document's fields."""
    namespaces = document.get("namespaces")
    return ApiKey(
        digest=digest,
        name=document["name"],
        tenant=document["tenant"],
        scopes=frozenset(document["scopes"]),
        created_at=document["created_at"],
        namespaces=None if namespaces is None else frozenset(namespaces),
        expires_at=document.get("expires_at"),
        revoked_at=document.get("revoked_at"),
    )


def of_kept(bucket: KeptBucket) -> dict[str, Any]:
    return {"tenant": bucket.tenant, "namespace": bucket.namespace, "session_id": bucket.session_id}


def to_kept(name: str, document: Mapping[str, Any]) -> KeptBucket:
    return KeptBucket(name, document["tenant"], document["namespace"], document["session_id"])


def fields_of(document: Document) -> dict[str, Any]:
    """A document's fields as Python values: of the kinds that our documents hold."""
    return {name: _value(value) for name, value in Document.pb(document).fields.items()}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value_type")
    match kind:
        case "null_value":
            return None
        case "timestamp_value":
            return value.timestamp_value.ToDatetime(tzinfo=UTC)
        case "map_value":
            return {name: _value(item) for name, item in value.map_value.fields.items()}
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "string_value" | "boolean_value" | "integer_value" | "double_value":
            return getattr(value, kind)
        case _:
            raise TypeError(f"a document of ours holds a {kind}, which none of ours does")
