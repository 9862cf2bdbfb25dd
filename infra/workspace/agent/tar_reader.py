"""A tar taken apart as it comes, in pieces of any size: POSIX (pax), with GNU tar's sparse files 1.0. Pure."""

import re
from collections.abc import Iterator

from .errors import BadArchive
from .tar import (
    BLOCK,
    CHECKSUM,
    END,
    FILE,
    FOLDER,
    HARD_LINK,
    MAX_PATH,
    MAX_SEGMENTS,
    NS,
    SYMLINK,
    ZEROS,
    Member,
    shown,
)

TYPES = frozenset({FILE, HARD_LINK, SYMLINK, FOLDER})
MAX_RECORDS_BYTES = 4 * MAX_PATH  # of one member's extended header
_LARGEST = (1 << 63) - 1  # what the kernel's calls take
_LARGEST_DIGITS = 18
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")


class Reader:
    """Takes an archive apart, piece by piece. `ended`: its two zero blocks were there; what follows them is nothing."""

    def __init__(self) -> None:
        self.ended = False
        self._held = bytearray()  # the begin of what is wanted whole
        self._wanted = BLOCK
        self._take = self._header
        self._zeros = 0
        self._left = self._padding = 0  # of the current member's data
        self._records: dict[bytes, bytes] = {}
        self._member = Member(b"", FILE, 0, 0)  # a sparse file whose map is being read
        self._map = bytearray()
        self._map_lines = 0
        self._after_map = 0  # bytes of the member behind what was read of the map

    def feed(self, data: bytes) -> Iterator[Member | memoryview]:
        """What is in the next piece: members, each followed by its data, in any pieces. Raises BadArchive."""
        view, at, end = memoryview(data), 0, len(data)
        while at < end and not self.ended:
            if self._left:
                size = min(self._left, end - at)
                self._left -= size
                yield view[at : at + size]
            elif self._padding:
                size = min(self._padding, end - at)
                self._padding -= size
            else:
                size = min(self._wanted - len(self._held), end - at)
                self._held += view[at : at + size]
                if len(self._held) == self._wanted:
                    block, self._wanted = bytes(self._held), BLOCK
                    self._held.clear()
                    member = self._take(block)
                    if member is not None:
                        yield member
            at += size

    def _header(self, block: bytes) -> Member | None:
        if block == ZEROS:
            self._zeros += 1
            self.ended = self._zeros == len(END) // BLOCK
            return None
        if self._zeros:
            raise BadArchive("a zero block is followed by something else")
        stored = _number(block[CHECKSUM])
        if stored != sum(block) - sum(block[CHECKSUM]) + len(block[CHECKSUM]) * ord(" "):
            raise BadArchive("a header's check sum is wrong")
        kind, size = block[156:157], _number(block[124:136])
        if kind in (b"x", b"g"):
            self._extend(kind, size)
            return None
        return self._begin(kind.replace(b"\0", FILE), size, block)

    def _extend(self, kind: bytes, size: int) -> None:
        if size > MAX_RECORDS_BYTES:
            raise BadArchive(f"an extended header has {size} bytes; wanted at most {MAX_RECORDS_BYTES}")
        if size:
            self._wanted = size + -size % BLOCK
            self._take = lambda block: self._remember(block[:size], kept=kind == b"x")

    def _remember(self, body: bytes, *, kept: bool) -> None:
        self._take = self._header
        records = dict(_records(body))  # a global header's are about nothing that is restored
        if kept:
            self._records = records

    def _begin(self, kind: bytes, size: int, block: bytes) -> Member | None:
        records, self._records = self._records, {}
        if kind not in TYPES:
            raise BadArchive(f"a member is of type {kind!r}; wanted a file, a folder or a link")
        name, prefix = _text(block[:100]), _text(block[345:500]) if block[257:263] == b"ustar\0" else b""
        path = inside(records.get(b"GNU.sparse.name") or records.get(b"path", prefix + b"/" + name if prefix else name))
        mode = _number(block[100:108]) & 0o7777
        mtime_ns = _time(records[b"mtime"]) if b"mtime" in records else _number(block[136:148]) * NS
        if abs(mtime_ns) > _LARGEST:
            raise BadArchive(f"{shown(path)} has a time that no clock shows")
        if not path and kind != FOLDER:
            raise BadArchive("the work folder itself is not a folder")
        if kind != FILE:
            link = records.get(b"linkpath", _text(block[157:257]))
            if b"\0" in link:
                raise BadArchive(f"{shown(path)} links to {shown(link)}, which no path can be")
            return Member(path, kind, mode, mtime_ns, 0, link)
        size = _decimal_number(records[b"size"]) if b"size" in records else size
        if size > _LARGEST:
            raise BadArchive(f"{shown(path)} has {size} bytes, more than a file can have")
        if b"GNU.sparse.major" not in records:
            self._left, self._padding = size, -size % BLOCK
            return Member(path, kind, mode, mtime_ns, size)
        version = records[b"GNU.sparse.major"], records.get(b"GNU.sparse.minor")
        if version != (b"1", b"0"):
            raise BadArchive(f"{shown(path)} is a sparse file of version {version}; wanted 1.0")
        self._member = Member(path, kind, mode, mtime_ns, _decimal_number(records.get(b"GNU.sparse.realsize", b"")))
        self._map.clear()
        self._map_lines, self._after_map = 0, size
        self._take = self._map_block
        return None

    def _map_block(self, block: bytes) -> Member | None:
        """One more block of a sparse file's map, which goes before its data."""
        one = self._member
        self._map += block
        self._map_lines += block.count(b"\n")
        self._after_map -= BLOCK
        if self._after_map < 0:
            raise BadArchive(f"the map of {shown(one.path)} is longer than its data")
        count = _decimal_number(bytes(self._map[: self._map.find(b"\n")]))
        if count > MAX_SEGMENTS:
            raise BadArchive(f"{shown(one.path)} has {count} segments; wanted at most {MAX_SEGMENTS}")
        if self._map_lines < 1 + 2 * count:
            if len(self._map) > (1 + 2 * count) * (_LARGEST_DIGITS + 1):
                raise BadArchive(f"the map of {shown(one.path)} has numbers that are none")
            return None
        numbers = [_decimal_number(number) for number in bytes(self._map).split(b"\n")[1 : 1 + 2 * count]]
        segments = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        at = 0
        for start, length in segments:
            if start < at or start + length > one.size:
                raise BadArchive(f"the map of {shown(one.path)} does not fit the file")
            at = start + length
        if sum(numbers[1::2]) != self._after_map:
            raise BadArchive(f"the map of {shown(one.path)} does not fit its data")
        self._left, self._padding = self._after_map, -self._after_map % BLOCK
        self._take = self._header
        return Member(one.path, one.type, one.mode, one.mtime_ns, one.size, b"", segments)


