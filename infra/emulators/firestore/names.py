"""Resource names: what a database, a document and a collection may be called, and their order as bytes.

A path is a tuple of segments: ("rooms", "a") is a document, ("rooms", "a", "seats") a collection. Encoded, paths sort
as Firestore sorts names, and a parent's encoding is a prefix of its descendants'.
"""

import re
import struct
from dataclasses import dataclass

from google.api_core import exceptions

MAX_ID_BYTES = 1500  # cloud.google.com/firestore/quotas#collections_documents_and_fields
_RESERVED = re.compile(r"__.*__", re.DOTALL)
_NUMERIC_ID = re.compile(r"__id(-?\d{1,19})__")

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Name:
    """A document, or with an empty path the root of a database (which is the parent of its first collections)."""

    database: str  # "projects/P/databases/D"
    path: Path

    @property
    def key(self) -> bytes:
        return encode(self.path)

    def __str__(self) -> str:
        return "/".join((self.database, "documents", *self.path))


def database(name: str) -> str:
    """Check "projects/P/databases/D". Raises InvalidArgument."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "projects" or parts[2] != "databases" or not (parts[1] and parts[3]):
        raise exceptions.InvalidArgument(f'Database name "{name}" is not "projects/P/databases/D".')
    return name


def document(name: str, *, writing: bool = False) -> Name:
    """Read a document's name; `writing` also holds the length limit of ids. Raises InvalidArgument."""
    found = parent(name, what="Document name")
    if not found.path:
        raise exceptions.InvalidArgument(f'Document name "{name}" names no document.')
    if writing and any(len(segment.encode()) > MAX_ID_BYTES for segment in found.path):
        raise exceptions.InvalidArgument(f"The key path element name is longer than {MAX_ID_BYTES} bytes.")
    return found


def parent(name: str, *, what: str = "Document parent name") -> Name:
    """Read a document's name or "projects/P/databases/D/documents", the root. Raises InvalidArgument."""
    parts = name.split("/", 5)
    if len(parts) < 5 or parts[0] != "projects" or parts[2] != "databases" or parts[4] != "documents":
        raise exceptions.InvalidArgument(f'{what} "{name}" is not "projects/P/databases/D/documents…".')
    if not (parts[1] and parts[3]):
        raise exceptions.InvalidArgument(f'{what} "{name}" lacks a project or database id.')
    path: Path = tuple(parts[5].split("/")) if len(parts) == 6 else ()
    if len(path) % 2:
        raise exceptions.InvalidArgument(f'{what} "{name}" names a collection where a document is wanted.')
    for index, segment in enumerate(path):
        _check_id(segment, "Resource" if index % 2 else "Collection")
    return Name("/".join(parts[:4]), path)


def collection_id(value: str) -> str:
    """Check one collection id. Raises InvalidArgument."""
    return _check_id(value, "Collection")


def document_id(value: str) -> str:
    """Check one document id. Raises InvalidArgument."""
    return _check_id(value, "Resource")


def _check_id(value: str, kind: str) -> str:
    if not value or value in (".", "..") or "/" in value:
        raise exceptions.InvalidArgument(f'{kind} id "{value}" is invalid: it is empty, ".", ".." or contains "/".')
    if value.startswith("__") and _RESERVED.fullmatch(value) and not _NUMERIC_ID.fullmatch(value) and value != "__":
        raise exceptions.InvalidArgument(f'{kind} id "{value}" is invalid because it is reserved.')
    return value


def encode(path: Path) -> bytes:
    """Bytes that sort as the paths do: segment by segment, numeric ids (`__id7__`) before text."""
    return b"".join([encode_segment(segment) for segment in path])


def encode_segment(segment: str) -> bytes:
    if segment.startswith("__id") and (match := _NUMERIC_ID.fullmatch(segment)):
        return b"\x10" + struct.pack(">Q", (int(match[1]) + 2**63) % 2**64)
    return b"\x20" + segment.encode().replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def first_segment(encoded: bytes) -> tuple[str, bytes]:
    """The first segment of an encoded path, and its encoding."""
    if encoded[0] == 0x10:
        return f"__id{struct.unpack('>Q', encoded[1:9])[0] - 2**63}__", encoded[:9]
    end = encoded.index(b"\x00\x01")
    return encoded[1:end].replace(b"\x00\xff", b"\x00").decode(), encoded[: end + 2]


def after_prefix(prefix: bytes) -> bytes | None:
    """The first bytes that sort after everything that starts with `prefix`; None: there is nothing after."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
