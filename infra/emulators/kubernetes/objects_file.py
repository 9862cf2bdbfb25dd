"""The objects in one SQLite file, written by a thread of its own: what a restart of the process must not lose."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT NOT NULL,          -- pods, networkpolicies.networking.k8s.io
    namespace TEXT NOT NULL,         -- '' for what has none
    name TEXT NOT NULL,
    body TEXT NOT NULL,              -- JSON
    PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revision (only INTEGER PRIMARY KEY CHECK (only = 1), value INTEGER NOT NULL);
"""

Key = tuple[str, str, str]  # resource, namespace, name


class ObjectsFile:
    """Changes are written in the order in which they were made."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kubernetes-objects")
        self._db = self._executor.submit(self._open, path).result()

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None)
        # NORMAL in WAL mode: a commit survives the death of the process; only the machine's own may lose the last ones.
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.executescript(_SCHEMA)
        return db

    def load(self) -> tuple[int, list[tuple[Key, dict[str, Any]]]]:
        """The last resourceVersion and all objects; for the start, when nothing else is under way."""
        return self._executor.submit(self._load).result()

    async def put(self, key: Key, body: dict[str, Any], revision: int) -> None:
        text = json.dumps(body)
        await self._run("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (*key, text), revision)

    async def remove(self, key: Key, revision: int) -> None:
        await self._run("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", key, revision)

    def close(self) -> None:
        """Waits for what is being written."""
        self._executor.submit(self._db.close).result()
        self._executor.shutdown()

    async def _run(self, statement: str, values: tuple[str, ...], revision: int) -> None:
        def write() -> None:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute(statement, values)
                self._db.execute("INSERT OR REPLACE INTO revision VALUES (1, ?)", (revision,))
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

        # Shielded: who gave up waiting does not undo the change, so its write must not be dropped from the queue.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._executor, write))

    def _load(self) -> tuple[int, list[tuple[Key, dict[str, Any]]]]:
        row = self._db.execute("SELECT value FROM revision").fetchone()
        return (row[0] if row else 0), list(self._rows())

    def _rows(self) -> Iterator[tuple[Key, dict[str, Any]]]:
        for resource, namespace, name, body in self._db.execute("SELECT * FROM objects ORDER BY 1, 2, 3"):
            yield (resource, namespace, name), json.loads(body)
