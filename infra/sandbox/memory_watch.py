"""A memory limit where there are no control groups: measure, and kill the largest process of what grew too large."""

import asyncio
import contextlib
import logging
import os
import signal

from infra.sandbox.processes import descendants

log = logging.getLogger(__name__)

INTERVAL_S = 0.25  # RLIMIT_DATA bounds what one process takes between two looks
MEMORY_FOLDERS = ("tmp", "dev/shm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


async def watch(name: str, init: int, limit_bytes: int) -> None:
    """Hold the container whose first process is `init` below `limit_bytes`, until cancelled or it has ended.

    The session's largest process dies, as the kernel's own choice would be; if memory-backed files alone are past the
    limit, everything.
    """
    while True:
        await asyncio.sleep(INTERVAL_S)
        sizes = {pid: anonymous_bytes(pid) for pid in descendants(init)}
        files = file_bytes(init)
        if sum(sizes.values()) + files <= limit_bytes:
            continue
        victim = init if files > limit_bytes else max(sizes, key=lambda pid: sizes[pid])
        log.warning(
            "sandbox over its memory limit",
            extra={"container": name, "limit_bytes": limit_bytes, "killed_bytes": sizes[victim]},
        )
        _kill(victim, init)


def anonymous_bytes(pid: int) -> int:
    """What the process holds of its own; memory shared after a fork counts for each sharer."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - read many times a second
            _, resident, shared, *_ = file.read().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE


def file_bytes(init: int) -> int:
    """What the container's memory-backed folders hold."""
    total = 0
    for folder in MEMORY_FOLDERS:
        with contextlib.suppress(OSError):
            usage = os.statvfs(f"/proc/{init}/root/{folder}")
            total += (usage.f_blocks - usage.f_bfree) * usage.f_frsize
    return total


def _kill(victim: int, init: int) -> None:
    """Kill `victim` if it still is part of the container: its number may have been given away since."""
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(victim)
        try:
            if victim in descendants(init):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
