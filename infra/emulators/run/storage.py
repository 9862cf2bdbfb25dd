"""Resources on disk: one SQLite file, written through a single thread."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from google.cloud.run_v2 import types

# A resource goes when its owner does: the one whose name its own begins with.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
  name TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  owner TEXT REFERENCES resources (name) ON DELETE CASCADE,
  container TEXT UNIQUE,
  message BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS resources_of_owner ON resources (owner);
"""
# Files of before there were more kinds than these two.
_FORMER = """
INSERT OR IGNORE INTO resources SELECT name, 'services', NULL, container, service FROM services;
INSERT OR IGNORE INTO resources SELECT name, 'revisions', service, NULL, revision FROM revisions;
DROP TABLE revisions;
DROP TABLE services;
"""
_MESSAGES: dict[str, Any] = {
    "services": types.Service,
    "revisions": types.Revision,
    "instances": types.Instance,
    "jobs": types.Job,
    "executions": types.Execution,
    "tasks": types.Task,
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """A resource (a message of _MESSAGES, under its own name), and the name of its container where it has one."""

    message: Any
    container: str | None = None


class Storage:
    """What is written is safe from a crash of the process; the last writes may be lost when the machine loses power."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cloud-run-storage")
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        await self._in_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._in_thread(lambda: self._connection.close())
        self._thread.shutdown()

    async def load(self, kind: str) -> list[Row]:
        """All of a kind such as "services", oldest first."""

        def read() -> list[Row]:
            found = self._connection.execute("SELECT message, container FROM resources WHERE kind = ?", (kind,))
            rows = [Row(_MESSAGES[kind].deserialize(blob), container) for blob, container in found]
            return sorted(rows, key=lambda row: row.message.create_time)

        return await self._in_thread(read)

    async def save(self, *rows: Row) -> None:
        """Write them all or none; owners come first. A container's name is written once."""
        written = [_columns(row) for row in rows]

        def write() -> None:
            with self._connection:
                self._connection.executemany(
                    "INSERT INTO resources VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET message = excluded.message",
                    written,
                )

        await self._in_thread(write)

    async def delete(self, name: str) -> None:
        """Forget a resource and what it owns; one that is gone is not an error."""

        def write() -> None:
            with self._connection:
                self._connection.execute("DELETE FROM resources WHERE name = ?", (name,))

        await self._in_thread(write)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self._path)
        self._connection.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; {_SCHEMA}"
        )
        if self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'services'").fetchone():
            self._connection.executescript(f"BEGIN; {_FORMER} COMMIT;")

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _columns(row: Row) -> tuple[str, str, str | None, str | None, bytes]:
    name: str = row.message.name
    above, kind, _ = name.rsplit("/", 2)
    owner = above if above.count("/") > 3 else None  # not for what is below a location
    return name, kind, owner, row.container, type(row.message).serialize(row.message)
