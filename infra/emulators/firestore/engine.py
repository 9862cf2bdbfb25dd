"""Reads and commits of one database file, with transactions and their order; no wire format but the messages' own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import execute, writes
from .declared import Declared
from .history import Commit, History
from .messages import Message
from .names import Name
from .query import Query
from .storage import Storage
from .transactions import Transaction, Transactions


@dataclass(frozen=True, slots=True)
class View:
    """A consistent state to read: now, or an earlier time, which differs from now by `overlay`.

    A view of now is good until the next await. Reads through it count as the transaction's.
    """

    storage: Storage
    read_time_us: int
    overlay: dict[str, Message]
    transaction: Transaction | None
    declared: Declared | None

    def get(self, name: Name) -> Message | None:
        if self.transaction is not None:
            self.transaction.read.names.add(name)
        key = str(name) if self.overlay else ""
        return self.overlay[key] if key in self.overlay else self.storage.get(name)

    def run(self, query: Query) -> list[Message]:
        if self.declared is not None:
            self.declared.check(query)
        if self.transaction is not None:
            self.transaction.read.queries.append(query)
        return execute.run(self.storage, query, self.overlay)


class Engine:
    """One file of documents; with `declared` indexes, queries that these do not serve are refused.

    `close()` is idempotent.
    """

    def __init__(self, path: Path, declared: Declared | None = None) -> None:
        self._declared = declared
        self.storage = Storage(path)
        self.history = History(self.storage.now())
        self.transactions = Transactions(self.history, self.storage.now)

    def close(self) -> None:
        self.storage.close()

    def view(self, *, transaction: Transaction | None = None, read_time: Message | None = None) -> View:
        """What a read sees. Raises FailedPrecondition, InvalidArgument, Aborted."""
        if transaction is not None:
            time_us = self.transactions.snapshot(transaction)
        elif read_time is not None:
            time_us = self.transactions.check_read_time(read_time)
        else:
            return View(self.storage, self.storage.now(), {}, None, self._declared)
        mine = None if transaction is None or transaction.read_only else transaction
        return View(self.storage, time_us, self.history.overlay(time_us), mine, self._declared)

    async def commit(
        self,
        database: str,
        batch: Sequence[Message],
        transaction: Transaction | None = None,
    ) -> tuple[int, list[Message]]:
        """Do all the writes or none; answers the commit time and a WriteResult for each.

        Raises what `writes.apply` does, and Aborted: what the transaction read has changed.
        """
        names = [writes.target(write, database) for write in batch]
        await self.transactions.wait_for_others(names, transaction)
        if transaction is not None:
            self.transactions.check_unchanged(transaction, names)
        time_us = self.storage.tick()
        with self.storage.commit():
            results, changes = writes.apply(self.storage, database, batch, time_us)
        if changes:
            self.history.add(Commit(time_us, tuple(changes)))
        return time_us, results
