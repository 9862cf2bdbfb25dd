"""A tar into the work folder, piece by piece; blocks, so it belongs into a thread.

Whatever the tar says, nothing is made or changed outside: no link is followed on the way to a member. Links are made
as they are, wherever they point. Modes are kept whole; owners are ours.
"""

import errno
import os
import stat
from contextlib import suppress

from . import tar
from .errors import BadArchive, Full
from .folders import Folders, walk
from .tar import Member, shown
from .tar_reader import Reader, inside

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_OURS = frozenset({errno.EEXIST, errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG})
_NO_LINK = frozenset({errno.EPERM, errno.EXDEV, errno.EMLINK})  # as of a folder, or of what is mounted
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNER = 0o700
_PASSES = 3


class Extraction:
    """Empties the folder `top` and then takes the tar. Close it at the end."""

    def __init__(self, top: str) -> None:
        self._folders = Folders(top)
        self._reader = Reader()
        self._file = -1
        self._member = Member(b"", tar.FILE, 0, 0)
        self._left: list[tuple[int, int]] = []  # where the current file's data goes, the last part first
        self._unfinished: list[Member] = []  # folders that members still go into
        self._closed: list[tuple[bytes, int]] = []  # modes that would keep us out before the end
        try:
            _empty(self._folders)
        except BaseException:
            self._folders.close()
            raise

    def feed(self, data: bytes) -> None:
        """Take the next piece. Raises BadArchive, Full, OSError; there is no going on then."""
        try:
            for event in self._reader.feed(data):
                if isinstance(event, Member):
                    self._finish_file()
                    self._begin(event)
                else:
                    self._write(event)
        except OSError as exc:
            raise _translated(exc, self._member) from exc

    def finish(self) -> None:
        """After the last piece. Raises BadArchive: that was not all."""
        if not self._reader.ended:
            raise BadArchive("the archive breaks off; wanted two zero blocks at its end")
        try:
            self._finish_file()
            self._finish_folders(b"")
            for path, mode in self._closed:  # what is in a folder before the folder
                os.fchmod(self._folders.open(path), mode)
        except OSError as exc:
            raise _translated(exc, self._member) from exc

    def close(self) -> None:
        """Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._folders.close()

    def _begin(self, member: Member) -> None:
        self._member = member
        if not member.path:
            return  # the work folder itself: its mode and time are the platform's
        self._finish_folders(member.path)
        folder, _, name = member.path.rpartition(b"/")
        parent = self._parent(folder)
        if member.type == tar.FOLDER:
            self._make_folder(member, parent, name)
        elif member.type == tar.SYMLINK:
            os.symlink(member.link, name, dir_fd=parent)
            with suppress(NotImplementedError):
                os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)
        elif member.type == tar.HARD_LINK:
            source, _, known = inside(member.link).rpartition(b"/")
            held = os.dup(self._folders.open(source))
            try:
                os.link(known, name, src_dir_fd=held, dst_dir_fd=self._parent(folder), follow_symlinks=False)
            finally:
                os.close(held)
        else:
            self._file = os.open(name, _CREATE, 0o600, dir_fd=parent)
            segments = ((0, member.size),) if member.segments is None else member.segments
            self._left = list(reversed(segments))
            if member.segments is not None:
                os.ftruncate(self._file, member.size)

    def _parent(self, folder: bytes) -> int:
        """Made, with those above it, where the tar has not said how."""
        with suppress(FileNotFoundError):
            return self._folders.open(folder)
        at = 0
        while at < len(folder):
            end = folder.find(b"/", at)
            end = len(folder) if end < 0 else end
            with suppress(FileExistsError):
                os.mkdir(folder[at:end], 0o755, dir_fd=self._folders.open(folder[: max(at - 1, 0)]))
            at = end + 1
        return self._folders.open(folder)

    def _make_folder(self, member: Member, parent: int, name: bytes) -> None:
        try:
            os.mkdir(name, _OWNER, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                raise
            if self._folders.is_mount(member.path, status):
                return
        self._unfinished.append(member)

    def _write(self, data: memoryview) -> None:
        while data:
            start, length = self._left.pop()
            size = os.pwrite(self._file, data[:length], start) if length else 0
            if size < length:
                self._left.append((start + size, length - size))
            data = data[size:]

    def _finish_file(self) -> None:
        if self._file < 0:
            return
        member = self._member
        os.fchmod(self._file, member.mode)
        os.utime(self._file, ns=(member.mtime_ns, member.mtime_ns))
        os.close(self._file)
        self._file = -1

    def _finish_folders(self, path: bytes) -> None:
        """Of those that the member at `path` is not in, set what its making would have changed."""
        while self._unfinished and not path.startswith(self._unfinished[-1].path + b"/"):
            member = self._unfinished.pop()
            fd = self._folders.open(member.path)
            if member.mode & _OWNER == _OWNER:
                os.fchmod(fd, member.mode)
            else:
                self._closed.append((member.path, member.mode))
            os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))


def _empty(folders: Folders) -> None:
    """All but what is mounted there. More than once, as a folder may be read while it changes."""

    def remove_folder(path: bytes) -> None:
        if path:
            above, _, name = path.rpartition(b"/")
            folders.forget(path)
            with suppress(OSError):
                os.rmdir(name, dir_fd=folders.open(above))

    def refuse(path: bytes, exc: OSError) -> None:
        raise exc

    for _ in range(_PASSES):
        found = False
        for entry in walk(folders, _OWNER, refuse, remove_folder):
            if not stat.S_ISDIR(entry.status.st_mode):
                os.unlink(entry.name, dir_fd=entry.folder)
                found = True
        if not found:
            return


def _translated(exc: OSError, member: Member) -> Exception:
    where = shown(member.path)
    if exc.errno in _NO_SPACE:
        return Full(f"no space left in the workspace for {where}, {member.size} bytes ({exc.strerror})")
    if exc.errno in _NOT_OURS or (member.type == tar.HARD_LINK and exc.errno in _NO_LINK):
        return BadArchive(f"{where} cannot be made ({exc.strerror})")
    return exc
