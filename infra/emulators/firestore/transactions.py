"""Transactions: optimistic at first, in line for their turn once they lost.

A read-write transaction reads one snapshot and commits only if nothing it read has changed since; otherwise it is
ABORTED. Its retry (which names the lost one) then reserves all that the lost one read or wrote, and waits until earlier
reservations of the same are done; until it ends, others' writes there wait for it. So somebody always commits, and a
transaction whose retries read the same commits at its second try. A reservation left idle for `IDLE_S` is void.
"""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from google.api_core import exceptions

from .history import History
from .messages import Message, microseconds
from .names import Name
from .query import Query
from .writes import Change

IDLE_S = 5.0  # a reservation without a sign of life; others wait at most this long for it
MAX_AGE_S = 270.0  # cloud.google.com/firestore/quotas#writes_and_transactions
REMEMBERED = 10_000  # ended transactions
_BOOT_BYTES = 6


@dataclass(slots=True)
class Footprint:
    """What a transaction has read or tried to write."""

    names: set[Name] = field(default_factory=set)
    queries: list[Query] = field(default_factory=list)

    def touches(self, name: Name) -> bool:
        """Whether a change of this document could concern it; by name only."""
        return name in self.names or any(query.in_scope(name) for query in self.queries)

    def is_changed_by(self, change: Change) -> bool:
        """Whether this change would have made a difference to what was read."""
        if change.name in self.names:
            return True
        versions = [document for document in (change.before, change.after) if document is not None]
        return any(
            query.in_scope(change.name) and any(query.matches(document) for document in versions)
            for query in self.queries
        )

    def overlaps(self, other: "Footprint") -> bool:
        if any(other.touches(name) for name in self.names) or any(self.touches(name) for name in other.names):
            return True
        return any(
            one.parent.database == two.parent.database
            and (one.collection_id == two.collection_id or not (one.collection_id and two.collection_id))
            for one in self.queries
            for two in other.queries
        )

    def add(self, other: "Footprint") -> None:
        self.names |= other.names
        self.queries += other.queries


