"""The tar format, as POSIX (pax) and GNU tar's sparse files 1.0 have it: members and their headers. Pure.

Paths are bytes, relative, without "." and ".."; times are nanoseconds since the epoch.
"""

import struct
from dataclasses import dataclass

BLOCK = 512
ZEROS = bytes(BLOCK)
END = ZEROS * 2  # without it an archive is not whole
FILE, HARD_LINK, SYMLINK, FOLDER = b"0", b"1", b"2", b"5"
MAX_PATH = 8192  # bytes; the kernel takes 4,096 in one call, a tree may be deeper. Walking "a/a/…" takes 16 MiB then
MAX_SEGMENTS = 65_536  # of one sparse file
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_OWNER = b"0000000\0"  # whoever restores a file owns it
CHECKSUM = slice(148, 156)
_NAME_BYTES = 100
_LARGEST_OCTAL = 0o77777777777
NS = 1_000_000_000
_SHOWN = 400  # bytes

Segment = tuple[int, int]  # where data begins, and how many bytes there are


@dataclass(frozen=True, slots=True)
class Member:
    """One entry. `size` is that of the file; `segments` are the parts of a sparse one that are not holes."""

    path: bytes
    type: bytes
    mode: int
    mtime_ns: int
    size: int = 0
    link: bytes = b""
    segments: tuple[Segment, ...] | None = None


def header(member: Member) -> bytes:
    """What goes before the member's data, which `padding` follows."""
    path, size, before = member.path, member.size, b""
    records = []
    if member.segments is not None:
        before = _map(member.segments)
        size = len(before) + sum(length for _, length in member.segments)
        records += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", path)]
        records.append((b"GNU.sparse.realsize", b"%d" % member.size))
    elif len(path) > _NAME_BYTES or not path.isascii():
        records.append((b"path", path))
    if len(member.link) > _NAME_BYTES or not member.link.isascii():
        records.append((b"linkpath", member.link))
    seconds, ns = divmod(member.mtime_ns, NS)
    if ns or not 0 <= seconds <= _LARGEST_OCTAL:
        records.append((b"mtime", _decimal(member.mtime_ns)))
    if size > _LARGEST_OCTAL:
        records.append((b"size", b"%d" % size))
    if not records:
        return _ustar(member, path, size, seconds) + before
    if not all(_is_utf8(value) for _, value in records):
        records.insert(0, (b"hdrcharset", b"BINARY"))
    body = b"".join(_record(key, value) for key, value in records)
    extended = Member(b"PaxHeader", b"x", 0o644, 0, len(body))
    return (
        b"".join(
            (
                _ustar(extended, extended.path, len(body), 0),
                body,
                padding(len(body)),
                _ustar(member, path, size, seconds),
            )
        )
        + before
    )


def padding(size: int) -> bytes:
    """What fills up the last block of `size` bytes of data."""
    return bytes(-size % BLOCK)


def data_size(member: Member) -> int:
    """How many bytes of the file are in the archive."""
    if member.segments is None:
        return member.size
    return sum(length for _, length in member.segments)


def _ustar(member: Member, path: bytes, size: int, seconds: int) -> bytes:
    name = path[:_NAME_BYTES]
    block = bytearray(
        _HEADER.pack(
            name,
            b"%07o\0" % member.mode,
            _OWNER,
            _OWNER,
            b"%011o\0" % (size if size <= _LARGEST_OCTAL else 0),
            b"%011o\0" % min(max(seconds, 0), _LARGEST_OCTAL),
            b"        ",
            member.type,
            member.link[:_NAME_BYTES],
            b"ustar\0",
            b"00",
            b"",
            b"",
            b"",
            b"",
            b"",
        )
    )
    block[CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def _map(segments: tuple[Segment, ...]) -> bytes:
    text = b"%d\n" % len(segments) + b"".join(b"%d\n%d\n" % segment for segment in segments)
    return text + padding(len(text))


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    size = rest + len(str(rest))
    size = rest + len(str(size))
    return b"%d %s=%s\n" % (size, key, value)


def _decimal(time_ns: int) -> bytes:
    seconds, ns = divmod(abs(time_ns), NS)
    return b"%s%d.%09d" % (b"-" if time_ns < 0 else b"", seconds, ns)


def _is_utf8(value: bytes) -> bool:
    if value.isascii():
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def shown(path: bytes) -> str:
    """A path as a message repeats it."""
    return path[:_SHOWN].decode(errors="backslashreplace") + ("…" if len(path) > _SHOWN else "")
