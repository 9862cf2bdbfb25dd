"""The work folder as a tar, in pieces; blocks, so it belongs into a thread.

In it: files, folders, links of both kinds, with modes and times to the nanosecond, holes as holes. Not in it: sockets,
pipes and devices; what is mounted in the folder, such as the session's bucket; owners and extended attributes.
"""

import errno
import os
import stat
from collections.abc import Generator, Iterator

from . import tar
from .errors import Unreadable
from .folders import Entry, Folders, open_up, walk
from .tar import Member

CHUNK_BYTES = 131_072
MAX_LINKS = 65_536  # files with several names that are remembered; one more is stored once for each name
MAX_NAMED = 20  # of what cannot be read
_READ_FOLDER, _READ_FILE = 0o500, 0o400
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe that took a file's place does not block
_ZEROS = bytes(CHUNK_BYTES)


class Archive:
    """One passage through the folder `top`, whose `pieces` are asked for once."""

    def __init__(self, top: str) -> None:
        self._folders = Folders(top)
        self._links: dict[tuple[int, int], bytes] = {}

    def close(self) -> None:
        """Idempotent."""
        self._folders.close()

    def check(self) -> None:
        """Raises Unreadable, which names what would be missing."""
        named: list[str] = []
        count = 0

        def refuse(path: bytes, exc: OSError | None = None) -> None:
            nonlocal count
            count += 1
            if len(named) < MAX_NAMED:
                is_long = exc is not None and exc.errno == errno.ENAMETOOLONG
                named.append(tar.shown(path) + (f" ({len(path)} bytes long)" if is_long else ""))

        for entry in walk(self._folders, _READ_FOLDER, refuse):
            if not _readable(entry):
                refuse(entry.path)
        if count:
            raise Unreadable(named, count)

    def pieces(self) -> Generator[bytes, None, None]:
        """The tar. Raises OSError: something that was to be read could not be; what was got is not whole then."""
        begun = bytearray()
        for entry in walk(self._folders, _READ_FOLDER, _raise):
            for piece in self._entry(entry):
                if len(piece) >= CHUNK_BYTES:
                    if begun:
                        yield bytes(begun)
                        begun.clear()
                    yield piece
                else:
                    begun += piece
            if len(begun) >= CHUNK_BYTES:
                yield bytes(begun)
                begun.clear()
        yield bytes(begun + tar.END)

    def _entry(self, entry: Entry) -> Iterator[bytes]:
        mode, mtime_ns = entry.status.st_mode, entry.status.st_mtime_ns
        if stat.S_ISREG(mode):
            yield from self._file(entry)
        elif stat.S_ISDIR(mode):
            yield tar.header(Member(entry.path, tar.FOLDER, stat.S_IMODE(mode), mtime_ns))
        elif stat.S_ISLNK(mode):
            try:
                target = os.fsencode(os.readlink(entry.name, dir_fd=entry.folder))
            except FileNotFoundError:
                return
            yield tar.header(Member(entry.path, tar.SYMLINK, stat.S_IMODE(mode), mtime_ns, link=target))

    def _file(self, entry: Entry) -> Iterator[bytes]:
        try:
            fd = _opened(entry)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # gone, or now a link, or a socket
                return
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return
            # Its mode as it was before it was opened up.
            mode, key = stat.S_IMODE(entry.status.st_mode), (status.st_dev, status.st_ino)
            if status.st_nlink > 1:
                first = self._links.get(key)
                if first is not None:
                    yield tar.header(Member(entry.path, tar.HARD_LINK, mode, status.st_mtime_ns, link=first))
                    return
                if len(self._links) < MAX_LINKS:
                    self._links[key] = entry.path
            segments = _segments(fd, status)
            member = Member(entry.path, tar.FILE, mode, status.st_mtime_ns, status.st_size, b"", segments)
            yield tar.header(member)
            for start, length in ((0, status.st_size),) if segments is None else segments:
                yield from _data(fd, start, length)
            yield tar.padding(tar.data_size(member))
        finally:
            os.close(fd)


def _readable(entry: Entry) -> bool:
    """Ours can be opened up."""
    if not stat.S_ISREG(entry.status.st_mode) or entry.status.st_uid == os.geteuid():
        return True
    return os.access(entry.name, os.R_OK, dir_fd=entry.folder, effective_ids=True)


def _opened(entry: Entry) -> int:
    try:
        return os.open(entry.name, _OPEN, dir_fd=entry.folder)
    except PermissionError:
        if not open_up(entry.name, entry.folder, entry.status, _READ_FILE):
            raise
    fd = os.open(entry.name, _OPEN, dir_fd=entry.folder)
    os.fchmod(fd, stat.S_IMODE(entry.status.st_mode))
    return fd


def _segments(fd: int, status: os.stat_result) -> tuple[tar.Segment, ...] | None:
    """Where a file with holes has data; None for one without."""
    if status.st_blocks * 512 >= status.st_size:
        return None
    found: list[tar.Segment] = []
    at = 0
    try:
        while at < status.st_size and len(found) < tar.MAX_SEGMENTS:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
            found.append((start, min(at, status.st_size) - start))
    except OSError as exc:
        if exc.errno != errno.ENXIO:  # no data behind `at`
            return None  # the file system does not tell
    if len(found) == tar.MAX_SEGMENTS:
        start, _ = found.pop()
        found.append((start, status.st_size - start))
    if found and sum(found[-1]) < status.st_size:
        found.append((status.st_size, 0))  # as GNU tar ends a file that ends in a hole
    return tuple(found) or ((status.st_size, 0),)


def _data(fd: int, at: int, size: int) -> Iterator[bytes]:
    """So many bytes. What the file has lost meanwhile is zeros: its size is already said."""
    end = at + size
    while at < end:
        piece = os.pread(fd, min(CHUNK_BYTES, end - at), at)
        if not piece:
            break
        at += len(piece)
        yield piece
    while at < end:
        piece = _ZEROS[: end - at]
        at += len(piece)
        yield piece


def _raise(path: bytes, exc: OSError) -> None:
    raise exc
