"""Resumable uploads: cloud.google.com/storage/docs/performing-resumable-uploads.

fake-gcs-server copies all that it has of an upload with each of its parts, and hashes it in between: it takes seconds
for 100 MB. Here a part is appended to a file beside the buckets, and the file is renamed into its bucket at the end.
What of the API is not known here is fake-gcs-server's.
"""

import asyncio
import base64
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c

from infra.emulators.buckets.folder import DEFAULT_TYPE, LONGEST_NAME, Folder, Object

ID = "onmemos-"  # what our uploads' ids begin with
MOST = 256  # that are known at once; the oldest is forgotten
WRITTEN_BYTES = 1 << 20  # at once
QUERY = frozenset({"uploadType", "name", "alt", "prettyPrint", "ifGenerationMatch"})
_FIELDS = {
    "contentType": "ContentType",
    "cacheControl": "CacheControl",
    "contentDisposition": "ContentDisposition",
    "contentEncoding": "ContentEncoding",
    "contentLanguage": "ContentLanguage",
    "metadata": "Metadata",
}
_SUMS = {"crc32c": "crc32c", "md5Hash": "md5"}
_IGNORED = frozenset({"name", "bucket", "kind", "size"})
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class BadUpload(Exception):
    """A request that cannot be served; the message says why."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class Upload:
    """`described` is what will be stored about the object, `wanted` its sums where the client has said them."""

    bucket: str
    name: str
    file: Path
    described: dict[str, Any]
    wanted: dict[str, str]
    generation_match: int | None
    received: int = 0
    crc32c: google_crc32c.Checksum = field(default_factory=google_crc32c.Checksum)
    md5: "hashlib._Hash" = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def append(self, data: bytes) -> None:
        with self.file.open("ab") as file:
            file.write(data)
        self.crc32c.update(data)
        self.md5.update(data)
        self.received += len(data)

    def sums(self) -> dict[str, str]:
        digests = {"crc32c": self.crc32c.digest(), "md5": self.md5.digest()}
        return {name: base64.b64encode(digest).decode() for name, digest in digests.items()}


class Uploads:
    """Those that are not complete have their files in `parts`, which is on the buckets' file system."""

    def __init__(self, parts: Path) -> None:
        self._parts = parts
        self._uploads: dict[str, Upload] = {}
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(mode=0o700)

    def close(self) -> None:
        shutil.rmtree(self._parts, ignore_errors=True)

    def begin(self, bucket: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> str | None:
        """A new upload's id; None for one that is not for us."""
        try:
            document = json.loads(body or b"{}")
        except ValueError:
            return None
        if not isinstance(document, dict) or not set(query) <= QUERY or any("encryption" in name for name in headers):
            return None
        if not set(document) <= {*_FIELDS, *_SUMS, *_IGNORED}:
            return None
        name = query.get("name") or document.get("name")
        generation = query.get("ifGenerationMatch", "")
        if not _is_plain(name) or not (generation.isdigit() or not generation):
            return None
        described = {theirs: document[ours] for ours, theirs in _FIELDS.items() if document.get(ours)}
        described.setdefault("ContentType", headers.get("x-upload-content-type") or DEFAULT_TYPE)
        upload_id = f"{ID}{secrets.token_hex(16)}"
        wanted = {theirs: document[ours] for ours, theirs in _SUMS.items() if document.get(ours)}
        match = int(generation) if generation else None
        self._uploads[upload_id] = Upload(bucket, str(name), self._parts / upload_id, described, wanted, match)
        (self._parts / upload_id).touch()
        for old in list(self._uploads)[:-MOST]:
            self.cancel(old)
        return upload_id

    def cancel(self, upload_id: str) -> None:
        """Raises BadUpload."""
        self._found(upload_id).file.unlink(missing_ok=True)
        del self._uploads[upload_id]

    async def take(
        self, upload_id: str, headers: Mapping[str, str], body: AsyncIterator[bytes], folder: Folder
    ) -> tuple[Object | None, int]:
        """One part; the object, once that was the last one, and how many bytes there are. Raises BadUpload."""
        upload = self._found(upload_id)
        async with upload.lock:
            start, total = _announced(headers.get("content-range"))
            if start is not None:
                await self._append(upload, start, body)
            elif headers.get("content-range") is None:
                await self._append(upload, 0, body)
                total = upload.received
            if total is None or upload.received < total:
                return None, upload.received
            made = await asyncio.to_thread(self._finish, upload, headers.get("x-goog-hash", ""), folder)
            self._uploads.pop(upload_id, None)
            return made, upload.received

    async def _append(self, upload: Upload, start: int, body: AsyncIterator[bytes]) -> None:
        """What is there already is not taken again."""
        if start > upload.received:
            raise BadUpload(400, "invalid", f"the part begins at {start}, and {upload.received} bytes were uploaded")
        known = upload.received - start
        gathered = bytearray()
        try:
            async for chunk in body:
                gathered += chunk[known:]
                known = max(known - len(chunk), 0)
                if len(gathered) >= WRITTEN_BYTES:
                    await asyncio.to_thread(upload.append, bytes(gathered))
                    gathered.clear()
        finally:
            await asyncio.to_thread(upload.append, bytes(gathered))

    def _finish(self, upload: Upload, hashes: str, folder: Folder) -> Object:
        sums = upload.sums()
        wanted = upload.wanted | dict(one.strip().split("=", 1) for one in hashes.split(",") if "=" in one)
        for name, seen in sums.items():
            if wanted.get(name, seen) != seen:
                raise BadUpload(400, "invalid", f"{name}: the object has {seen}; wanted {wanted[name]}")
        current = folder.object(upload.name)
        generation = current.generation if current else 0
        if upload.generation_match not in (None, generation):
            detail = f"the generation is {generation}; wanted {upload.generation_match}"
            raise BadUpload(412, "conditionNotMet", detail)
        return folder.take(upload.file, upload.name, upload.described, sums["crc32c"], sums["md5"])

    def _found(self, upload_id: str) -> Upload:
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise BadUpload(404, "notFound", f"there is no upload {upload_id}")
        return upload


def _announced(content_range: str | None) -> tuple[int | None, int | None]:
    """Where a part begins, and the object's whole size; None: that is not said."""
    if content_range is None:
        return None, None
    found = _RANGE.fullmatch(content_range)
    if found is None:
        raise BadUpload(400, "invalid", f"Content-Range: got '{content_range}', wanted bytes FIRST-LAST/TOTAL")
    return int(found[1]) if found[1] else None, int(found[3]) if found[3] != "*" else None


def _is_plain(name: Any) -> bool:
    """Whether it can be a path of folders and a file."""
    if not isinstance(name, str) or "\0" in name or len(name.encode(errors="replace")) > LONGEST_NAME:
        return False
    return not {"", ".", ".."} & set(name.split("/"))
