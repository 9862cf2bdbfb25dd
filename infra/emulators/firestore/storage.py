"""Documents in SQLite: point reads, ordered scans of a collection, and writes that keep the indexes true.

Calls are synchronous and short (a read takes some 15 µs, a write some 50 µs), so they run on the event loop: a thread
would cost more than it saves. Whatever returns an iterator must be exhausted or closed before the next write.
A commit is in the kernel's hands when it returns: it survives the end of this process, not a power cut.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import names
from .indexes import Indexes
from .messages import Document, Message
from .names import Name

FORMAT = 1  # of the tables and of the encodings in them; another format's file is refused

_TABLES = """
CREATE TABLE IF NOT EXISTS collections (
  id INTEGER PRIMARY KEY, database TEXT NOT NULL, path BLOB NOT NULL, collection_id TEXT NOT NULL,
  UNIQUE (database, path));
CREATE INDEX IF NOT EXISTS collection_groups ON collections (database, collection_id, path);
CREATE TABLE IF NOT EXISTS documents (
  id INTEGER PRIMARY KEY, collection INTEGER NOT NULL, key BLOB NOT NULL, body BLOB NOT NULL,
  UNIQUE (collection, key));
CREATE TABLE IF NOT EXISTS shapes (
  id INTEGER PRIMARY KEY, database TEXT NOT NULL, collection_id TEXT NOT NULL, definition TEXT NOT NULL,
  UNIQUE (database, collection_id, definition));
CREATE TABLE IF NOT EXISTS entries (
  shape INTEGER NOT NULL, collection INTEGER NOT NULL, key BLOB NOT NULL, document INTEGER NOT NULL,
  PRIMARY KEY (shape, collection, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 0), last_us INTEGER NOT NULL);
INSERT OR IGNORE INTO clock VALUES (0, 0);
"""

_SCAN = "SELECT body FROM documents WHERE collection = ? AND key >= ? AND key < ?"
_BELOW = (
    "SELECT id, database, path, collection_id FROM collections"
    " WHERE database = ? AND path >= ? AND path < ? ORDER BY path"
)


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection that holds documents. `path` is the encoding of its segments."""

    id: int
    database: str
    path: bytes
    collection_id: str


