"""CloudStorage against fake-gcs-server, held to what the use cases rely on; the fake is held to the same."""

import uuid
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from shared.buckets import Buckets, CloudStorage
from shared.errors import ProviderUnavailable
from tests.contract.storage_rig import running_store
from tests.fakes import MemoryBuckets


@pytest.fixture
def client(storage_url: str) -> Client:
    return Client("test", credentials=AnonymousCredentials(), client_options={"api_endpoint": storage_url})


@pytest.fixture(params=["memory", "fake-gcs-server"])
def buckets(request: pytest.FixtureRequest, client: Client) -> Buckets:
    return MemoryBuckets() if request.param == "memory" else CloudStorage(lambda: client, "us-central1")


@pytest.fixture
def session_id() -> str:
    return f"ws-t{uuid.uuid4().hex[:8]}-me-1756062811"


async def ours(buckets: Buckets, session_id: str) -> bool:
    return session_id in [found async for found in buckets.session_ids()]


async def test_a_bucket_is_made_found_again_listed_and_deleted(buckets: Buckets, session_id: str) -> None:
    name = await buckets.ensure(session_id)
    assert name == "onmemos-" + session_id.removeprefix("ws-")
    assert await buckets.ensure(session_id) == name
    assert await ours(buckets, session_id)
    await buckets.delete(session_id)
    assert not await ours(buckets, session_id)


async def test_a_bucket_is_known_by_name_while_it_is_there(buckets: Buckets, session_id: str) -> None:
    name = await buckets.ensure(session_id)
    assert await buckets.exists(name)
    await buckets.delete(session_id)
    assert not await buckets.exists(name)


@pytest.mark.parametrize("name", ["no-such-bucket", "a..b"])
async def test_a_name_of_nothing_is_no_bucket(buckets: Buckets, name: str) -> None:
    assert not await buckets.exists(name)


async def test_a_bucket_goes_with_what_a_session_left_in_it(tmp_path: Path, session_id: str) -> None:
    with running_store(tmp_path) as store:
        buckets = CloudStorage(lambda: store.client, "us-central1")
        folder = store.root / await buckets.ensure(session_id)
        (folder / "out" / "empty").mkdir(parents=True)
        (folder / "out" / "result").write_text("x")
        (folder / "link").symlink_to("/etc")
        await buckets.delete(session_id)
        assert not folder.exists()
        assert not await ours(buckets, session_id)


async def test_deleting_twice_is_not_an_error(buckets: Buckets, session_id: str) -> None:
    await buckets.ensure(session_id)
    await buckets.delete(session_id)
    await buckets.delete(session_id)


async def test_a_bucket_goes_with_all_that_is_in_it(client: Client, session_id: str) -> None:
    buckets = CloudStorage(lambda: client, "us-central1")
    bucket = client.bucket(await buckets.ensure(session_id))
    for number in range(30):
        bucket.blob(f"folder/{number}.txt").upload_from_string("x")
    await buckets.delete(session_id)
    assert not await ours(buckets, session_id)


async def test_a_foreign_bucket_is_never_listed(client: Client) -> None:
    client.create_bucket(f"backups-{uuid.uuid4().hex[:8]}")
    client.create_bucket(f"onmemos-assets-{uuid.uuid4().hex[:8]}")
    buckets = CloudStorage(lambda: client, "us-central1")
    assert not [found async for found in buckets.session_ids() if "assets" in found or "backups" in found]


async def test_a_storage_that_does_not_answer_is_unavailable() -> None:
    # Port 9 (discard) of the loopback: nothing listens there, and connecting is refused at once.
    away = Client("test", credentials=AnonymousCredentials(), client_options={"api_endpoint": "http://127.0.0.1:9"})
    with pytest.raises(ProviderUnavailable):
        await CloudStorage(lambda: away, "us-central1", patience_s=0.2).delete("ws-a-b-1756062811")
