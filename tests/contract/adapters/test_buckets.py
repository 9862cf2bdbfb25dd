"""CloudStorage against fake-gcs-server, held to what the use cases rely on; the fake is held to the same."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Bucket, Client

from shared.buckets import Buckets, CloudStorage
from shared.errors import ProviderUnavailable, ProvisioningFailed
from tests.contract.storage_rig import Store, running_store
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
    name = await buckets.ensure(session_id, "acme")
    assert name == "onmemos-" + session_id.removeprefix("ws-")
    assert await buckets.ensure(session_id, "acme") == name
    assert await ours(buckets, session_id)
    await buckets.delete(session_id)
    assert not await ours(buckets, session_id)


async def test_a_bucket_is_known_by_name_while_it_is_there(buckets: Buckets, session_id: str) -> None:
    name = await buckets.ensure(session_id, "acme")
    assert await buckets.exists(name)
    await buckets.delete(session_id)
    assert not await buckets.exists(name)


@pytest.mark.parametrize("name", ["no-such-bucket", "a..b"])
async def test_a_name_of_nothing_is_no_bucket(buckets: Buckets, name: str) -> None:
    assert not await buckets.exists(name)


async def test_a_bucket_goes_with_what_a_session_left_in_it(tmp_path: Path, session_id: str) -> None:
    with running_store(tmp_path) as store:
        buckets = CloudStorage(lambda: store.client, "us-central1")
        folder = store.root / await buckets.ensure(session_id, "acme")
        (folder / "out" / "empty").mkdir(parents=True)
        (folder / "out" / "result").write_text("x")
        (folder / "link").symlink_to("/etc")
        await buckets.delete(session_id)
        assert not folder.exists()
        assert not await ours(buckets, session_id)


async def test_deleting_twice_is_not_an_error(buckets: Buckets, session_id: str) -> None:
    await buckets.ensure(session_id, "acme")
    await buckets.delete(session_id)
    await buckets.delete(session_id)


async def test_a_bucket_goes_with_all_that_is_in_it(client: Client, session_id: str) -> None:
    buckets = CloudStorage(lambda: client, "us-central1")
    bucket = client.bucket(await buckets.ensure(session_id, "acme"))
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


ACCOUNT = "onmemos-ws-{tenant}@test.iam.gserviceaccount.com"
OBJECT_USER = "roles/storage.objectUser"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with running_store(tmp_path) as store:
        yield store


def roles(store: Store, bucket: str) -> dict[str, set[str]]:
    """The members by role, as the bucket's policy has them."""
    policy = store.client.bucket(bucket).get_iam_policy(requested_policy_version=3)
    return {binding["role"]: binding["members"] for binding in policy.bindings if not binding.get("condition")}


async def test_a_tenants_account_is_let_into_its_sessions_bucket_alone(store: Store, session_id: str) -> None:
    buckets = CloudStorage(lambda: store.client, "us-central1", ACCOUNT)
    project = store.client.create_bucket("project-datasets").name
    before = roles(store, project)
    name = await buckets.ensure(session_id, "acme")
    assert roles(store, name) == {
        **before,
        OBJECT_USER: {"serviceAccount:onmemos-ws-acme@test.iam.gserviceaccount.com"},
    }
    assert roles(store, project) == before


async def test_where_workspaces_have_no_account_nobody_is_let_in(store: Store, session_id: str) -> None:
    name = await CloudStorage(lambda: store.client, "us-central1").ensure(session_id, "acme")
    assert OBJECT_USER not in roles(store, name)


async def test_a_try_that_died_between_the_bucket_and_its_policy_is_finished(store: Store, session_id: str) -> None:
    name = await CloudStorage(lambda: store.client, "us-central1").ensure(session_id, "acme")  # the first half
    buckets = CloudStorage(lambda: store.client, "us-central1", ACCOUNT)
    assert await buckets.ensure(session_id, "acme") == name
    admitted = store.client.bucket(name).get_iam_policy()
    assert roles(store, name)[OBJECT_USER] == {"serviceAccount:onmemos-ws-acme@test.iam.gserviceaccount.com"}
    await buckets.ensure(session_id, "acme")
    assert store.client.bucket(name).get_iam_policy().etag == admitted.etag  # nothing was written again