class Storage:
    """One file. `tick()` and `now()` are its clock: in microseconds, and no two commits have the same time, ever."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, cached_statements=512)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000;")
        (found,) = self._one("PRAGMA user_version")
        if found not in (0, FORMAT):
            self._db.close()
            raise RuntimeError(f"{path} has Firestore format {found}, this is {FORMAT}: delete the file to start anew")
        self._db.executescript(f"{_TABLES} PRAGMA user_version={FORMAT};")
        self._last_us: int
        (self._last_us,) = self._one("SELECT last_us FROM clock")
        self.indexes = Indexes(self._db)

    def close(self) -> None:
        self._db.close()

    def now(self) -> int:
        """A time at which everything committed is visible, and before every later commit."""
        self._last_us = max(time.time_ns() // 1000, self._last_us)
        return self._last_us

    def tick(self) -> int:
        """The time of a new commit."""
        self._last_us = max(time.time_ns() // 1000, self._last_us + 1)
        return self._last_us

    @contextmanager
    def commit(self) -> Iterator[None]:
        """All writes inside, or none of them."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("UPDATE clock SET last_us = ?", (self._last_us,))
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def get(self, name: Name) -> Message | None:
        """The document, or None."""
        row = self._one(
            "SELECT body FROM documents WHERE key = ? AND collection ="
            " (SELECT id FROM collections WHERE database = ? AND path = ?)",
            (names.encode_segment(name.path[-1]), name.database, names.encode(name.path[:-1])),
        )
        return Document.FromString(row[0]) if row else None

    def put(self, name: Name, old: Message | None, new: Message) -> None:
        """Store `new` where `old` is now. Inside `commit()`."""
        key = names.encode_segment(name.path[-1])
        collection = self._collection(name) or self._make_collection(name)
        body = new.SerializeToString()
        if old is None:
            (document,) = self._one(
                "INSERT INTO documents (collection, key, body) VALUES (?, ?, ?) RETURNING id",
                (collection.id, key, body),
            )
        else:
            (document,) = self._one(
                "UPDATE documents SET body = ? WHERE collection = ? AND key = ? RETURNING id",
                (body, collection.id, key),
            )
        self.indexes.change(collection, document, key, old, new)

    def delete(self, name: Name, old: Message) -> None:
        """Remove `old`, and its collection when it was the last one there. Inside `commit()`."""
        collection = self._collection(name)
        if collection is None:
            raise LookupError(f"{name} is not stored")
        key = names.encode_segment(name.path[-1])
        (document,) = self._one(
            "DELETE FROM documents WHERE collection = ? AND key = ? RETURNING id", (collection.id, key)
        )
        self.indexes.change(collection, document, key, old, None)
        if not self._one("SELECT 1 FROM documents WHERE collection = ? LIMIT 1", (collection.id,)):
            self._db.execute("DELETE FROM collections WHERE id = ?", (collection.id,))

    def collection(self, parent: Name, collection_id: str) -> list[Collection]:
        """The collection right below `parent`: one or none."""
        found = self._by_path(parent.database, names.encode((*parent.path, collection_id)))
        return [found] if found else []

    def group(self, parent: Name, collection_id: str) -> list[Collection]:
        """Every collection with this id at any depth below `parent`, in the order of their paths."""
        lower, upper = _range(parent.key)
        rows = self._db.execute(
            "SELECT id, database, path, collection_id FROM collections"
            " WHERE database = ? AND collection_id = ? AND path > ? AND path < ? ORDER BY path",
            (parent.database, collection_id, lower, upper),
        )
        return [Collection(*row) for row in rows]

    def below(self, parent: Name) -> list[Collection]:
        """Every collection at any depth below `parent`, in the order of their paths."""
        lower, upper = _range(parent.key)
        return [Collection(*row) for row in self._db.execute(_BELOW, (parent.database, lower, upper))]

    def first_below(self, parent: Name, start: bytes) -> Collection | None:
        """The first of these whose encoded path is not less than `start`."""
        lower, upper = _range(parent.key)
        row = self._one(f"{_BELOW} LIMIT 1", (parent.database, max(lower, start), upper))
        return Collection(*row) if row else None

    def scan(
        self, collection: Collection, lower: bytes = b"", upper: bytes | None = None, *, backward: bool = False
    ) -> Iterator[Message]:
        """The documents whose encoded id is in [lower, upper), by id."""
        rows = self._db.execute(
            f"{_SCAN} ORDER BY key {'DESC' if backward else 'ASC'}",
            (collection.id, lower, b"\xff" if upper is None else upper),
        )
        return (Document.FromString(body) for (body,) in rows)

    def _collection(self, name: Name) -> Collection | None:
        return self._by_path(name.database, names.encode(name.path[:-1]))

    def _by_path(self, database: str, path: bytes) -> Collection | None:
        row = self._one("SELECT id, collection_id FROM collections WHERE database = ? AND path = ?", (database, path))
        return Collection(row[0], database, path, row[1]) if row else None

    def _make_collection(self, name: Name) -> Collection:
        path = names.encode(name.path[:-1])
        collection_id = name.path[-2]
        (row,) = self._one(
            "INSERT INTO collections (database, path, collection_id) VALUES (?, ?, ?) RETURNING id",
            (name.database, path, collection_id),
        )
        return Collection(row, name.database, path, collection_id)

    def _one(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        # fetchall, as a half-read statement would keep its read lock
        return next(iter(self._db.execute(statement, values).fetchall()), None)


def _range(prefix: bytes) -> tuple[bytes, bytes]:
    return prefix, names.after_prefix(prefix) or b"\xff"
