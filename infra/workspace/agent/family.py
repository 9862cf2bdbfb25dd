"""A command's family: the processes that descend from it, found in /proc and signalled group by group.

A family is wider than a process group: job control and timeout(1) put children in groups of their own, yet in the
command's session; a child that made itself a session is still known by its parent. Out of reach is a process that
left the session and whose parent ended before anybody looked: the container's end is its end.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

GONE = frozenset({"Z", "X"})  # a zombie waits only to be reaped
STAT_BYTES = 4096  # more than 52 numbers and a name take


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc. `started` (clock ticks since boot) tells a process from a later one of the same pid."""

    pid: int
    started: int
    parent: int
    group: int
    session: int
    state: str


class Family:
    """Everything that descends from `leader`, a process that leads a session of its own."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._known: set[tuple[int, int]] = set()

    def members(self) -> list[Process]:
        """Who is alive. Each call remembers whom it saw, so that a member whose parent ends is not lost."""
        everybody = list(processes())
        pids = {p.pid for p in everybody if p.session == self._leader or (p.pid, p.started) in self._known} | {
            self._leader
        }
        grown = True
        while grown:
            children = {p.pid for p in everybody if p.parent in pids} - pids
            pids |= children
            grown = bool(children)
        members = [p for p in everybody if p.pid in pids]
        self._known.update((p.pid, p.started) for p in members)
        return members

    def signal(self, number: signal.Signals) -> bool:
        """Signal every group of the family, at once for each (a fork cannot slip through); False if nobody is alive."""
        groups = {process.group for process in self.members()}
        for group in groups:
            try:
                os.killpg(group, number)
            except (ProcessLookupError, PermissionError):  # ended meanwhile, or became another user's (setuid)
                continue
        return bool(groups)


def alone() -> bool:
    """No process but this one is alive, as far as it can see."""
    return all(process.pid == os.getpid() for process in processes())


def processes() -> Iterator[Process]:
    """All that are alive and visible."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - a Path for each process would double the cost
        if not name.isdigit():
            continue
        try:
            stat = _read(f"/proc/{name}/stat")
        except OSError:  # ended meanwhile
            continue
        # pid (comm) state ppid pgrp session …, starttime is field 22; comm may hold anything: proc(5)
        fields = stat[stat.rindex(b")") + 2 :].split(maxsplit=20)
        state = fields[0].decode()
        if state not in GONE or int(fields[17]) > 1:  # the first thread may end before the others
            yield Process(int(name), int(fields[19]), int(fields[1]), int(fields[2]), int(fields[3]), state)


def _read(path: str) -> bytes:
    """At once, as /proc gives it: a file object would cost more than the reading."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, STAT_BYTES)
    finally:
        os.close(fd)
