"""Clusters, configs and workstations on disk: one SQLite file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from google.cloud.workstations_v1 import types

from infra.emulators.sqlite_thread import SqliteThread

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


class Storage(SqliteThread):
    def __init__(self, path: Path) -> None:
        super().__init__(path, "workstations-storage", _SCHEMA)

    async def load(self, kind: type[Group]) -> list[Group]:
        """All clusters, or all configs."""
        return [kind.deserialize(blob) for (blob,) in await self.read(f"SELECT message FROM {_TABLES[kind]}")]  # noqa: S608

    async def load_workstations(self) -> list[Stored]:
        return [
            Stored(types.Workstation.deserialize(blob), name, types.WorkstationConfig.deserialize(disks), boost)
            for blob, name, disks, boost in await self.read("SELECT message, container, disks, boost FROM workstations")
        ]

    async def save(self, group: Group) -> None:
        row = (group.name, type(group).serialize(group))
        await self.write(f"INSERT OR REPLACE INTO {_TABLES[type(group)]} VALUES (?, ?)", row)  # noqa: S608

    async def save_workstation(self, stored: Stored) -> None:
        row = (
            stored.workstation.name,
            types.Workstation.serialize(stored.workstation),
            stored.container,
            types.WorkstationConfig.serialize(stored.disks),
            stored.boost,
        )
        await self.write("INSERT OR REPLACE INTO workstations VALUES (?, ?, ?, ?, ?)", row)

    async def delete(self, name: str) -> None:
        """Forget what has that name; what is gone is not an error."""
        for table in (*_TABLES.values(), "workstations"):
            await self.write(f"DELETE FROM {table} WHERE name = ?", (name,))  # noqa: S608
