"""Indexes that make themselves: the first query of a shape indexes its collections, writes keep the index from then on.

A shape is what a query fixes and how it orders: equal fields, one array membership, an order. Its entries have the key
`equal values | array element | order values | document id`, so whatever such a query returns is one range of keys, read
in order until the limit: the cost grows with the answer, not with the collection. A database whose data is only read by
name pays nothing.
"""

import itertools
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import fields as paths
from . import values
from .fields import FieldPath
from .messages import Document, Message

if TYPE_CHECKING:
    from .storage import Collection

MAX_SHAPES = 64  # per collection id; beyond it the oldest goes, so that no write has to keep more than this

_ENTRIES = (
    "SELECT d.body FROM entries e CROSS JOIN documents d ON d.id = e.document"
    " WHERE e.shape = ? AND e.collection = ? AND e.key >= ? AND e.key < ?"
)


@dataclass(frozen=True, slots=True)
class Order:
    """One component of an order."""

    path: FieldPath
    descending: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """Which entries a document has. The first of `order` and `name_descending` is ascending: scans go both ways."""

    equal: tuple[FieldPath, ...]
    contains: FieldPath | None
    order: tuple[Order, ...]
    name_descending: bool

    def keys(self, document: Message, key: bytes) -> set[bytes]:
        """The keys of a document's entries; none when it lacks one of the fields."""
        head = b""
        for path in self.equal:
            value = paths.lookup(document.fields, path)
            if value is None:
                return set()
            head += values.encode(value)
        tail = b""
        for order in self.order:
            value = paths.lookup(document.fields, order.path)
            if value is None:
                return set()
            encoded = values.encode(value)
            tail += values.invert(encoded) if order.descending else encoded
        tail += values.invert(key) if self.name_descending else key
        if self.contains is None:
            return {head + tail}
        array = paths.lookup(document.fields, self.contains)
        if array is None:
            return set()
        return {head + values.encode(item) + tail for item in array.array_value.values}

    def definition(self) -> str:
        order = [(order.path, order.descending) for order in self.order]
        return json.dumps([self.equal, self.contains, order, self.name_descending])

    @classmethod
    def parse(cls, definition: str) -> "Shape":
        equal, contains, order, name_descending = json.loads(definition)
        return cls(
            tuple(tuple(path) for path in equal),
            None if contains is None else tuple(contains),
            tuple(Order(tuple(path), descending) for path, descending in order),
            name_descending,
        )


class Indexes:
    """The shapes of every (database, collection id) and their entries, in the tables of `storage`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._shapes: dict[tuple[str, str], dict[Shape, int]] = {}
        for row in db.execute("SELECT id, database, collection_id, definition FROM shapes ORDER BY id").fetchall():
            self._shapes.setdefault((row[1], row[2]), {})[Shape.parse(row[3])] = row[0]

    def change(self, collection: "Collection", document: int, key: bytes, old: Message, new: Message) -> None:
        """Replace the entries of `old` by those of `new`; None stands for no document."""
        for shape, shape_id in self._shapes.get((collection.database, collection.collection_id), {}).items():
            before = set() if old is None else shape.keys(old, key)
            after = set() if new is None else shape.keys(new, key)
            self._db.executemany(
                "DELETE FROM entries WHERE shape = ? AND collection = ? AND key = ?",
                [(shape_id, collection.id, entry) for entry in before - after],
            )
            self._db.executemany(
                "INSERT INTO entries VALUES (?, ?, ?, ?)",
                [(shape_id, collection.id, entry, document) for entry in after - before],
            )

    def scan(
        self, shape: Shape, collection: "Collection", lower: bytes, upper: bytes | None, *, backward: bool
    ) -> Iterator[Message]:
        """The documents that have a key in [lower, upper), in the order of the keys; makes the index if need be."""
        shape_id = self._shapes.get((collection.database, collection.collection_id), {}).get(shape)
        if shape_id is None:
            shape_id = self._make(shape, collection.database, collection.collection_id)
        rows = self._db.execute(
            f"{_ENTRIES} ORDER BY e.key {'DESC' if backward else 'ASC'}",
            (shape_id, collection.id, lower, b"\xff" if upper is None else upper),
        )
        return (Document.FromString(body) for (body,) in rows)

    def _make(self, shape: Shape, database: str, collection_id: str) -> int:
        shapes = self._shapes.setdefault((database, collection_id), {})
        self._db.execute("BEGIN IMMEDIATE")
        try:
            surplus = list(itertools.islice(shapes.items(), max(0, len(shapes) - MAX_SHAPES + 1)))
            for _, old_id in surplus:
                self._db.execute("DELETE FROM entries WHERE shape = ?", (old_id,))
                self._db.execute("DELETE FROM shapes WHERE id = ?", (old_id,))
            shape_id = self._db.execute(
                "INSERT INTO shapes (database, collection_id, definition) VALUES (?, ?, ?)",
                (database, collection_id, shape.definition()),
            ).lastrowid
            rows = self._db.execute(
                "SELECT d.collection, d.id, d.key, d.body FROM collections c CROSS JOIN documents d"
                " ON d.collection = c.id WHERE c.database = ? AND c.collection_id = ?",
                (database, collection_id),
            )
            self._db.executemany(
                "INSERT INTO entries VALUES (?, ?, ?, ?)",
                (
                    (shape_id, collection, entry, document)
                    for collection, document, key, body in rows
                    for entry in shape.keys(Document.FromString(body), key)
                ),
            )
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        for old_shape, _ in surplus:
            del shapes[old_shape]
        shapes[shape] = shape_id or 0
        return shapes[shape]
