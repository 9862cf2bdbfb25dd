"""A bucket's folder. Its regular files are its objects, whether fake-gcs-server wrote them or a session did.

fake-gcs-server keeps an object's attributes as JSON in an extended attribute of the file, and knows no file without it.
`Folder.settle` writes it for a file that a session made, and corrects it for one that a session changed. What was
described is told by a stamp in another attribute: a file whose stamp is not its own was written since.

What a session leaves in a bucket may be anything: no link is followed here, and nothing but regular files is opened.
"""

import base64
import contextlib
import errno
import hashlib
import json
import mimetypes
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c

from infra.emulators.buckets import attributes

DESCRIPTION = "user.metadata"  # fake-gcs-server's
STAMP = "user.onmemos.described"
LONGEST_NAME = 1024  # bytes: cloud.google.com/storage/docs/objects#naming
DEFAULT_TYPE = "application/octet-stream"
NEVER = "0001-01-01T00:00:00Z"  # Go's zero time
TRIES = 3  # for a file that is written while it is read
_CHUNK = 1 << 20
# fake-gcs-server tries whether it can rename into a folder with an empty file that is there for an instant.
_TRIAL = re.compile(r"\..+\d{6,}")


@dataclass(frozen=True, slots=True)
class Object:
    """One object as listings show it. `described`: what is stored about it, {} where that is not of this content."""

    name: str
    size_bytes: int
    updated: datetime
    generation: int
    described: dict[str, Any]


class Folder:
    """The folder of one bucket; all of it blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __bool__(self) -> bool:
        return self._path.is_dir() and not self._path.is_symlink()

    def objects(self, prefix: str = "") -> list[Object]:
        """Those whose names begin so, in the order of their names' bytes. What vanishes meanwhile is left out."""
        # Only the folder that the prefix lies in is looked through.
        files = self._files(prefix.rpartition("/")[0])
        found = [one for name, fd in files if name.startswith(prefix) and (one := _shown(name, fd))]
        return sorted(found, key=lambda one: one.name.encode())

    def settle(self, name: str) -> bool:
        """Describe the object as it is now; False: there is no such object. Raises OSError."""
        try:
            fd = self._opened(name)
        except (OSError, ValueError):
            return False
        with contextlib.closing(os.fdopen(fd, "rb", buffering=0)):
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return False
            _describe(fd, name)
        return True

    def object(self, name: str) -> Object | None:
        """None where there is none. What is not described yet is shown as listings do."""
        try:
            fd = self._opened(name)
        except (OSError, ValueError):
            return None
        try:
            return _shown(name, fd) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        finally:
            os.close(fd)

    def take(self, file: Path, name: str, described: dict[str, Any], crc32c: str, md5: str) -> Object:
        """Make an object of a file on this file system, whose sums are known; what was there is replaced.

        Raises OSError: something else than a folder is where one is needed, or a folder where the object goes.
        """
        with file.open("rb") as content:
            fd = content.fileno()
            os.fchmod(fd, 0o644)
            status = os.fstat(fd)
            attributes.write(fd, DESCRIPTION, json.dumps(_description(described, name, status, crc32c, md5)).encode())
            attributes.write(fd, STAMP, _stamp_of(status))
            *folders, last = name.split("/")
            folder_fd = self._entered(folders, make=True)
            try:
                os.rename(file, last, dst_dir_fd=folder_fd)  # a link there is replaced, not followed
            finally:
                os.close(folder_fd)
            self.hand_over(name)
            made = _shown(name, fd)
        if made is None:
            raise OSError(errno.EINVAL, "it is named as fake-gcs-server's trials are", name)
        return made

    def hand_over(self, name: str) -> None:
        """Give the object, and the folders it lies in, to the owner of the bucket's folder, who has it mounted."""
        status = self._path.stat()
        if status.st_uid == os.geteuid():
            return
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            with contextlib.suppress(OSError):
                path = self._path.joinpath(*parts[:depth])
                os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)

    def clear(self) -> bool:
        """Remove what is no object, such as links and empty folders; False, and nothing done: there are objects."""
        if self.objects():
            return False
        for entry in list(os.scandir(self._path)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()
        return True

    def _files(self, within: str) -> Iterator[tuple[str, int]]:
        """Each file below `within` that can be an object, by name, and open until the next one is asked for."""
        try:
            top = self._entered(within.split("/") if within else [])
        except (OSError, ValueError):
            return
        try:
            for place, folders, files, folder_fd in os.fwalk(".", dir_fd=top):
                for name in folders:
                    _open_up(name, folder_fd)
                for name in files:
                    full = "/".join(filter(None, (within, place.removeprefix(".").removeprefix("/"), name)))
                    with contextlib.suppress(OSError, ValueError):
                        if len(full.encode()) <= LONGEST_NAME:  # UnicodeEncodeError: not UTF-8
                            fd = _open_file(name, folder_fd)
                            try:
                                yield full, fd
                            finally:
                                os.close(fd)
        finally:
            os.close(top)

    def _opened(self, name: str) -> int:
        """Raises OSError, ValueError: there is no such file, or a link in its path."""
        *folders, last = name.split("/")
        folder_fd = self._entered(folders)
        try:
            return _open_file(last, folder_fd)
        finally:
            os.close(folder_fd)

    def _entered(self, folders: list[str], *, make: bool = False) -> int:
        """A folder below, opened step by step; `make` those that are missing. Raises OSError, ValueError."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._path, flags)
        try:
            for folder in folders:
                if folder in ("", ".", ".."):
                    raise ValueError(f"{folder!r} is not a folder's name")
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=fd)
                _open_up(folder, fd)
                outer, fd = fd, os.open(folder, flags, dir_fd=fd)
                os.close(outer)
        except BaseException:
            os.close(fd)
            raise
        return fd


def _open_file(name: str, folder_fd: int) -> int:
    """Also one that the session closed to its owner, who is us where we are not root. A pipe does not block."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{name!r} is not a regular file")
    if os.geteuid() != 0 and status.st_mode & 0o600 != 0o600:
        os.chmod(name, stat.S_IMODE(status.st_mode) | 0o600, dir_fd=folder_fd)
    return os.open(name, flags, dir_fd=folder_fd)