def inside(path: bytes) -> bytes:
    """The path as it is wanted; b"" for the top itself. Raises BadArchive for one that leads elsewhere."""
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if len(path) > MAX_PATH:
        raise BadArchive(f"a path has {len(path)} bytes; wanted at most {MAX_PATH}")
    if path.startswith(b"/") or b".." in parts or b"\0" in path:
        raise BadArchive(f"the path {shown(path)} leads out of the work folder")
    return b"/".join(parts)


def _records(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + 20)
        size = _decimal_number(body[at:space]) if space > 0 else 0
        key, equals, value = body[space + 1 : at + size].partition(b"=")
        if space < 0 or not equals or at + size > len(body) or not value.endswith(b"\n"):
            raise BadArchive("an extended header is broken")
        yield key, value[:-1]
        at += size


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU tar's, for what octal digits cannot say
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:])
    found = _OCTAL.fullmatch(field)
    if found is None:
        raise BadArchive(f"a header has the number {field!r}")
    return int(found[1] or b"0", 8)


def _decimal_number(text: bytes) -> int:
    if not text.isdigit() or len(text) > _LARGEST_DIGITS:
        raise BadArchive(f"an extended header has the number {text[:20]!r}")
    return int(text)


def _time(text: bytes) -> int:
    """Nanoseconds, of a decimal number of seconds."""
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    ns = _decimal_number(whole) * NS + _decimal_number((fraction or b"0")[:9].ljust(9, b"0"))
    return -ns if text.startswith(b"-") else ns
