"""Clusters, configs and workstations on disk: one SQLite file, written through a single thread."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from google.cloud.workstations_v1 import types

_SCHEMA = """
CREATE TABLE IF NOT EXISTS clusters (name TEXT PRIMARY KEY, message BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS configs (name TEXT PRIMARY KEY, message BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS workstations (
  name TEXT PRIMARY KEY,
  message BLOB NOT NULL,
  container TEXT NOT NULL UNIQUE,
  disks BLOB NOT NULL,
  boost TEXT NOT NULL
) WITHOUT ROWID;
"""
_TABLES: dict[type, str] = {types.WorkstationCluster: "clusters", types.WorkstationConfig: "configs"}

T = TypeVar("T")
Group = TypeVar("Group", types.WorkstationCluster, types.WorkstationConfig)


@dataclass(frozen=True, slots=True)
class Stored:
    """A workstation, its container's name, and what its config said about disks when it was created.

    Of `disks` only the persistent directories are set. `boost`: the boost config that it was last started with.
    """

    workstation: types.Workstation
    container: str
    disks: types.WorkstationConfig
    boost: str = ""

    @property
    def is_deleted(self) -> bool:
        """Whether a deletion has begun."""
        return bool(self.workstation.delete_time)


class Storage:
    """What is written is safe from a crash of the process; the last writes may be lost when the machine loses power."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="workstations-storage")
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        await self._in_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._in_thread(lambda: self._connection.close())
        self._thread.shutdown()

    async def load(self, kind: type[Group]) -> list[Group]:
        """All clusters, or all configs."""
        rows = await self._in_thread(
            lambda: self._connection.execute(f"SELECT message FROM {_TABLES[kind]}").fetchall()  # noqa: S608
        )
        return [kind.deserialize(blob) for (blob,) in rows]

    async def load_workstations(self) -> list[Stored]:
        rows = await self._in_thread(
            lambda: self._connection.execute("SELECT message, container, disks, boost FROM workstations").fetchall()
        )
        return [
            Stored(types.Workstation.deserialize(blob), name, types.WorkstationConfig.deserialize(disks), boost)
            for blob, name, disks, boost in rows
        ]

    async def save(self, group: Group) -> None:
        row = (group.name, type(group).serialize(group))
        await self._execute(f"INSERT OR REPLACE INTO {_TABLES[type(group)]} VALUES (?, ?)", row)  # noqa: S608

    async def save_workstation(self, stored: Stored) -> None:
        row = (
            stored.workstation.name,
            types.Workstation.serialize(stored.workstation),
            stored.container,
            types.WorkstationConfig.serialize(stored.disks),
            stored.boost,
        )
        await self._execute("INSERT OR REPLACE INTO workstations VALUES (?, ?, ?, ?, ?)", row)

    async def delete(self, name: str) -> None:
        """Forget what has that name; what is gone is not an error."""
        for table in (*_TABLES.values(), "workstations"):
            await self._execute(f"DELETE FROM {table} WHERE name = ?", (name,))  # noqa: S608

    async def _execute(self, statement: str, row: tuple[object, ...]) -> None:
        def write() -> None:
            with self._connection:
                self._connection.execute(statement, row)

        await self._in_thread(write)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self._path)
        self._connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
