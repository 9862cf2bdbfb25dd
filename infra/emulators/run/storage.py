"""Services and their revisions on disk: one SQLite file, written through a single thread."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from google.cloud.run_v2 import types

_SCHEMA = """
CREATE TABLE IF NOT EXISTS services (
  name TEXT PRIMARY KEY,
  container TEXT NOT NULL UNIQUE,
  service BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revisions (
  name TEXT PRIMARY KEY,
  service TEXT NOT NULL REFERENCES services (name) ON DELETE CASCADE,
  revision BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS revisions_of_service ON revisions (service);
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """A service, the name of its container, and all its revisions by name, oldest first."""

    container: str
    service: types.Service
    revisions: dict[str, types.Revision] = field(default_factory=dict)


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

    async def load(self) -> list[Stored]:
        return await self._in_thread(self._load)

    async def save(self, stored: Stored, revision: types.Revision | None = None) -> None:
        """Write the service, and one of its revisions if that changed too."""
        name = stored.service.name
        service = types.Service.serialize(stored.service)
        row = None if revision is None else (revision.name, name, types.Revision.serialize(revision))

        def write() -> None:
            with self._connection:
                self._connection.execute(
                    "INSERT INTO services VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET service = excluded.service",
                    (name, stored.container, service),
                )
                if row is not None:
                    self._connection.execute(
                        "INSERT INTO revisions VALUES (?, ?, ?) "
                        "ON CONFLICT (name) DO UPDATE SET revision = excluded.revision",
                        row,
                    )

        await self._in_thread(write)

    async def delete(self, name: str) -> None:
        """Forget a service and its revisions; one that is gone is not an error."""

        def write() -> None:
            with self._connection:
                self._connection.execute("DELETE FROM services WHERE name = ?", (name,))

        await self._in_thread(write)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self._path)
        self._connection.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; {_SCHEMA}"
        )

    def _load(self) -> list[Stored]:
        revisions: dict[str, dict[str, types.Revision]] = {}
        for service, blob in self._connection.execute("SELECT service, revision FROM revisions"):
            revision = types.Revision.deserialize(blob)
            revisions.setdefault(service, {})[revision.name] = revision
        for of_service in revisions.values():
            ordered = sorted(of_service.items(), key=lambda item: item[1].create_time)
            of_service.clear()
            of_service.update(ordered)
        return [
            Stored(container, types.Service.deserialize(blob), revisions.get(name, {}))
            for name, container, blob in self._connection.execute("SELECT name, container, service FROM services")
        ]

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
