"""Which queries production would refuse: those that no index serves, as firestore.indexes.json declares them.

Production serves a query from indexes alone, and so does this: from one index, or by merging several that have the
query's order at their end and some of its equal fields before that (firebase.google.com/docs/firestore/query-data/
index-overview#taking_advantage_of_index_merging). A field has indexes of its own, ascending, descending and of an
array's elements, unless an override says which. No index is read backward.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.api_core import exceptions

from . import fields as paths
from .fields import NAME, FieldPath
from .filters import Conjunction, Contains, Equal
from .query import Query

ASCENDING, DESCENDING, CONTAINS = "ASCENDING", "DESCENDING", "CONTAINS"
COLLECTION, GROUP = "COLLECTION", "COLLECTION_GROUP"
ANY_FIELD = "*"
_AUTOMATIC = ((ASCENDING, COLLECTION), (DESCENDING, COLLECTION), (CONTAINS, COLLECTION))

Column = tuple[FieldPath, str]
Index = tuple[Column, ...]
Modes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """What a database has: composite indexes by (collection id, scope), and overrides by (collection id, field)."""

    composite: Mapping[tuple[str, str], tuple[Index, ...]]
    overrides: Mapping[tuple[str, str], Modes]

    @classmethod
    def read(cls, path: Path) -> "Declared":
        """Of a file as the Firebase CLI takes it. Raises OSError, ValueError."""
        return cls.of(json.loads(path.read_text("utf-8")))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Declared":
        composite: dict[tuple[str, str], tuple[Index, ...]] = {}
        for index in document.get("indexes", ()):
            key = index["collectionGroup"], index.get("queryScope", COLLECTION)
            columns = tuple((paths.parse(field["fieldPath"]), _mode(field)) for field in index["fields"])
            composite[key] = (*composite.get(key, ()), columns)
        overrides = {
            (one["collectionGroup"], one["fieldPath"]): tuple(
                (_mode(index), index.get("queryScope", COLLECTION)) for index in one["indexes"]
            )
            for one in document.get("fieldOverrides", ())
            if "indexes" in one
        }
        return cls(composite, overrides)

    def check(self, query: Query) -> None:
        """Raises FailedPrecondition: production would."""
        if not query.collection_id:
            return  # every document by its name, which needs no index
        for alternative in query.where.alternatives:
            missing = self._missing(query, alternative)
            if missing:
                columns = ", ".join(f"{'.'.join(path)} {mode}" for path, mode in missing)
                scope = GROUP if query.descendants else COLLECTION
                raise exceptions.FailedPrecondition(
                    "The query requires an index, which is not declared: "
                    f"{query.collection_id} ({columns}), scope {scope}"
                )

    def _missing(self, query: Query, alternative: Conjunction) -> Index:
        """The index that would serve it, where nothing declared does; else ()."""
        equal = {condition.path for condition in alternative if isinstance(condition, Equal)}
        if NAME in equal:
            return ()  # one document, by its name
        contained = {condition.path for condition in alternative if isinstance(condition, Contains)}
        order = tuple(
            (component.path, DESCENDING if component.descending else ASCENDING)
            for component in query.order
            if component.path not in equal
        )
        if not equal and not contained and order == ((NAME, ASCENDING),):
            return ()
        scope = GROUP if query.descendants else COLLECTION
        served: set[Column] = set()
        found = False
        for index in self._indexes(query.collection_id, scope, {*equal, *contained, *(path for path, _ in order)}):
            head = _head(index, order)
            if head is not None and all(_fixed(column, equal, contained) for column in head):
                found = True
                served |= {(path, CONTAINS if mode == CONTAINS else "") for path, mode in head}
        if found and served >= {(path, "") for path in equal} | {(path, CONTAINS) for path in contained}:
            return ()
        fixed = [*((path, ASCENDING) for path in sorted(equal)), *((path, CONTAINS) for path in sorted(contained))]
        return (*fixed, *(column for column in order if column[0] != NAME))

    def _indexes(self, collection_id: str, scope: str, used: Iterable[FieldPath]) -> Iterator[Index]:
        """All that could serve a query of these fields."""
        yield from self.composite.get((collection_id, scope), ())
        for path in used:
            if path != NAME:
                yield from (((path, mode),) for mode, where in self._modes(collection_id, path) if where == scope)

    def _modes(self, collection_id: str, path: FieldPath) -> Modes:
        """A field's own indexes: an override of it, or of the map that it is in, or of every field."""
        for length in range(len(path), 0, -1):
            found = self.overrides.get((collection_id, ".".join(path[:length])))
            if found is not None:
                return found
        return self.overrides.get((collection_id, ANY_FIELD), _AUTOMATIC)


def _mode(field: Mapping[str, Any]) -> str:
    mode: str = field.get("order") or field["arrayConfig"]
    return mode


def _head(index: Index, order: Index) -> Index | None:
    """The columns before those that are the order; None: it ends otherwise.

    Every index ends with the name, in the direction of its last column.
    """
    if index[-1][0] != NAME:
        index = (*index, (NAME, DESCENDING if index[-1][1] == DESCENDING else ASCENDING))
    split = len(index) - len(order)
    return index[:split] if split >= 0 and index[split:] == order else None


def _fixed(column: Column, equal: set[FieldPath], contained: set[FieldPath]) -> bool:
    """Whether the query fixes the column's value; then its direction is nothing to the order."""
    path, mode = column
    return path in (contained if mode == CONTAINS else equal)
