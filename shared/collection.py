"""A collection of Firestore as the stores use it: conditional writes, pages and sweeps, its errors told apart once.

Every write is conditional: `create`, or an update that holds only while the document is what was read. Nothing is
claimed inside a transaction: contended ones livelock in the emulator and crawl in production.
"""

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from google.api_core import exceptions
from google.cloud.firestore_v1 import AsyncClient, AsyncDocumentReference, AsyncQuery, DocumentSnapshot
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.types import Document

from shared.cloud import unavailable
from shared.documents import DocumentReader
from shared.errors import AlreadyExists, WriteConflict
from shared.models import Position

TIMEOUT_S = 15.0  # the client's own default is 60 s, longer than a caller waits
SWEEP_PAGE = 300
# No document can be called so, and to ask for one is an error: cloud.google.com/firestore/quotas#limits
RESERVED = re.compile(r"\.\.?|__.*__", re.DOTALL)
MAX_NAME_BYTES = 1500

Snapshot = DocumentSnapshot[Any]


@contextmanager
def told() -> Iterator[None]:
    """Raises ProviderUnavailable for every error of Firestore's that is not caught within."""
    try:
        yield
    except exceptions.GoogleAPIError as exc:
        raise unavailable("Firestore", exc) from exc


class Collection:
    """`reader` reads single documents. Every method may raise ProviderUnavailable."""

    def __init__(self, client: AsyncClient, reader: DocumentReader, name: str) -> None:
        self._client = client
        self._reader = reader
        self._name = name
        self._documents = client.collection(name)

    def document(self, name: str) -> AsyncDocumentReference:
        """Where it is, whether there is one or not."""
        return self._documents.document(name)

    async def read(self, name: str) -> Document | None:
        """The document, if there is one. Callers give names: any text without a slash."""
        if RESERVED.fullmatch(name) or len(name.encode()) > MAX_NAME_BYTES:
            return None
        with told():
            return await self._reader.read(f"{self._name}/{name}")

    async def many(self, names: Iterable[str]) -> list[Snapshot]:
        """Those that exist."""
        references = [self.document(name) for name in names]
        if not references:
            return []
        with told():
            return [one async for one in self._client.get_all(references, timeout=TIMEOUT_S) if one.exists]

    async def create(self, name: str, fields: dict[str, Any]) -> Any:
        """When it was written: its first version. Raises AlreadyExists."""
        with told():
            try:
                result = await self.document(name).create(fields, timeout=TIMEOUT_S)
            except exceptions.Conflict as exc:
                raise AlreadyExists(name) from exc
        return result.update_time

    async def update(self, name: str, fields: dict[str, Any], version: Any) -> Any:
        """Write it if it is of that version; its new one. Raises WriteConflict: it is of another, or gone."""
        condition = self._client.write_option(last_update_time=version)
        with told():
            try:
                # update() and not set(): only update carries a precondition.
                result = await self.document(name).update(fields, option=condition, timeout=TIMEOUT_S)
            except (exceptions.FailedPrecondition, exceptions.NotFound, exceptions.Aborted) as exc:
                raise WriteConflict(name) from exc
        return result.update_time

    async def delete(self, name: str) -> None:
        """One that is gone is not an error."""
        with told():
            await self.document(name).delete(timeout=TIMEOUT_S)

    def where(self, equal: Mapping[str, Any], *filters: FieldFilter) -> AsyncQuery:
        """Documents with these values; None does not filter."""
        query = cast("AsyncQuery", self._documents)  # which is asked as a query of all of it is
        for one in (*(FieldFilter(name, "==", value) for name, value in equal.items() if value is not None), *filters):
            query = query.where(filter=one)
        return query

    async def page(self, query: AsyncQuery, size: int, after: Position | None) -> tuple[list[Snapshot], bool]:
        """At most `size` of them, newest first, and whether there are more; reads `size + 1` at the most."""
        query = query.order_by("created_at", direction="DESCENDING").order_by("__name__", direction="DESCENDING")
        if after is not None:
            query = query.start_after({"created_at": after.created_at, "__name__": self.document(after.session_id)})
        found = await self.found(query.limit(size + 1))
        return found[:size], len(found) > size

    async def sweep(self, query: AsyncQuery) -> AsyncIterator[Snapshot]:
        """All of them, page by page: a sweep holds neither all in memory nor one stream open all the while.

        In the order of what the query compares, then by name: what changes meanwhile is not seen twice.
        """
        page = query
        while True:
            found = await self.found(page.limit(SWEEP_PAGE))
            for snapshot in found:
                yield snapshot
            if len(found) < SWEEP_PAGE:
                return
            page = query.start_after(found[-1])

    async def found(self, query: AsyncQuery) -> list[Snapshot]:
        """All of them at once: of a query that has a limit, or few documents."""
        with told():
            return list(await query.get(timeout=TIMEOUT_S))
