"""Where API keys are kept, under their secrets' digests: the Protocol, and Firestore behind it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, cast

from google.api_core import exceptions
from google.cloud.firestore_v1 import AsyncClient, AsyncCollectionReference
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.cloud import unavailable
from shared.documents import DocumentReader, fields_of, of_key, to_key
from shared.errors import KeyNotFound
from shared.models import ApiKey

TIMEOUT_S = 15.0
LISTED = 1000  # keys of one tenant; nobody hands out more


class KeyStore(Protocol):
    """Every method may raise ProviderUnavailable."""

    async def create(self, key: ApiKey) -> None:
        """Store a new key."""

    async def by_digest(self, digest: str) -> ApiKey | None:
        """The key whose secret has this digest, if there is one, whether it still opens anything or not."""

    async def by_id(self, key_id: str) -> ApiKey:
        """Raises KeyNotFound."""

    def of_tenant(self, tenant: str | None) -> AsyncIterator[ApiKey]:
        """A tenant's keys, newest first; None: every tenant's. At most LISTED."""

    async def revoke(self, key: ApiKey, at: datetime) -> ApiKey:
        """From now on it opens nothing; one that was revoked before keeps its first time."""


class FirestoreKeys:
    """The KeyStore on Firestore: collection `keys`. Every call of the API begins with a read of one, by `reader`."""

    def __init__(self, client: AsyncClient, reader: DocumentReader) -> None:
        self._client = client
        self._reader = reader

    async def create(self, key: ApiKey) -> None:
        try:
            await self._keys.document(key.digest).create(of_key(key), timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc

    async def by_digest(self, digest: str) -> ApiKey | None:
        try:
            document = await self._reader.read(f"keys/{digest}")
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc
        return None if document is None else to_key(digest, fields_of(document))

    async def by_id(self, key_id: str) -> ApiKey:
        found = await self._found(self._keys.where(filter=FieldFilter("id", "==", key_id)).limit(1))
        if not found:
            raise KeyNotFound
        return found[0]

    async def of_tenant(self, tenant: str | None) -> AsyncIterator[ApiKey]:
        query = self._keys if tenant is None else self._keys.where(filter=FieldFilter("tenant", "==", tenant))
        for key in await self._found(query.order_by("created_at", direction="DESCENDING").limit(LISTED)):
            yield key

    async def revoke(self, key: ApiKey, at: datetime) -> ApiKey:
        if key.revoked_at is not None:
            return key
        try:
            await self._keys.document(key.digest).update({"revoked_at": at}, timeout=TIMEOUT_S)
        except exceptions.NotFound as exc:
            raise KeyNotFound from exc
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc
        return replace(key, revoked_at=at)

    @property
    def _keys(self) -> AsyncCollectionReference:
        return self._client.collection("keys")

    async def _found(self, query: Any) -> list[ApiKey]:
        try:
            snapshots = await query.get(timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc
        return [to_key(one.id, cast("dict[str, Any]", one.to_dict())) for one in snapshots]
