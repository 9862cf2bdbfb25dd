"""A folder tree by descriptors: each folder is opened step by step from the top, and no link on the way is followed.

So nothing that is done in it can leave it, whatever stands in it and whoever changes it meanwhile; and paths may be
longer than the kernel takes in one call.
"""

import errno
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .tar import MAX_PATH

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_OPEN = 64
_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Folders:
    """The folders below `top`, the latest of which are kept open. Paths are relative; b"" is the top."""

    def __init__(self, top: str) -> None:
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._mounts = _mounts_below(os.fsencode(Path(top).resolve()))
        self._top = os.open(top, FOLDER)
        self._device = os.fstat(self._top).st_dev

    def close(self) -> None:
        """Idempotent."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    def open(self, path: bytes) -> int:
        """Its descriptor, good until many others were opened. Raises OSError."""
        if not path:
            return self._top
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        known = path
        while known and known not in self._open:
            known = known.rpartition(b"/")[0]
        fd = self._open[known] if known else self._top
        at = len(known)
        while at < len(path):
            start = at + 1 if at else 0
            end = path.find(b"/", start)
            at = end if end >= 0 else len(path)
            fd = os.open(path[start:at], FOLDER, dir_fd=fd)
            self._open[path[:at]] = fd
            if len(self._open) > MAX_OPEN:
                os.close(self._open.popitem(last=False)[1])
        return fd

    def forget(self, path: bytes) -> None:
        """It is gone, or is going to be."""
        fd = self._open.pop(path, None)
        if fd is not None:
            os.close(fd)

    def is_mount(self, path: bytes, status: os.stat_result) -> bool:
        """Whether something else is mounted there, such as the session's bucket: that is not the tree's."""
        return status.st_dev != self._device or path in self._mounts


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in a folder; `folder` is that one's descriptor, good until the next entry is asked for."""

    path: bytes
    name: str
    folder: int
    status: os.stat_result


@dataclass(slots=True)
class _Level:
    """A folder that is being walked through. `mode` is what it gets back at the end."""

    path: bytes
    mode: int | None = None
    entered: bool = False
    below: list[str] = field(default_factory=list)


def walk(
    folders: Folders,
    needed: int,
    refused: Callable[[bytes, OSError], None],
    left: Callable[[bytes], None] = lambda path: None,
) -> Iterator[Entry]:
    """Every entry below the top, a folder before what is in it; what is in it follows without a break, then `left`.

    A folder whose owner, who we are, lacks one of the `needed` permissions has them while it is walked through. What
    is closed to us, or deeper than MAX_PATH, is told to `refused`. What vanishes meanwhile is not there. Mounts are
    shown and not entered.
    """
    levels = [_Level(b"")]
    try:
        while levels:
            level = levels[-1]
            if not level.entered:
                level.entered = True
                yield from _within(folders, level, refused)
            elif level.below:
                name = level.below.pop()
                path = _joined(level.path, name)
                try:
                    _check_length(path)
                    folder = folders.open(level.path)
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                except OSError as exc:
                    _unless_gone(path, exc, refused)
                    continue
                yield Entry(path, name, folder, status)
                if stat.S_ISDIR(status.st_mode) and not folders.is_mount(path, status):
                    opened = open_up(name, folder, status, needed)
                    levels.append(_Level(path, stat.S_IMODE(status.st_mode) if opened else None))
            else:
                left(level.path)
                _close_up(folders, level)
                levels.pop()
    finally:
        for level in reversed(levels):
            _close_up(folders, level)


def open_up(name: str, folder: int, status: os.stat_result, needed: int) -> bool:
    """Give the owner, if that is us, the permissions that are needed; whether anything was changed."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & needed == needed or status.st_uid != os.geteuid():
        return False
    if os.access(name, needed >> 6, dir_fd=folder, effective_ids=True):
        return False  # root
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    try:
        os.chmod(f"/proc/self/fd/{fd}", mode | needed)  # noqa: PTH101 - not a path: it cannot be replaced by a link
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _within(folders: Folders, level: _Level, refused: Callable[[bytes, OSError], None]) -> Iterator[Entry]:
    """What is no folder; folders are noted."""
    try:
        folder = folders.open(level.path)
        scanned = os.scandir(folder)
    except OSError as exc:
        _unless_gone(level.path, exc, refused)
        return
    with scanned:
        for item in scanned:
            path = _joined(level.path, item.name)
            try:
                _check_length(path)
                status = item.stat(follow_symlinks=False)
            except OSError as exc:
                _unless_gone(path, exc, refused)
                continue
            if stat.S_ISDIR(status.st_mode):
                level.below.append(item.name)
            else:
                yield Entry(path, item.name, folder, status)


def _close_up(folders: Folders, level: _Level) -> None:
    if level.mode is not None:
        with suppress(OSError):
            os.fchmod(folders.open(level.path), level.mode)


def _check_length(path: bytes) -> None:
    if len(path) > MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def _unless_gone(path: bytes, exc: OSError, refused: Callable[[bytes, OSError], None]) -> None:
    if exc.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # the latter: replaced by something else
        refused(path, exc)


def _joined(folder: bytes, name: str) -> bytes:
    return folder + b"/" + os.fsencode(name) if folder else os.fsencode(name)


def _mounts_below(top: bytes) -> frozenset[bytes]:
    """By their paths from the top: proc_pid_mountinfo(5), the fifth field, in which blanks are octal."""
    with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123 - bytes, not text
        points = [_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), line.split()[4]) for line in file]
    above = top.rstrip(b"/") + b"/"
    return frozenset(point.removeprefix(above) for point in points if point.startswith(above) and point != top)