def _open_up(name: str, folder_fd: int) -> None:
    """Likewise a folder in a folder."""
    if os.geteuid() != 0:
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o700 != 0o700:
                os.chmod(name, stat.S_IMODE(status.st_mode) | 0o700, dir_fd=folder_fd)


def _shown(name: str, fd: int) -> Object | None:
    status = os.fstat(fd)
    if not status.st_size and _TRIAL.fullmatch(name.rpartition("/")[2]):
        return None
    described = _described(fd)
    if not described or _stamp(fd) != _stamp_of(status):
        kept = ("ContentType", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "Metadata")
        described = {key: described[key] for key in kept if key in described}
    updated = datetime.fromtimestamp(status.st_mtime, UTC)
    generation = int(described.get("Generation") or status.st_mtime_ns // 1000)
    return Object(name, status.st_size, updated, generation, described or {"ContentType": _type_of(name)})


def _describe(fd: int, name: str) -> None:
    for _ in range(TRIES):
        status = os.fstat(fd)
        if _described(fd) and _stamp(fd) == _stamp_of(status):
            return
        crc32c, md5 = _sums(fd)
        if _stamp_of(os.fstat(fd)) == _stamp_of(status):
            break
    attributes.write(fd, DESCRIPTION, json.dumps(_description(_described(fd), name, status, crc32c, md5)).encode())
    attributes.write(fd, STAMP, _stamp_of(status))


def _description(known: dict[str, Any], name: str, status: os.stat_result, crc32c: str, md5: str) -> dict[str, Any]:
    """As fake-gcs-server writes it; what is `known` of the content before stays as far as it is not about bytes."""
    if known.get("Md5Hash") == md5 and known.get("Crc32c") == crc32c:
        return known
    changed = datetime.fromtimestamp(status.st_mtime, UTC).isoformat().replace("+00:00", "Z")
    fresh = {
        "StorageClass": "STANDARD",
        "ContentType": _type_of(name),
        "ACL": [{"Entity": "projectOwner-test-project", "Role": "OWNER"}],
        "Metadata": None,
        "Created": changed,
        "Deleted": NEVER,
        "CustomTime": NEVER,
    }
    of_content = {
        "Crc32c": crc32c,
        "Md5Hash": md5,
        "Etag": md5,
        "Updated": changed,
        "Generation": status.st_mtime_ns // 1000,
    }
    return {**fresh, **known, **of_content}


def _described(fd: int) -> dict[str, Any]:
    """What is stored about the file; {} where that is nothing, or not fake-gcs-server's: a session may write it too."""
    try:
        found = json.loads(attributes.read(fd, DESCRIPTION))
    except (OSError, ValueError):
        return {}
    texts = ("ContentType", "Crc32c", "Md5Hash", "Etag", "Created", "Updated")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in texts):
        return {}
    pairs = found.get("Metadata")
    good = pairs is None or (isinstance(pairs, dict) and all(isinstance(value, str) for value in pairs.values()))
    return found if good and isinstance(found.get("Generation"), int) else {}


def _stamp(fd: int) -> bytes:
    try:
        return attributes.read(fd, STAMP)
    except OSError:
        return b""


def _stamp_of(status: os.stat_result) -> bytes:
    return f"{status.st_mtime_ns} {status.st_size}".encode()


def _sums(fd: int) -> tuple[str, str]:
    """CRC32C and MD5 of the content, as Cloud Storage writes them."""
    crc32c, md5, offset = google_crc32c.Checksum(), hashlib.md5(usedforsecurity=False), 0
    while chunk := os.pread(fd, _CHUNK, offset):
        crc32c.update(chunk)
        md5.update(chunk)
        offset += len(chunk)
    return base64.b64encode(crc32c.digest()).decode(), base64.b64encode(md5.digest()).decode()


def _type_of(name: str) -> str:
    return mimetypes.guess_type(name)[0] or DEFAULT_TYPE
