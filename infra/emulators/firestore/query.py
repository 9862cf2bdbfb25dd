"""A structured query: read and checked once, then asked whether a document belongs to it and where."""

from dataclasses import dataclass

from google.api_core import exceptions

from . import fields as paths
from . import filters, names, values
from .fields import NAME, FieldPath
from .filters import Where
from .indexes import Order
from .messages import Message, StructuredQuery
from .names import Name


@dataclass(frozen=True, slots=True)
class Bound:
    """A cursor: one encoded value for each of the first components of the order, ascending encodings."""

    values: tuple[bytes, ...]
    before: bool  # the bound lies before equal documents, not after them


@dataclass(frozen=True, slots=True)
class Query:
    """What to return, from where, in which order. `order` is complete: it always ends with `__name__`."""

    parent: Name
    collection_id: str  # empty: every collection
    descendants: bool  # collections at any depth below the parent
    where: Where
    order: tuple[Order, ...]
    start: Bound | None
    end: Bound | None
    offset: int
    limit: int | None
    select: tuple[FieldPath, ...] | None

    def in_scope(self, name: Name) -> bool:
        """Whether a document of this name is in the collections that are asked."""
        depth = len(self.parent.path)
        if name.database != self.parent.database or name.path[:depth] != self.parent.path or len(name.path) <= depth:
            return False
        if not self.descendants and len(name.path) != depth + 2:
            return False
        return not self.collection_id or name.path[-2] == self.collection_id

    def matches(self, document: Message) -> bool:
        """Whether a document in scope is in the result, offset and limit aside."""
        if not self.where.holds(document):
            return False
        if self.start is None and self.end is None:
            return all(
                order.path == NAME or paths.lookup(document.fields, order.path) is not None for order in self.order
            )
        key = self.sort_key(document)
        if key is None:
            return False
        return (self.start is None or key >= self._edge(self.start, after=not self.start.before)) and (
            self.end is None or key < self._edge(self.end, after=not self.end.before)
        )

    def sort_key(self, document: Message) -> bytes | None:
        """Bytes that sort as the result does; None: it lacks a field of the order."""
        key = b""
        for order in self.order:
            encoded = filters.encoded_field(document, order.path)
            if encoded is None:
                return None
            key += directed(encoded, order)
        return key

    def place(self, document: Message) -> bytes:
        """The sort key of a document that matches."""
        return self.sort_key(document) or b""

    def _edge(self, bound: Bound, *, after: bool) -> bytes:
        parts = zip(bound.values, self.order, strict=False)
        key = b"".join([directed(value, order) for value, order in parts])
        if not after:
            return key
        if len(bound.values) == len(self.order) and not self.order[-1].descending:
            return key + b"\x00"  # names are not prefix-free: a document's children follow it
        return names.after_prefix(key) or b"\xff"


def directed(encoded: bytes, order: Order) -> bytes:
    """The encoding as it sorts in this order."""
    if not order.descending:
        return encoded
    return values.invert(encoded + b"\x00" if order.path == NAME else encoded)


def read(parent: str, query: Message, aggregated: tuple[FieldPath, ...] = ()) -> Query:
    """Check a structured query; `aggregated` fields are ones that its documents must have.

    Raises InvalidArgument, FailedPrecondition, MethodNotImplemented (vector search).
    """
    if query.HasField("find_nearest"):
        raise exceptions.MethodNotImplemented("find_nearest is not implemented by this emulator")
    if len(query.from_) > 1:
        raise exceptions.InvalidArgument("StructuredQuery.from cannot have more than one collection selector.")
    collection_id, descendants = "", False
    for selector in query.from_:
        collection_id, descendants = selector.collection_id, selector.all_descendants
    if collection_id:
        names.collection_id(collection_id)
    where = filters.read(query.where) if query.HasField("where") else filters.EVERYTHING
    order = _order(query.order_by, (*where.inequalities, *aggregated))
    used = where.fields | {component.path for component in order}
    if not collection_id and used != {NAME}:
        field = next(".".join(path) for path in sorted(used) if path != NAME)
        raise exceptions.InvalidArgument(f"kind is required for filter: {field}")
    if used == {NAME} and order[0].descending:
        raise exceptions.FailedPrecondition("Firestore does not support descending key scans")
    if query.offset < 0 or (query.HasField("limit") and query.limit.value < 0):
        raise exceptions.InvalidArgument("limit or offset is negative")
    return Query(
        parent=names.parent(parent),
        collection_id=collection_id,
        descendants=descendants,
        where=where,
        order=order,
        start=_bound(query.start_at, query.order_by, order) if query.HasField("start_at") else None,
        end=_bound(query.end_at, query.order_by, order) if query.HasField("end_at") else None,
        offset=query.offset,
        limit=query.limit.value if query.HasField("limit") else None,
        select=tuple(paths.parse(field.field_path) for field in query.select.fields)
        if query.HasField("select")
        else None,
    )


def _order(listed: Message, implied: tuple[FieldPath, ...]) -> tuple[Order, ...]:
    """The order asked for, then what is implied and the name, in the direction of the last one asked for."""
    descending = StructuredQuery.DESCENDING
    order = [Order(paths.parse(item.field.field_path), item.direction == descending) for item in listed]
    explicit = [component.path for component in order]
    if len(set(explicit)) < len(explicit):
        raise exceptions.InvalidArgument("order by clause cannot contain duplicate fields")
    if NAME in explicit[:-1]:
        raise exceptions.InvalidArgument("order by clause cannot contain more fields after the key")
    if explicit[-1:] == [NAME]:
        return tuple(order)
    last = order[-1].descending if order else False
    implicit = [path for path in dict.fromkeys(implied) if path not in explicit and path != NAME]
    return (*order, *(Order(path, last) for path in (*implicit, NAME)))


def _bound(cursor: Message, listed: Message, order: tuple[Order, ...]) -> Bound | None:
    if len(cursor.values) > len(listed):
        raise exceptions.InvalidArgument("Cursor has too many values.")
    encoded = []
    for value, component in zip(cursor.values, order, strict=False):
        if component.path == NAME:
            encoded.append(filters.reference_path(value, "Cursor __key__ value is not a document reference."))
        else:
            values.check_value(value, ".".join(component.path))
            encoded.append(values.encode(value))
    return Bound(tuple(encoded), cursor.before) if encoded else None


def selected(query: Query, document: Message) -> Message:
    """The document as the query's projection wants it."""
    return document if query.select is None else paths.project(document, query.select)
