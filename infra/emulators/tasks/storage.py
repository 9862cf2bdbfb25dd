"""Queues, tasks, attempts and tombstones in one SQLite file: what a restart of the process must not lose.

Every public method is one transaction. A store is used from one thread only (see thread.py).
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from infra.emulators.tasks.admission import Queue

_SCHEMA = """
CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY, message BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tasks (
    name TEXT PRIMARY KEY,
    queue TEXT NOT NULL,
    message BLOB NOT NULL,           -- the Task as it was accepted: the request, its deadline, its creation time
    schedule_us INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    dispatch_count INTEGER NOT NULL,
    response_count INTEGER NOT NULL,
    execution_count INTEGER NOT NULL,
    previous_response INTEGER,
    first_dispatch_us INTEGER,
    attempt_schedule_us INTEGER,     -- these five: the last attempt
    attempt_dispatch_us INTEGER,
    attempt_response_us INTEGER,
    attempt_code INTEGER,
    attempt_message TEXT
);
CREATE INDEX IF NOT EXISTS tasks_by_queue ON tasks (queue, name);
CREATE TABLE IF NOT EXISTS tombstones (name TEXT PRIMARY KEY, until_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tombstones_by_end ON tombstones (until_us);
"""


class NameTaken(Exception):
    """A queue or task of this name exists."""


class NameBlocked(Exception):
    """A queue or task of this name existed too recently."""


class NoQueue(Exception):
    """There is no queue of this name."""


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A row of `tasks`. `execution_count` and `previous_response` are what the next attempt's headers tell."""

    name: str
    queue: str
    message: bytes
    schedule_us: int
    in_flight: int = 0
    dispatch_count: int = 0
    response_count: int = 0
    execution_count: int = 0
    previous_response: int | None = None
    first_dispatch_us: int | None = None
    attempt_schedule_us: int | None = None
    attempt_dispatch_us: int | None = None
    attempt_response_us: int | None = None
    attempt_code: int | None = None
    attempt_message: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed. `responded`: the target answered; `executed`: it counts as an execution.

    `code` is a google.rpc.Code; `previous_response` the HTTP status that the next attempt is told.
    """

    at_us: int
    responded: bool
    executed: bool
    previous_response: int
    code: int
    message: str


_COLUMNS = ", ".join(field.name for field in fields(StoredTask))
_INSERT = f"INSERT INTO tasks ({_COLUMNS}) VALUES ({', '.join('?' * len(fields(StoredTask)))})"  # noqa: S608


class TaskStore:
    """`task_tombstone_us`, `queue_tombstone_us`: for how long a name stays blocked after its end."""

    def __init__(self, path: Path, *, task_tombstone_us: int, queue_tombstone_us: int) -> None:
        """Open or create the file; attempts that were in flight when the last process died count as not begun."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._task_tombstone_us = task_tombstone_us
        self._queue_tombstone_us = queue_tombstone_us
        self._db = sqlite3.connect(path, isolation_level=None)
        # NORMAL in WAL mode: a commit survives the death of the process; only the machine's own may lose the last ones.
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)
        self._db.execute("UPDATE tasks SET in_flight = 0 WHERE in_flight <> 0")

    def close(self) -> None:
        self._db.close()

    # Queues

    def queue(self, name: str) -> Any | None:
        row = self._db.execute("SELECT message FROM queues WHERE name = ?", (name,)).fetchone()
        return None if row is None else Queue.FromString(row[0])

    def queues(self, location: str = "", after: str = "", limit: int = -1) -> list[Any]:
        """The queues of a location by name (all of them for ""), from the one after `after`; -1 = no limit."""
        prefix = f"{location}/queues/" if location else ""
        rows = self._db.execute(
            "SELECT message FROM queues WHERE substr(name, 1, ?) = ? AND name > ? ORDER BY name LIMIT ?",
            (len(prefix), prefix, after, limit),
        )
        return [Queue.FromString(message) for (message,) in rows]

    def create_queue(self, queue: Any, now_us: int) -> None:
        """Raises NameTaken, NameBlocked."""
        with self._transaction():
            if self.queue(queue.name) is not None:
                raise NameTaken(queue.name)
            self._insert_queue(queue, now_us)

    def change_queue(self, name: str, change: Callable[[Any], Any], now_us: int, *, create: bool = False) -> Any:
        """Store and return `change(queue)`; with `create`, an absent queue is None to `change`.

        Raises NoQueue, NameBlocked (only with `create`), and what `change` raises.
        """
        with self._transaction():
            current = self.queue(name)
            if current is None and not create:
                raise NoQueue(name)
            changed = change(current)
            if current is None:
                self._insert_queue(changed, now_us)
            else:
                self._db.execute("UPDATE queues SET message = ? WHERE name = ?", (changed.SerializeToString(), name))
            return changed

    def purge_queue(self, name: str, now_us: int) -> Any:
        """Delete every task of the queue and return the queue, with its new purge_time. Raises NoQueue."""

        def purged(queue: Any) -> Any:
            queue.purge_time.FromMicroseconds(now_us)
            self._end_tasks_of(name, now_us)
            return queue

        return self.change_queue(name, purged, now_us)

    def delete_queue(self, name: str, now_us: int) -> None:
        """Delete the queue with its tasks. Raises NoQueue."""
        with self._transaction():
            if self._db.execute("DELETE FROM queues WHERE name = ?", (name,)).rowcount == 0:
                raise NoQueue(name)
            self._end_tasks_of(name, now_us)
            self._block(name, now_us, self._queue_tombstone_us)

    # Tasks

    def create_task(self, task: StoredTask, now_us: int) -> None:
        """Raises NoQueue, NameTaken, NameBlocked."""
        with self._transaction():
            if self._db.execute("SELECT 1 FROM queues WHERE name = ?", (task.queue,)).fetchone() is None:
                raise NoQueue(task.queue)
            if self.task(task.name) is not None:
                raise NameTaken(task.name)
            if self.blocked(task.name, now_us):
                raise NameBlocked(task.name)
            self._db.execute(_INSERT, astuple(task))

    def task(self, name: str) -> StoredTask | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM tasks WHERE name = ?", (name,)).fetchone()  # noqa: S608
        return None if row is None else StoredTask(*row)

    def tasks(self, queue: str, after: str, *, limit: int, most_bytes: int) -> tuple[list[StoredTask], bool]:
        """The queue's tasks by name, from the one after `after`, and whether there are more.

        At most `limit`, and no further than the one with which their messages exceed `most_bytes`. Raises NoQueue.
        """
        if self._db.execute("SELECT 1 FROM queues WHERE name = ?", (queue,)).fetchone() is None:
            raise NoQueue(queue)
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM tasks WHERE queue = ? AND name > ? ORDER BY name",  # noqa: S608
            (queue, after),
        )
        found: list[StoredTask] = []
        size_bytes = 0
        for row in rows:
            if len(found) == limit or size_bytes > most_bytes:
                rows.close()
                return found, True
            found.append(StoredTask(*row))
            size_bytes += len(found[-1].message)
        return found, False

    def schedule(self) -> list[tuple[str, int, str]]:
        """(queue, schedule_us, name) of every task."""
        return self._db.execute("SELECT queue, schedule_us, name FROM tasks").fetchall()

    def blocked(self, name: str, now_us: int) -> bool:
        """Whether the name's tombstone stands."""
        query = "SELECT 1 FROM tombstones WHERE name = ? AND until_us > ?"
        return self._db.execute(query, (name, now_us)).fetchone() is not None

    def begin_attempt(self, name: str, scheduled_us: int | None, now_us: int) -> StoredTask | None:
        """Count an attempt and return the task as it is now.

        None: the task is gone, or is no longer due at `scheduled_us`, or is in flight. With `scheduled_us` None
        (a run by hand) only a task that is gone is None.
        """
        with self._transaction():
            begun = self._db.execute(
                "UPDATE tasks SET in_flight = in_flight + 1, dispatch_count = dispatch_count + 1,"
                " first_dispatch_us = coalesce(first_dispatch_us, :now), attempt_schedule_us = schedule_us,"
                " attempt_dispatch_us = :now, attempt_response_us = NULL, attempt_code = NULL, attempt_message = NULL"
                " WHERE name = :name AND (:due IS NULL OR (schedule_us = :due AND in_flight = 0))",
                {"now": now_us, "name": name, "due": scheduled_us},
            ).rowcount
            return self.task(name) if begun else None

    def fail_attempt(self, name: str, failure: Failure, schedule_us: int) -> bool:
        """Note the failure and when the task is next due; False: the task is gone."""
        with self._transaction():
            noted = self._db.execute(
                "UPDATE tasks SET in_flight = max(in_flight - 1, 0), response_count = response_count + ?,"
                " execution_count = execution_count + ?, previous_response = ?, schedule_us = ?,"
                " attempt_response_us = ?, attempt_code = ?, attempt_message = ? WHERE name = ?",
                (
                    failure.responded,
                    failure.executed,
                    failure.previous_response,
                    schedule_us,
                    failure.at_us,
                    failure.code,
                    failure.message,
                    name,
                ),
            )
            return noted.rowcount > 0

    def end_task(self, name: str, now_us: int) -> bool:
        """Delete the task and block its name; False: it is gone already."""
        with self._transaction():
            if self._db.execute("DELETE FROM tasks WHERE name = ?", (name,)).rowcount == 0:
                return False
            self._block(name, now_us, self._task_tombstone_us)
            return True

    # Inside a transaction

    def _insert_queue(self, queue: Any, now_us: int) -> None:
        if self.blocked(queue.name, now_us):
            raise NameBlocked(queue.name)
        self._db.execute("INSERT INTO queues VALUES (?, ?)", (queue.name, queue.SerializeToString()))

    def _end_tasks_of(self, queue: str, now_us: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO tombstones SELECT name, ? FROM tasks WHERE queue = ?",
            (now_us + self._task_tombstone_us, queue),
        )
        self._db.execute("DELETE FROM tasks WHERE queue = ?", (queue,))

    def _block(self, name: str, now_us: int, for_us: int) -> None:
        self._db.execute("DELETE FROM tombstones WHERE until_us <= ?", (now_us,))
        self._db.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", (name, now_us + for_us))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
