"""A bucket for each session: the Protocol, and Cloud Storage behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import requests
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage.retry import DEFAULT_RETRY

from shared import names
from shared.cloud import reason, unavailable
from shared.errors import ProvisioningFailed

if TYPE_CHECKING:
    from google.cloud.storage import Client

SESSION_LABEL = "onmemos-session"
TIMEOUT_S = 30.0
PATIENCE_S = 20.0  # for the client's own retries, 120 s by default: the step is delivered again anyway
DELETED_AT_ONCE = 8  # the client keeps ten connections
PAGE = 1000  # as many as Cloud Storage lists at once: cloud.google.com/storage/docs/json_api/v1/objects/list


@dataclass(frozen=True, slots=True)
class Written:
    """What an object holds now; `crc32c` in base64, as Cloud Storage says it."""

    size_bytes: int
    crc32c: str


class Buckets(Protocol):
    """Every method may raise ProviderUnavailable and can be repeated."""

    async def ensure(self, session_id: str) -> str:
        """Make the session's bucket or find the one that a former try made; its name. Raises ProvisioningFailed."""

    async def delete(self, session_id: str) -> None:
        """Delete the bucket with all that is in it; one that is gone is not an error."""

    async def exists(self, name: str) -> bool:
        """Whether there is such a bucket that this deployment may use."""

    def session_ids(self) -> AsyncIterator[str]:
        """The session ids of all buckets that have a name of ours."""

    async def write(self, bucket: str, name: str, chunks: AsyncIterator[bytes]) -> Written:
        """Write an object, in the place of one that is there: whole or not at all. Raises what `chunks` raises, too."""

    def read(self, bucket: str, name: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """An object's bytes from `start` on, at most `length` of them; none where there is no such object."""

    async def size(self, bucket: str, name: str) -> int | None:
        """An object's size in bytes; None: there is no such object."""

    async def list(self, bucket: str, prefix: str) -> list[tuple[str, int]]:
        """(name, size in bytes) of the objects whose name begins so, by name; none where there is no such bucket."""

    async def remove(self, bucket: str, name: str) -> None:
        """Remove an object; one that is gone is not an error."""


class CloudStorage:
    """The Buckets on Cloud Storage, whose client is synchronous: calls run in threads. `client` is opened once."""

    def __init__(self, client: "Callable[[], Client]", location: str, *, patience_s: float = PATIENCE_S) -> None:
        self._client = client
        self._location = location
        self._wait: dict[str, Any] = {"timeout": TIMEOUT_S, "retry": DEFAULT_RETRY.with_timeout(patience_s)}

    async def ensure(self, session_id: str) -> str:
        name: str = await _in_thread(self._ensure, session_id)
        return name

    async def delete(self, session_id: str) -> None:
        await _in_thread(self._delete, names.bucket_name(session_id))

    async def exists(self, name: str) -> bool:
        found: bool = await _in_thread(self._exists, name)
        return found

    async def session_ids(self) -> AsyncIterator[str]:
        for name in await _in_thread(self._names):
            session_id = names.session_of_bucket(name)
            if session_id is not None:
                yield session_id

    def _ensure(self, session_id: str) -> str:
        client, name = self._client(), names.bucket_name(session_id)
        bucket = client.bucket(name)
        bucket.labels = {SESSION_LABEL: session_id}
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        try:
            client.create_bucket(bucket, location=self._location, **self._wait)
        except exceptions.Conflict:
            if name not in {found.name for found in client.list_buckets(prefix=name, **self._wait)}:
                raise ProvisioningFailed(f"the bucket name {name} is taken by another project") from None
        except (exceptions.BadRequest, exceptions.Forbidden, exceptions.NotFound) as exc:
            raise ProvisioningFailed(f"Cloud Storage refused the bucket {name}: {reason(exc)}") from exc
        return name

    def _exists(self, name: str) -> bool:
        try:
            return bool(self._client().bucket(name).exists(**self._wait))
        except (exceptions.Forbidden, exceptions.BadRequest):
            return False

    def _delete(self, name: str) -> None:
        client = self._client()
        try:
            while True:
                blobs = list(client.list_blobs(name, versions=True, max_results=PAGE, **self._wait))
                if not blobs:
                    break
                with ThreadPoolExecutor(DELETED_AT_ONCE, thread_name_prefix="bucket") as pool:
                    list(pool.map(self._delete_blob, blobs))
            client.bucket(name).delete(**self._wait)
        except exceptions.NotFound:
            return

    def _delete_blob(self, blob: Any) -> None:
        try:
            blob.delete(**self._wait)
        except exceptions.NotFound:
            return  # another try of the same teardown was faster

    def _names(self) -> list[str]:
        found = self._client().list_buckets(
            prefix=names.SERVICE_PREFIX, fields="items/name,nextPageToken", **self._wait
        )
        return [bucket.name for bucket in found]


async def _in_thread(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return await asyncio.to_thread(call, *args)
    except (exceptions.GoogleAPIError, requests.RequestException, GoogleAuthError) as exc:
        raise unavailable("Cloud Storage", exc) from exc
