"""Resources on disk, each with what it owns: one SQLite file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.cloud.run_v2 import types

from infra.emulators.sqlite_thread import SqliteThread

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


@dataclass(frozen=True, slots=True)
class Row:
    """A resource (a message of _MESSAGES, under its own name), and the name of its container where it has one."""

    message: Any
    container: str | None = None


class Storage(SqliteThread):
    def __init__(self, path: Path) -> None:
        super().__init__(path, "cloud-run-storage", _SCHEMA)

    async def load(self, kind: str) -> list[Row]:
        """All of a kind such as "services", oldest first."""
        found = await self.read("SELECT message, container FROM resources WHERE kind = ?", kind)
        rows = [Row(_MESSAGES[kind].deserialize(blob), container) for blob, container in found]
        return sorted(rows, key=lambda row: row.message.create_time)

    async def save(self, *rows: Row) -> None:
        """Write them all or none; owners come first. A container's name is written once."""
        await self.write(
            "INSERT INTO resources VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET message = excluded.message",
            *map(_columns, rows),
        )

    async def delete(self, name: str) -> None:
        """Forget a resource and what it owns; one that is gone is not an error."""
        await self.write("DELETE FROM resources WHERE name = ?", (name,))

    def _open(self) -> None:
        super()._open()
        if self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'services'").fetchone():
            self._connection.executescript(f"BEGIN; {_FORMER} COMMIT;")


def _columns(row: Row) -> tuple[str, str, str | None, str | None, bytes]:
    name: str = row.message.name
    above, kind, _ = name.rsplit("/", 2)
    owner = above if above.count("/") > 3 else None  # not for what is below a location
    return name, kind, owner, row.container, type(row.message).serialize(row.message)
