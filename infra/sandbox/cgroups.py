"""Limits by control groups that we make ourselves: version 1 trees, or a version 2 tree delegated to us."""

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from infra.sandbox.processes import signal_process
from infra.sandbox.spec import Limits, SandboxError

TAG = "onmemos-"  # how the parents of our groups begin
CPU_PERIOD_US = 100_000  # the kernel's default: Documentation/scheduler/sched-bwc.rst
OVERHEAD_PROCESSES = 4  # bubblewrap's init and the egress forwarder are not the session's
_REMOVE_TIMEOUT_S = 2.0


class Group(Protocol):
    """The limits of one container."""

    async def remove(self) -> None:
        """Kill what is left in it and remove it; idempotent."""


class Groups(Protocol):
    """Makes groups; `name` is the container's."""

    async def limit(self, name: str, limits: Limits, pid: int) -> Group:
        """Put `pid` and all its future children under `limits`. Raises SandboxError."""

    async def sweep(self) -> None:
        """Remove all groups: those that an earlier runtime with the same folders left."""

    async def close(self) -> None:
        """The same, and their common parent; idempotent."""


@dataclass(frozen=True, slots=True)
class FolderGroup:
    """One folder per controller tree (version 1) or one (version 2)."""

    folders: tuple[Path, ...]

    async def remove(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _REMOVE_TIMEOUT_S
        for folder in self.folders:
            while not _removed(folder) and loop.time() < deadline:
                _kill_members(folder)
                await asyncio.sleep(0.01)  # the kernel tells nobody when a v1 group has become empty


def _folders_in(group: Path) -> list[Path]:
    """The groups in a group; none when another runtime took it away meanwhile."""
    try:
        return [path for path in group.iterdir() if path.is_dir()]
    except OSError:
        return []


def _locked(group: Path, kind: int) -> int | None:
    """A descriptor that holds a lock on a group's folder; None when it is gone, or held by its runtime."""
    try:
        descriptor = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_leftover(parent: Path) -> None:
    """Of a runtime that was killed and whose folders nobody opens again. A group in use cannot be removed."""
    lock = _locked(parent, fcntl.LOCK_EX)
    if lock is None:
        return
    for folder in (*_folders_in(parent), parent):
        with contextlib.suppress(OSError):
            folder.rmdir()
    os.close(lock)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as exc:
        if exc.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True


def _kill_members(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            signal_process(int(pid), signal.SIGKILL)


class FolderGroups:
    """Groups made as folders below `parents`: {controller: its parent folder}; one entry "" is the version 2 tree."""

    def __init__(self, parents: dict[str, Path]) -> None:
        self._parents = parents
        # While these are held, no other runtime takes our empty groups for leftovers; the kernel lets go at our death.
        self._locks = [lock for parent in parents.values() if (lock := _locked(parent, fcntl.LOCK_SH)) is not None]

    async def limit(self, name: str, limits: Limits, pid: int) -> Group:
        try:
            return await self._limited(name, limits, pid)
        except FileNotFoundError:  # another runtime swept just when the group was still empty
            try:
                return await self._limited(name, limits, pid)
            except OSError as exc:
                raise SandboxError(f"control group {name}: {exc}") from exc
        except OSError as exc:
            raise SandboxError(f"control group {name}: {exc}") from exc

    async def _limited(self, name: str, limits: Limits, pid: int) -> Group:
        group = FolderGroup(tuple(parent / name for parent in self._parents.values()))
        try:
            for controller, parent in self._parents.items():
                folder = parent / name
                if not parent.is_dir():
                    _made(parent)
                    if not controller:
                        _delegate(parent)
                folder.mkdir(exist_ok=True)
                for file, value in (settings_v1(controller, limits) if controller else settings_v2(limits)).items():
                    if (folder / file).exists():
                        (folder / file).write_text(value)
                (folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            await group.remove()
            raise
        return group

    async def sweep(self) -> None:
        for parent in self._parents.values():
            if parent.is_dir():
                await FolderGroup(tuple(_folders_in(parent))).remove()
            for stale in parent.parent.glob(f"{TAG}*"):
                if stale != parent:
                    _remove_leftover(stale)

    async def close(self) -> None:
        await self.sweep()
        _unmake(self._parents)
        while self._locks:
            os.close(self._locks.pop())


def settings_v1(controller: str, limits: Limits) -> dict[str, str]:
    """Files and values of one version 1 controller; a file that does not exist there is skipped."""
    memory = str(limits.memory_bytes)
    return {
        "memory": {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory},
        "pids": {"pids.max": str(limits.processes + OVERHEAD_PROCESSES)},
        "cpu": {
            "cpu.cfs_period_us": str(CPU_PERIOD_US),
            "cpu.cfs_quota_us": str(int(limits.cpu * CPU_PERIOD_US)),
        },
    }[controller]


def settings_v2(limits: Limits) -> dict[str, str]:
    """Files and values of the version 2 tree."""
    return {
        "memory.max": str(limits.memory_bytes),
        "memory.swap.max": "0",
        "pids.max": str(limits.processes + OVERHEAD_PROCESSES),
        "cpu.max": f"{int(limits.cpu * CPU_PERIOD_US)} {CPU_PERIOD_US}",
    }


def v1_parents(tag: str, mounts: str, own: str) -> dict[str, Path] | None:
    """Make the folder `tag` below this process's own group in each tree; None where memory or pids is not ours.

    `mounts` and `own` are the texts of /proc/self/mountinfo and /proc/self/cgroup.
    """
    trees = _mounted(mounts, "cgroup")
    mine = {c: path for _, names, path in _memberships(own) for c in names.split(",") if c}
    parents: dict[str, Path] = {}
    for controller in ("memory", "pids", "cpu"):
        root = next((point for options, point in trees if controller in options.split(",")), None)
        if root is not None:
            base = root / mine.get(controller, "/").lstrip("/")
            with contextlib.suppress(OSError):
                parents[controller] = _made((base if base.is_dir() else root) / tag)
    if "memory" in parents and "pids" in parents:
        return parents
    _unmake(parents)
    return None


def v2_parents(tag: str, mounts: str, own: str) -> dict[str, Path] | None:
    """The same for the version 2 tree: beside or below this process's own group, wherever children get controllers."""
    points = [point for _, point in _mounted(mounts, "cgroup2")]
    paths = [path for number, _, path in _memberships(own) if number == "0"]
    if not points or not paths:
        return None
    group = points[0] / paths[0].lstrip("/")
    for base in (group, group.parent):
        if not {"memory", "pids"} <= set(_words(base / "cgroup.subtree_control")):
            continue
        parents: dict[str, Path] = {}
        try:
            parents[""] = _made(base / tag)
            _delegate(parents[""])
        except OSError:
            _unmake(parents)
            continue
        return parents
    return None


def _delegate(folder: Path) -> None:
    """Give a version 2 folder's children the controllers that it has itself."""
    given = _words(folder.parent / "cgroup.subtree_control")
    wanted = " ".join(f"+{c}" for c in ("memory", "pids", "cpu") if c in given)
    (folder / "cgroup.subtree_control").write_text(wanted)


def _mounted(mounts: str, kind: str) -> list[tuple[str, Path]]:
    """(super options, mount point) of each mount of file system `kind`."""
    found = []
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == kind:
            found.append((right.split()[-1], Path(left.split()[4])))
    return found


def _memberships(own: str) -> list[tuple[str, str, str]]:
    parts = [line.split(":", 2) for line in own.splitlines()]
    return [(p[0], p[1], p[2]) for p in parts if len(p) == 3]


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    if not os.access(folder / "cgroup.procs", os.W_OK):
        folder.rmdir()
        raise PermissionError(errno.EACCES, "no right to move processes", str(folder))
    return folder


def _unmake(parents: dict[str, Path]) -> None:
    for folder in parents.values():
        with contextlib.suppress(OSError):
            folder.rmdir()
