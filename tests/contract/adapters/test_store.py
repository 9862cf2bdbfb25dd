"""FirestoreStore against the embedded Firestore, held to what the use cases rely on; the fake is held to the same."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.cloud.firestore_v1 import AsyncClient

from shared.documents import DocumentReader, to_document
from shared.errors import AlreadyExists, SessionNotFound, WriteConflict
from shared.models import (
    Filestore,
    Idempotency,
    KeptBucket,
    Position,
    ProviderName,
    Session,
    SessionFilter,
    State,
    Storage,
)
from shared.store import FirestoreStore, Store
from tests.fakes import START, MemoryStore, a_session


@pytest.fixture(params=["memory", "firestore"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return FirestoreStore(*request.getfixturevalue("firestore"))


def idempotency(**changes: Any) -> Idempotency:
    return replace(Idempotency("key", "digest", "ws-a", START + timedelta(hours=24)), **changes)


async def sessions_of(found: AsyncIterator[Session]) -> list[str]:
    return sorted([session.id async for session in found])


async def test_what_is_written_is_read_back_whole(store: Store) -> None:
    session = a_session(
        env={"A.b": "1", "C": ""},
        labels={"team": "x"},
        details={"service_name": "s"},
        error="it broke",
        egress=False,
        image="registry/x@sha256:1",
        idle_timeout_minutes=5,
        storage=Storage("datasets", "/mnt/d", keep=True, filestore=Filestore("10.0.0.2", "share", "/mnt/nfs")),
        boots=3,
        state=State.FAILED,
    )
    written = await store.create(session)
    read = await store.get(session.id)
    assert read == session
    assert read.version == written.version is not None
    assert await store.get_many([session.id, "ws-none"]) == {session.id: session}


async def test_a_session_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(SessionNotFound):
        await store.get("ws-none")
    await store.delete("ws-none")
    assert await store.get_many([]) == {}


@pytest.mark.parametrize("name", ["__proto__", "__a\n__", ".", "..", "é" * 751])
async def test_a_session_that_firestore_has_no_name_for_is_not_there_either(store: Store, name: str) -> None:
    with pytest.raises(SessionNotFound):
        await store.get(name)


async def test_a_name_is_taken_once(store: Store) -> None:
    await store.create(a_session())
    with pytest.raises(AlreadyExists):
        await store.create(a_session(user="other"))
    assert (await store.get(a_session().id)).user == "developer"


async def test_a_session_and_its_idempotency_record_are_written_both_or_neither(store: Store) -> None:
    await store.create(a_session(id="ws-a"), idempotency())
    with pytest.raises(AlreadyExists):
        await store.create(a_session(id="ws-b"), idempotency(session_id="ws-b"))
    with pytest.raises(SessionNotFound):
        await store.get("ws-b")
    assert await store.idempotency("key") == idempotency()
    await store.discard("ws-a", idempotency())
    assert await store.idempotency("key") is None
    assert await store.get_many(["ws-a"]) == {}


async def test_an_update_holds_only_on_what_was_read(store: Store) -> None:
    first = await store.create(a_session())
    second = await store.update(replace(first, boots=2))
    with pytest.raises(WriteConflict):
        await store.update(replace(first, boots=9))
    assert (await store.get(first.id)).boots == 2
    await store.delete(first.id)
    with pytest.raises(WriteConflict):
        await store.update(second)


async def test_of_concurrent_updates_exactly_one_holds(store: Store) -> None:
    session = await store.create(a_session())
    writes = (store.update(replace(session, boots=n)) for n in range(2, 10))
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(outcome, Session) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, WriteConflict) for outcome in outcomes) == 7


async def test_maps_are_replaced_not_merged(store: Store) -> None:
    session = await store.create(a_session(details={"a": "1", "b": "2"}))
    await store.update(replace(session, details={"a": "3"}))
    assert (await store.get(session.id)).details == {"a": "3"}


async def test_pages_come_newest_first_and_cover_everything_once(store: Store) -> None:
    for number in range(7):
        # Two of each second: the id decides between them.
        await store.create(a_session(id=f"ws-{number}", created_at=START + timedelta(seconds=number // 2)))
    seen: list[str] = []
    after: Position | None = None
    for _ in range(10):
        page = await store.page("default", SessionFilter(), 3, after)
        seen += [session.id for session in page.sessions]
        after = page.next
        if after is None:
            break
    assert seen == ["ws-6", "ws-5", "ws-4", "ws-3", "ws-2", "ws-1", "ws-0"]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (SessionFilter(), ["ws-a", "ws-b", "ws-c"]),
        (SessionFilter(namespace="other"), ["ws-b"]),
        (SessionFilter(user="ann"), ["ws-c"]),
        (SessionFilter(status=State.RUNNING), ["ws-a", "ws-b"]),
        (SessionFilter(status=State.FAILED), ["ws-c"]),
        (SessionFilter(provider=ProviderName.GKE), []),
        (SessionFilter(label=("team", "x")), ["ws-a", "ws-c"]),
        (SessionFilter(label=("team", "x"), user="ann"), ["ws-c"]),
    ],
)
async def test_filters(store: Store, where: SessionFilter, found: list[str]) -> None:
    await store.create(a_session(id="ws-a", labels={"team": "x"}))
    await store.create(a_session(id="ws-b", labels={"team": "y"}, namespace="other"))
    await store.create(a_session(id="ws-c", labels={"team": "x", "tier": "2"}, user="ann", state=State.FAILED))
    await store.create(a_session(id="ws-d", labels={"team": "x"}, tenant="stranger"))
    await store.create(a_session(id="ws-e", labels={"team": "x"}, state=State.DELETING))
    page = await store.page("default", where, 10, None)
    assert sorted(session.id for session in page.sessions) == found
    assert page.next is None


async def test_sweeps_find_what_is_unfinished_and_what_is_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.collection.SWEEP_PAGE", 2)
    for number in range(5):
        await store.create(a_session(id=f"ws-p{number}", state=State.PROVISIONING))
    await store.create(a_session(id="ws-d", state=State.DELETING))
    await store.create(a_session(id="ws-r", expires_at=START + timedelta(minutes=5)))
    assert await sessions_of(store.unfinished()) == ["ws-d", "ws-p0", "ws-p1", "ws-p2", "ws-p3", "ws-p4"]
    assert await sessions_of(store.expired(START + timedelta(minutes=5))) == ["ws-r"]
    assert len(await sessions_of(store.expired(START + timedelta(hours=1)))) == 7


async def test_spent_idempotency_records_are_forgotten(store: Store) -> None:
    await store.create(a_session(id="ws-a"), idempotency())
    await store.create(a_session(id="ws-b"), idempotency(id="young", expires_at=START + timedelta(hours=48)))
    at = START + timedelta(hours=24)
    assert await store.has_spent_idempotency(at)
    assert await store.forget_idempotency(at) == 1
    assert not await store.has_spent_idempotency(at)
    assert await store.idempotency("young") is not None


async def test_the_cost_of_a_page_grows_with_the_page_not_with_the_collection(store: Store) -> None:
    async def fill(start: int, end: int) -> None:
        for first in range(start, end, 50):
            numbers = range(first, min(first + 50, end))
            made = (a_session(id=f"ws-{n}", created_at=START + timedelta(seconds=n)) for n in numbers)
            await asyncio.gather(*map(store.create, made))

    async def median_s() -> float:
        times = []
        for _ in range(9):
            began = time.perf_counter()
            await store.page("default", SessionFilter(namespace="test"), 20, None)
            times.append(time.perf_counter() - began)
        return sorted(times)[4]

    if isinstance(store, MemoryStore):
        pytest.skip("a dictionary is read whole; the use cases' tests hold few sessions")
    await fill(0, 40)
    small = await median_s()
    await fill(40, 1240)  # 31 times as many: a scan would take 31 times as long
    assert await median_s() < 5 * small


async def test_a_session_of_before_storage_and_images_is_read_with_their_defaults(
    firestore: tuple[AsyncClient, DocumentReader],
) -> None:
    client, _ = firestore
    session = a_session()
    fields = to_document(session)
    for name in ("image", "idle_timeout_minutes", "storage"):
        del fields[name]
    await client.collection("sessions").document(session.id).set(fields)
    assert await FirestoreStore(*firestore).get(session.id) == replace(session, image="")


async def test_that_a_bucket_is_kept_is_written_with_its_session(store: Store) -> None:
    keeping = a_session(storage=Storage(keep=True))
    bucket = "onmemos-test-developer-1761998400"
    await store.create(keeping)
    await store.create(a_session(id="ws-plain-x-1761998400"))
    await store.create(a_session(id="ws-other-x-1761998400", storage=Storage("datasets", keep=True)))
    kept = KeptBucket(bucket, "default", "test", keeping.id)
    assert await store.kept_buckets([bucket, "onmemos-plain-x-1761998400", "datasets"]) == {bucket: kept}
    await store.delete(keeping.id)
    assert await store.kept_buckets([bucket]) == {bucket: kept}
    await store.forget_kept(bucket)
    await store.forget_kept(bucket)
    assert await store.kept_buckets([bucket]) == {}
    assert await store.kept_buckets([]) == {}


async def test_what_is_taken_back_keeps_no_bucket(store: Store) -> None:
    keeping = a_session(storage=Storage(keep=True))
    await store.create(keeping)
    await store.discard(keeping.id, None)
    assert await store.kept_buckets(["onmemos-test-developer-1761998400"]) == {}


async def test_a_listing_holds_the_namespaces_that_may_be_seen_and_pages_through_them(store: Store) -> None:
    for number, namespace in enumerate(["a", "b", "c", "a", "b", "c"]):
        at = START + timedelta(seconds=number)
        await store.create(a_session(id=f"ws-{namespace}-{number}", namespace=namespace, created_at=at))
    where = SessionFilter(namespaces=frozenset({"a", "c"}))
    first = await store.page("default", where, 3, None)
    second = await store.page("default", where, 3, first.next)
    assert [one.id for one in (*first.sessions, *second.sessions)] == ["ws-c-5", "ws-a-3", "ws-c-2", "ws-a-0"]
    assert second.next is None