@dataclass(slots=True)
class Transaction:
    """One attempt. `reserved` is what its predecessors touched, and empty at the first attempt."""

    id: bytes
    database: str
    read_only: bool
    root: bytes
    began_s: float
    seen_s: float
    snapshot_us: int | None = None
    read: Footprint = field(default_factory=Footprint)
    reserved: Footprint | None = None
    waiting: bool = False  # for its turn: not idle, however long it takes
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Transactions:
    """The open transactions of a server; they end with it, and their tokens become ABORTED."""

    def __init__(
        self, history: History, now_us: Callable[[], int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._history = history
        self._now_us = now_us
        self._monotonic = monotonic
        self._boot = os.urandom(_BOOT_BYTES)
        self._open: dict[bytes, Transaction] = {}
        self._lost: dict[bytes, Footprint] = {}  # by root: what aborted attempts touched
        self._closed: dict[bytes, bytes] = {}  # the latest ended ids and their roots
        self._line: list[Transaction] = []  # those with a reservation, oldest first

    async def begin(self, database: str, options: Message) -> Transaction:
        """Open a transaction; a retry waits here for its turn. Raises InvalidArgument, FailedPrecondition."""
        self._expire()
        now_s = self._monotonic()
        token = self._boot + os.urandom(8)
        transaction = Transaction(token, database, options.HasField("read_only"), token, now_s, now_s)
        if transaction.read_only:
            transaction.snapshot_us = self._now_us()
            if options.read_only.HasField("read_time"):
                transaction.snapshot_us = self.check_read_time(options.read_only.read_time)
        retried = options.read_write.retry_transaction
        if retried and retried.startswith(self._boot):
            if retried not in self._closed and retried not in self._open:
                raise exceptions.InvalidArgument("Invalid transaction.")
            transaction.root = self._closed.get(retried, retried)
        self._open[token] = transaction
        lost = self._lost.get(transaction.root)
        if lost is not None:
            transaction.reserved = Footprint(set(lost.names), list(lost.queries))
            self._line.append(transaction)
            try:
                await self._wait_for(self._before(transaction, transaction.reserved.overlaps), transaction)
            except BaseException:
                self.end(transaction)
                raise
        return transaction

    def get(self, token: bytes, database: str) -> Transaction:
        """The open transaction of that token. Raises InvalidArgument; Aborted: it ended with an earlier server."""
        self._expire()
        transaction = self._open.get(token)
        if transaction is None:
            if token in self._closed:
                raise exceptions.InvalidArgument("Transaction is invalid or closed.")
            if len(token) == len(self._boot) + 8 and not token.startswith(self._boot):
                raise exceptions.Aborted("The transaction was lost when the emulator restarted.")
            raise exceptions.InvalidArgument("Invalid transaction.")
        if transaction.database != database:
            raise exceptions.InvalidArgument("The transaction belongs to another database.")
        transaction.seen_s = self._monotonic()
        return transaction

    def snapshot(self, transaction: Transaction) -> int:
        """The time that all its reads see; fixed by the first. Raises Aborted: too much has happened since."""
        if transaction.snapshot_us is None:
            transaction.snapshot_us = self._now_us()
        if not transaction.read_only and not self._history.reaches(transaction.snapshot_us):
            raise exceptions.Aborted("The transaction's snapshot is too old.")
        return transaction.snapshot_us

    def check_read_time(self, stamp: Message) -> int:
        """A time to read at. Raises InvalidArgument, FailedPrecondition."""
        time_us = microseconds(stamp)
        if time_us > self._now_us():
            raise exceptions.InvalidArgument("The requested 'read_time' cannot be in the future.")
        if not self._history.reaches(time_us):
            raise exceptions.FailedPrecondition("The requested 'read_time' is too old.")
        return time_us

    def check_unchanged(self, transaction: Transaction, writing: Collection[Name]) -> None:
        """Raise Aborted, and remember what was lost for its retry, if something it read has changed."""
        if transaction.snapshot_us is None:
            return
        current = self._history.reaches(transaction.snapshot_us) and not any(
            transaction.read.is_changed_by(change) for change in self._history.since(transaction.snapshot_us)
        )
        if current:
            return
        lost = self._lost.setdefault(transaction.root, Footprint())
        lost.add(transaction.read)
        lost.names.update(writing)
        _bound(self._lost)
        raise exceptions.Aborted("The transaction read what another write has changed since; try again.")

    def end(self, transaction: Transaction, *, committed: bool = False) -> None:
        """Close it and let the next in line go on; idempotent."""
        self._open.pop(transaction.id, None)
        self._closed[transaction.id] = transaction.root
        _bound(self._closed)
        if committed:
            self._lost.pop(transaction.root, None)
        if transaction in self._line:
            self._line.remove(transaction)
        transaction.ended.set()

    def is_closed(self, token: bytes) -> bool:
        return token in self._closed

    async def wait_for_others(self, writing: Iterable[Name], mine: Transaction | None) -> None:
        """Wait until those who are now in line before `mine` and reserved what is about to be written are done."""
        if self._line:
            names = list(writing)
            await self._wait_for(self._before(mine, lambda reserved: any(reserved.touches(n) for n in names)), mine)

    def _before(self, mine: Transaction | None, conflicts: Callable[[Footprint], bool]) -> list[Transaction]:
        """Those before `mine` in line (or all) with such a reservation."""
        earlier = itertools.takewhile(lambda transaction: transaction is not mine, self._line)
        return [other for other in earlier if other.reserved is not None and conflicts(other.reserved)]

    async def _wait_for(self, others: list[Transaction], mine: Transaction | None) -> None:
        """Waiting is always for those earlier in line, so nobody waits for each other."""
        if mine is not None:
            mine.waiting = True
        for other in others:
            while other in self._line:
                idle_s = 0.0 if other.waiting else self._monotonic() - other.seen_s
                if idle_s >= IDLE_S:
                    self._line.remove(other)
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_S - idle_s):  # wait_for may swallow a cancellation on 3.11
                        await other.ended.wait()
        if mine is not None:
            mine.waiting = False
            mine.seen_s = self._monotonic()

    def _expire(self) -> None:
        oldest_s = self._monotonic() - MAX_AGE_S
        while self._open and (oldest := next(iter(self._open.values()))).began_s < oldest_s:
            self.end(oldest)


def _bound(remembered: dict[bytes, bytes] | dict[bytes, Footprint]) -> None:
    while len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]