async def test_what_others_wrote_into_the_policy_stays(store: Store, session_id: str) -> None:
    name = await CloudStorage(lambda: store.client, "us-central1").ensure(session_id, "acme")
    bucket = store.client.bucket(name)
    policy = bucket.get_iam_policy(requested_policy_version=3)
    condition = {"title": "for-a-while", "expression": 'request.time < timestamp("2030-01-01T00:00:00Z")'}
    auditors = {"role": OBJECT_USER, "members": {"group:auditors@example.com"}, "condition": condition}
    policy.version = 3
    policy.bindings += [auditors, {"role": OBJECT_USER, "members": {"user:a@example.com"}}]
    bucket.set_iam_policy(policy)
    await CloudStorage(lambda: store.client, "us-central1", ACCOUNT).ensure(session_id, "acme")
    after = bucket.get_iam_policy(requested_policy_version=3)
    assert auditors in after.bindings
    ours = "serviceAccount:onmemos-ws-acme@test.iam.gserviceaccount.com"
    assert roles(store, name)[OBJECT_USER] == {"user:a@example.com", ours}


class Racing(Bucket):  # type: ignore[misc]
    """Somebody else writes the policy between each of the first `left` reads and what follows it."""

    left = 0

    def get_iam_policy(self, *args: Any, **options: Any) -> Any:
        policy = super().get_iam_policy(*args, **options)
        if Racing.left:
            Racing.left -= 1
            other = super().get_iam_policy(*args, **options)
            other.bindings.append({"role": "roles/storage.admin", "members": {f"user:{Racing.left}@example.com"}})
            super().set_iam_policy(other)
        return policy


class RacingClient(Client):  # type: ignore[misc]
    def bucket(self, name: str, *args: Any, **options: Any) -> Bucket:
        return Racing(self, name)


@pytest.fixture
def racing(store: Store) -> Client:
    return RacingClient("test", credentials=AnonymousCredentials(), client_options={"api_endpoint": store.url})


async def test_a_policy_that_changes_meanwhile_is_read_again(store: Store, racing: Client, session_id: str) -> None:
    Racing.left = 2
    name = await CloudStorage(lambda: racing, "us-central1", ACCOUNT).ensure(session_id, "acme")
    assert Racing.left == 0
    found = roles(store, name)
    assert found["roles/storage.admin"] == {"user:0@example.com", "user:1@example.com"}
    assert found[OBJECT_USER] == {"serviceAccount:onmemos-ws-acme@test.iam.gserviceaccount.com"}


async def test_a_policy_that_never_rests_is_tried_again_later(racing: Client, session_id: str) -> None:
    Racing.left = 100
    with pytest.raises(ProviderUnavailable, match="changed 5 times"):
        await CloudStorage(lambda: racing, "us-central1", ACCOUNT).ensure(session_id, "acme")


async def test_an_account_that_cannot_be_is_told_with_the_clouds_reason(store: Store, session_id: str) -> None:
    buckets = CloudStorage(lambda: store.client, "us-central1", "nobody")
    with pytest.raises(ProvisioningFailed, match=r"did not let nobody into the bucket onmemos-.*serviceAccount:nobody"):
        await buckets.ensure(session_id, "acme")


async def test_a_policy_goes_with_its_bucket(store: Store, session_id: str) -> None:
    buckets = CloudStorage(lambda: store.client, "us-central1", ACCOUNT)
    name = await buckets.ensure(session_id, "acme")
    await buckets.delete(session_id)
    with pytest.raises(NotFound):
        store.client.bucket(name).get_iam_policy()
    assert OBJECT_USER not in roles(store, store.client.create_bucket(name).name)
