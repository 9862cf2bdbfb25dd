"""Running a query: one ordered range of an index for each alternative and collection, merged, verified and cut.

Indexes only propose: every document is checked by the query itself before it is returned.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from . import names, values
from .fields import NAME
from .filters import Conjunction, Contains, Equal, Range
from .indexes import Order, Shape
from .messages import Message
from .query import Bound, Query
from .storage import Collection, Storage

Overlay = Mapping[str, Message]  # documents by name as they were at an earlier time; None: it was not there


def run(storage: Storage, query: Query, overlay: Overlay) -> list[Message]:
    """The documents of the result, whole."""
    stop = None if query.limit is None else query.offset + query.limit
    return list(itertools.islice(_matching(storage, query, overlay), query.offset, stop))


def _matching(storage: Storage, query: Query, overlay: Overlay) -> Iterator[Message]:
    streams: list[Iterator[Message]] = [
        (document for document in stream if document.name not in overlay and query.matches(document))
        for stream in _streams(storage, query)
    ]
    past = [document for document in overlay.values() if document is not None and _belongs(query, document)]
    if past:
        streams.append(iter(sorted(past, key=query.place)))
    if len(streams) == 1:
        return streams[0]
    return _distinct(heapq.merge(*streams, key=query.place))


def _belongs(query: Query, document: Message) -> bool:
    return query.in_scope(names.document(document.name)) and query.matches(document)


def _distinct(documents: Iterable[Message]) -> Iterator[Message]:
    """Two alternatives may propose the same document; the order puts them side by side."""
    last = None
    for document in documents:
        if document.name != last:
            yield document
        last = document.name


def _streams(storage: Storage, query: Query) -> list[Iterator[Message]]:
    if not query.collection_id:
        return [_everything(storage, query)]
    if query.descendants:
        collections = storage.group(query.parent, query.collection_id)
    else:
        collections = storage.collection(query.parent, query.collection_id)
    plans = [_Plan.of(query, alternative) for alternative in query.where.alternatives]
    return [plan.scan(storage, query, collection) for plan in plans for collection in collections]


def _everything(storage: Storage, query: Query) -> Iterator[Message]:
    """Every document below the parent, which no index covers."""
    found = (document for collection in list(storage.below(query.parent)) for document in storage.scan(collection))
    ordered = sorted((document for document in found if _belongs(query, document)), key=query.place)
    return iter(ordered)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read one alternative: which shape, and which part of its keys.

    The shape drops from the order what an equality already fixes, and turns it so that its first component ascends; a
    query that runs the other way reads it `backward`.
    """

    shape: Shape
    backward: bool
    prefix: bytes
    ranges: tuple[Range, ...]  # on the first component of the shape's order, or on the name
    start: Bound | None
    end: Bound | None
    name: bytes | None  # the only document that can match

    @classmethod
    def of(cls, query: Query, alternative: Conjunction) -> "_Plan":
        equal = {condition.path: condition.value for condition in alternative if isinstance(condition, Equal)}
        name = equal.pop(NAME, None)
        contains = next((condition for condition in alternative if isinstance(condition, Contains)), None)
        order = [component for component in query.order[:-1] if component.path not in equal]
        backward = (order or query.order[-1:])[0].descending
        shape = Shape(
            equal=tuple(sorted(equal)),
            contains=contains.path if contains else None,
            order=tuple(Order(component.path, component.descending != backward) for component in order),
            name_descending=query.order[-1].descending != backward,
        )
        first = order[0].path if order else NAME
        return cls(
            shape=shape,
            backward=backward,
            prefix=b"".join([equal[path] for path in shape.equal]) + (contains.value if contains else b""),
            ranges=tuple(c for c in alternative if isinstance(c, Range) and c.path == first),
            start=_kept(query, query.start, equal),
            end=_kept(query, query.end, equal),
            name=name,
        )

    def scan(self, storage: Storage, query: Query, collection: Collection) -> Iterator[Message]:
        """The candidates in one collection, in the order of the query."""
        if self.name is not None:
            path = _path(self.name)
            document = storage.get(names.Name(query.parent.database, path)) if self._inside(collection) else None
            return iter(() if document is None else (document,))
        lower, upper = self._limits(collection)
        if upper is not None and lower >= upper:
            return iter(())
        if not (self.shape.equal or self.shape.contains or self.shape.order):
            return storage.scan(collection, lower, upper, backward=self.backward)
        return storage.indexes.scan(self.shape, collection, lower, upper, backward=self.backward)

    def _inside(self, collection: Collection) -> bool:
        return self.name is not None and names.encode(_path(self.name)[:-1]) == collection.path

    def _limits(self, collection: Collection) -> tuple[bytes, bytes | None]:
        """The keys that can match, a little generously: [lower, upper)."""
        lower, upper = self.prefix, names.after_prefix(self.prefix)
        first, last = (self.end, self.start) if self.backward else (self.start, self.end)
        if first is not None:
            lower = max(lower, self.prefix + self._key(first, collection))
        if last is not None:
            upper = _least(upper, names.after_prefix(self.prefix + self._key(last, collection)))
        for condition in self.ranges:
            if self.shape.order:
                lower = max(lower, self.prefix + condition.lower)
                upper = _least(upper, None if condition.upper is None else self.prefix + condition.upper)
                continue
            lower = max(lower, self.prefix + (_local(condition.lower, collection) or b""))
            if condition.upper is not None and (end := _local(condition.upper, collection)):
                upper = _least(upper, names.after_prefix(self.prefix + end))
        return lower, upper

    def _key(self, bound: Bound, collection: Collection) -> bytes:
        """The part of a bound that every document at it shares, as keys of the shape start."""
        key = b""
        for index, value in enumerate(bound.values):
            if index < len(self.shape.order):
                key += values.invert(value) if self.shape.order[index].descending else value
            elif (local := _local(value, collection)) is not None:
                key += values.invert(local) if self.shape.name_descending else local
        return key


def _kept(query: Query, bound: Bound | None, equal: Mapping[tuple[str, ...], bytes]) -> Bound | None:
    """The bound without the components that equalities fix; cut where one of them differs from its fixed value."""
    if bound is None:
        return None
    kept = []
    for component, value in zip(query.order, bound.values, strict=False):
        if component.path not in equal:
            kept.append(value)
        elif equal[component.path] != value:
            break
    return Bound(tuple(kept), bound.before)


def _local(name: bytes, collection: Collection) -> bytes | None:
    """The document's own segment of an encoded name; None: it is not directly in this collection."""
    if not name.startswith(collection.path) or len(name) <= len(collection.path) + 1:
        return None
    return names.first_segment(name[len(collection.path) :])[1]


def _path(name: bytes) -> names.Path:
    path = []
    while name:
        segment, encoded = names.first_segment(name)
        path.append(segment)
        name = name[len(encoded) :]
    return tuple(path)


def _least(upper: bytes | None, other: bytes | None) -> bytes | None:
    return other if upper is None else upper if other is None else min(upper, other)
