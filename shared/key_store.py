"""Where API keys are kept, under their secrets' digests: the Protocol, and Firestore behind it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, cast

from google.api_core import exceptions
from google.cloud.firestore_v1 import AsyncClient, AsyncQuery

from shared.callers import ApiKey
from shared.collection import TIMEOUT_S, Collection, told
from shared.documents import DocumentReader, fields_of, of_key, to_key
from shared.errors import KeyNotFound

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
    """The KeyStore on Firestore: collection `keys`. Every call of the API begins with a read of one."""

    def __init__(self, client: AsyncClient, reader: DocumentReader) -> None:
        self._keys = Collection(client, reader, "keys")

    async def create(self, key: ApiKey) -> None:
        await self._keys.create(key.digest, of_key(key))

    async def by_digest(self, digest: str) -> ApiKey | None:
        document = await self._keys.read(digest)
        return None if document is None else to_key(digest, fields_of(document))

    async def by_id(self, key_id: str) -> ApiKey:
        found = await self._found(self._keys.where({"id": key_id}).limit(1))
        if not found:
            raise KeyNotFound
        return found[0]

    async def of_tenant(self, tenant: str | None) -> AsyncIterator[ApiKey]:
        newest_first = self._keys.where({"tenant": tenant}).order_by("created_at", direction="DESCENDING")
        for key in await self._found(newest_first.limit(LISTED)):
            yield key

    async def revoke(self, key: ApiKey, at: datetime) -> ApiKey:
        if key.revoked_at is not None:
            return key
        with told():
            try:
                await self._keys.document(key.digest).update({"revoked_at": at}, timeout=TIMEOUT_S)
            except exceptions.NotFound as exc:
                raise KeyNotFound from exc
        return replace(key, revoked_at=at)

    async def _found(self, query: AsyncQuery) -> list[ApiKey]:
        return [to_key(one.id, cast("dict[str, Any]", one.to_dict())) for one in await self._keys.found(query)]
