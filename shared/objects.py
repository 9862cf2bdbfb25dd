"""Objects in Cloud Storage's buckets, streamed: parts go through threads, one at a time for each stream."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google_crc32c
import requests
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from shared.cloud import unavailable
from shared.errors import ProviderUnavailable
from shared.parts import parts

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

TIMEOUT_S = 30.0
PART_BYTES = 8 << 20  # a multiple of 256 KiB: cloud.google.com/storage/docs/performing-resumable-uploads
FAILURES = (exceptions.GoogleAPIError, requests.RequestException, GoogleAuthError, InvalidResponse, DataCorruption)
TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Written:
    """What an object holds now; `crc32c` in base64, as Cloud Storage says it."""

    size_bytes: int
    crc32c: str


class CloudObjects:
    """The objects' part of the Buckets. `patience_s` bounds the client's own retries of one call."""

    def __init__(self, client: "Callable[[], Client]", patience_s: float) -> None:
        self._client = client
        self._wait: dict[str, Any] = {"timeout": TIMEOUT_S, "retry": DEFAULT_RETRY.with_timeout(patience_s)}

    async def write(self, bucket: str, name: str, chunks: AsyncIterator[bytes]) -> Written:
        size, checksum = 0, google_crc32c.Checksum()
        writer = None
        async with aclosing(parts(chunks, PART_BYTES)) as stream:
            try:
                async for part, is_last in stream:
                    size += len(part)
                    checksum.update(part)
                    if writer is None:
                        blob = self._client().bucket(bucket).blob(name)
                        if is_last:
                            await in_thread(self._write_whole, blob, part)
                            break
                        writer = blob.open("wb", PART_BYTES, content_type=TYPE, checksum="crc32c", **self._wait)
                    await in_thread(writer.write, part)
                    if is_last:
                        await in_thread(writer.close)
            except Exception:
                if writer is not None:
                    with suppress(ProviderUnavailable):  # Cloud Storage itself forgets it after a week
                        await in_thread(writer.terminate)
                raise
        return Written(size, base64.b64encode(checksum.digest()).decode())

    async def read(self, bucket: str, name: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        if length == 0:
            return
        blob = await in_thread(self._found, bucket, name)
        if blob is None:
            return
        end = blob.size if length is None else min(blob.size, start + length)
        if start >= end:
            return
        pending = self._fetch(blob, start, end)
        try:
            for at in range(start + PART_BYTES, end, PART_BYTES):
                part = await pending
                pending = self._fetch(blob, at, end)
                yield part
            yield await pending
        finally:
            pending.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await pending

    async def size(self, bucket: str, name: str) -> int | None:
        blob = await in_thread(self._found, bucket, name)
        return None if blob is None else int(blob.size)

    def _list(self, bucket: str, prefix: str) -> list[tuple[str, int]]:
        fields = "items(name,size),nextPageToken"
        try:
            found = self._client().list_blobs(bucket, prefix=prefix, fields=fields, **self._wait)
            return sorted((blob.name, int(blob.size)) for blob in found)
        except exceptions.NotFound:
            return []

    async def list(self, bucket: str, prefix: str) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = await in_thread(self._list, bucket, prefix)
        return found

    async def remove(self, bucket: str, name: str) -> None:
        await in_thread(self._remove, bucket, name)

    def _write_whole(self, blob: "Blob", content: bytes) -> None:
        blob.upload_from_string(content, content_type=TYPE, checksum="crc32c", **self._wait)

    def _found(self, bucket: str, name: str) -> "Blob | None":
        return self._client().bucket(bucket).get_blob(name, **self._wait)

    def _fetch(self, blob: "Blob", start: int, end: int) -> "asyncio.Task[bytes]":
        """The part from there on. Of the object as it was found: one that was replaced meanwhile is not mixed in."""
        last = min(start + PART_BYTES, end) - 1

        def fetch() -> bytes:
            part: bytes = blob.download_as_bytes(
                start=start, end=last, raw_download=True, if_generation_match=blob.generation, **self._wait
            )
            if len(part) != last + 1 - start:
                raise ProviderUnavailable(f"{blob.name}: got {len(part)} bytes, wanted {last + 1 - start} at {start}")
            return part

        return asyncio.ensure_future(in_thread(fetch))

    def _remove(self, bucket: str, name: str) -> None:
        with suppress(exceptions.NotFound):
            self._client().bucket(bucket).blob(name).delete(**self._wait)


async def in_thread(call: Callable[..., Any], *args: Any) -> Any:
    """Raises ProviderUnavailable for whatever the client raises that the call has not taken care of."""
    try:
        return await asyncio.to_thread(call, *args)
    except FAILURES as exc:
        raise unavailable("Cloud Storage", exc) from exc
