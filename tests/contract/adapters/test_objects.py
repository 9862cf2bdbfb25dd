"""Objects as the use cases write and read them: through the front of the local stack, and in the fake."""

import base64
import os
import uuid
from collections.abc import AsyncIterator, Iterator

import google_crc32c
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from shared.buckets import Buckets, CloudStorage
from shared.errors import ProviderUnavailable, WorkspaceLost
from shared.objects import PART_BYTES
from tests.contract.storage_rig import Store, running_store
from tests.fakes import MemoryBuckets

MIB = 1 << 20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_store(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture(params=["memory", "fake-gcs-server"])
def buckets(request: pytest.FixtureRequest, store: Store) -> Buckets:
    return MemoryBuckets() if request.param == "memory" else CloudStorage(lambda: store.client, "us-central1")


@pytest.fixture
async def bucket(buckets: Buckets) -> str:
    return await buckets.ensure(f"ws-t{uuid.uuid4().hex[:8]}-me-1756062811", "acme")


async def pieces(content: bytes, size: int = 300_007, fault: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
    if fault:
        raise fault


async def read(buckets: Buckets, bucket: str, name: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in buckets.read(bucket, name, start, length)])


def crc32c(content: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()


@pytest.mark.parametrize("size", [0, 1, MIB, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES])
async def test_what_was_written_is_read(buckets: Buckets, bucket: str, size: int) -> None:
    content = os.urandom(size)
    written = await buckets.write(bucket, "folder/näme", pieces(content))
    assert (written.size_bytes, written.crc32c) == (size, crc32c(content))
    assert await buckets.size(bucket, "folder/näme") == size
    assert await read(buckets, bucket, "folder/näme") == content


async def test_a_part_is_read_alone(buckets: Buckets, bucket: str) -> None:
    content = os.urandom(PART_BYTES + MIB)
    await buckets.write(bucket, "name", pieces(content))
    for start, length in [(0, 1), (5, 10), (PART_BYTES - 5, 10), (len(content) - 1, 10), (3, None), (0, 0)]:
        end = len(content) if length is None else start + length
        assert await read(buckets, bucket, "name", start, length) == content[start:end]
    assert await read(buckets, bucket, "name", len(content)) == b""
    assert await read(buckets, bucket, "name", len(content) + 1, 5) == b""


async def test_an_object_is_replaced_whole(buckets: Buckets, bucket: str) -> None:
    for content in (os.urandom(PART_BYTES + 5), b"short", os.urandom(PART_BYTES + 7)):
        await buckets.write(bucket, "name", pieces(content))
        assert await read(buckets, bucket, "name") == content


@pytest.mark.parametrize("size", [10, 2 * PART_BYTES + 10])
async def test_what_breaks_off_changes_nothing(buckets: Buckets, bucket: str, size: int) -> None:
    await buckets.write(bucket, "old", pieces(b"old"))
    for name in ("old", "new"):
        with pytest.raises(WorkspaceLost):
            await buckets.write(bucket, name, pieces(os.urandom(size), fault=WorkspaceLost("broke off")))
    assert await buckets.list(bucket, "") == [("old", 3)]
    assert await read(buckets, bucket, "old") == b"old"


async def test_objects_are_listed_and_removed(buckets: Buckets, bucket: str) -> None:
    for name in ("a/2", "a/1", "b"):
        await buckets.write(bucket, name, pieces(name.encode()))
    assert await buckets.list(bucket, "a/") == [("a/1", 3), ("a/2", 3)]
    await buckets.remove(bucket, "a/1")
    await buckets.remove(bucket, "a/1")
    assert await buckets.list(bucket, "") == [("a/2", 3), ("b", 1)]


async def test_what_is_not_there_is_nothing(buckets: Buckets, bucket: str) -> None:
    for where in (bucket, "onmemos-no-such-bucket"):
        assert await buckets.size(where, "name") is None
        assert await read(buckets, where, "name") == b""
        assert await read(buckets, where, "name", 5, 10) == b""
        assert await buckets.list(where, "") == []
        await buckets.remove(where, "name")


async def test_what_a_session_wrote_is_read(store: Store) -> None:
    buckets = CloudStorage(lambda: store.client, "us-central1")
    bucket = await buckets.ensure("ws-mount-me-1756062811", "acme")
    content = os.urandom(PART_BYTES + 3)
    (store.root / bucket / "out").write_bytes(content)
    assert await buckets.size(bucket, "out") == len(content)
    assert await read(buckets, bucket, "out", 7, 9) == content[7:16]
    assert await read(buckets, bucket, "out") == content


async def _all_of_the_first(reading: AsyncIterator[bytes]) -> None:
    async for part in reading:
        assert set(part) == {0}


async def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(store: Store) -> None:
    buckets = CloudStorage(lambda: store.client, "us-central1", patience_s=0.2)
    bucket = await buckets.ensure("ws-mix-me-1756062811", "acme")
    await buckets.write(bucket, "name", pieces(bytes(4 * PART_BYTES)))
    reading = buckets.read(bucket, "name")
    assert await anext(reading) == bytes(PART_BYTES)
    await buckets.write(bucket, "name", pieces(b"\1" * (4 * PART_BYTES)))
    with pytest.raises(ProviderUnavailable):
        await _all_of_the_first(reading)


async def test_a_storage_that_does_not_answer_is_unavailable() -> None:
    away = Client("test", credentials=AnonymousCredentials(), client_options={"api_endpoint": "http://127.0.0.1:9"})
    buckets = CloudStorage(lambda: away, "us-central1", patience_s=0.1)
    with pytest.raises(ProviderUnavailable):
        await buckets.write("bucket", "name", pieces(b"x"))
    with pytest.raises(ProviderUnavailable):
        await buckets.write("bucket", "name", pieces(bytes(2 * PART_BYTES)))
    with pytest.raises(ProviderUnavailable):
        await read(buckets, "bucket", "name")
