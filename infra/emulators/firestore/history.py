"""What was committed lately: for reads of the past, for conflicts of transactions, for listeners."""

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from google.api_core import exceptions

from .messages import Message
from .writes import Change

KEPT_BYTES = 64 * 2**20
KEPT_COMMITS = 10_000


@dataclass(frozen=True, slots=True)
class Commit:
    """One step of the database."""

    time_us: int
    changes: tuple[Change, ...]

    @property
    def size_bytes(self) -> int:
        return sum(
            sys.getsizeof(change) + (change.before.ByteSize() if change.before is not None else 0)
            for change in self.changes
        )


class History:
    """The last commits, in memory; older times are refused, so a read of the past is right or an error."""

    def __init__(self, start_us: int) -> None:
        self._commits: deque[Commit] = deque()
        self._size_bytes = 0
        self._floor_us = start_us
        self._listeners: set[asyncio.Queue[Commit]] = set()

    def add(self, commit: Commit) -> None:
        self._commits.append(commit)
        self._size_bytes += commit.size_bytes
        while self._size_bytes > KEPT_BYTES or len(self._commits) > KEPT_COMMITS:
            dropped = self._commits.popleft()
            self._size_bytes -= dropped.size_bytes
            self._floor_us = dropped.time_us
        for listener in self._listeners:
            listener.put_nowait(commit)

    def reaches(self, time_us: int) -> bool:
        """Whether the commits since then are all known."""
        return time_us >= self._floor_us

    def since(self, time_us: int) -> Iterator[Change]:
        """The changes committed after that time, newest first."""
        for commit in reversed(self._commits):
            if commit.time_us <= time_us:
                return
            yield from reversed(commit.changes)

    def overlay(self, time_us: int) -> dict[str, Message]:
        """What differs from now: each document changed since, as it was (None: it was not there).

        Raises FailedPrecondition: that time is no longer known.
        """
        if not self.reaches(time_us):
            raise exceptions.FailedPrecondition("The requested 'read_time' is too old.")
        return {str(change.name): change.before for change in self.since(time_us)}

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[Commit]]:
        """Every commit from now on."""
        queue: asyncio.Queue[Commit] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)
