"""Listeners of the official client: what is there, then every change that matters."""

import asyncio
import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.cloud import firestore

from tests.contract.firestore.conftest import connect_sync, embedded_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

WAIT_S = 10
Heard = list[tuple[str, str]]


class Ear:
    """Collects what a listener is told: the documents, and the changes that led to them."""

    def __init__(self) -> None:
        self._heard: queue.Queue[tuple[list[str], Heard]] = queue.Queue()

    def __call__(self, documents: list[Any], changes: list[Any], read_time: object) -> None:
        told = sorted((change.type.name, change.document.id) for change in changes)
        self._heard.put(([document.id for document in documents], told))

    async def next(self) -> tuple[list[str], Heard]:
        return await asyncio.to_thread(self._heard.get, timeout=WAIT_S)


@pytest.fixture
def listen(address: str, project: str) -> Iterator[Callable[[Callable[[firestore.Client], Any]], Ear]]:
    client = connect_sync(address, project)
    watches = []

    def start(target: Callable[[firestore.Client], Any]) -> Ear:
        ear = Ear()
        watches.append(target(client).on_snapshot(ear))
        return ear

    yield start
    for watch in watches:
        watch.unsubscribe()


async def test_a_document_is_followed_from_absent_to_deleted(
    client: firestore.AsyncClient, listen: Callable[..., Ear]
) -> None:
    ear = listen(lambda sync: sync.document("c/a"))
    assert await ear.next() == ([], [])
    await client.document("c/a").set({"n": 1})
    assert await ear.next() == (["a"], [("ADDED", "a")])
    await client.document("c/other").set({"n": 1})
    await client.document("c/a").set({"n": 2})
    assert await ear.next() == (["a"], [("MODIFIED", "a")])
    await client.document("c/a").delete()
    assert await ear.next() == ([], [("REMOVED", "a")])


async def test_a_query_is_followed(client: firestore.AsyncClient, listen: Callable[..., Ear]) -> None:
    for name, n in (("a", 1), ("b", 2), ("c", 0)):
        await client.document(f"c/{name}").set({"n": n})
    positive = firestore.FieldFilter("n", ">", 0)
    ear = listen(lambda sync: sync.collection("c").where(filter=positive).order_by("n"))
    assert await ear.next() == (["a", "b"], [("ADDED", "a"), ("ADDED", "b")])
    await client.document("c/d").set({"n": 0})
    await client.document("c/c").set({"n": 1.5})
    assert await ear.next() == (["a", "c", "b"], [("ADDED", "c")])
    await client.document("c/a").set({"n": 9})
    assert await ear.next() == (["c", "b", "a"], [("MODIFIED", "a")])
    await client.document("c/b").set({"n": -1})
    assert await ear.next() == (["c", "a"], [("REMOVED", "b")])
    await client.document("c/c").delete()
    assert await ear.next() == (["a"], [("REMOVED", "c")])


async def test_a_limited_query_lets_the_next_one_in(client: firestore.AsyncClient, listen: Callable[..., Ear]) -> None:
    for name, n in (("a", 1), ("b", 2), ("c", 3)):
        await client.document(f"c/{name}").set({"n": n})
    ear = listen(lambda sync: sync.collection("c").order_by("n").limit(2))
    assert (await ear.next())[0] == ["a", "b"]
    await client.document("c/a").delete()
    assert (await ear.next())[0] == ["b", "c"]
    await client.document("c/first").set({"n": 0})
    assert (await ear.next())[0] == ["first", "b"]


async def test_a_batch_is_heard_at_once(client: firestore.AsyncClient, listen: Callable[..., Ear]) -> None:
    ear = listen(lambda sync: sync.collection_group("deep"))
    assert await ear.next() == ([], [])
    batch = client.batch()
    for path in ("deep/a", "x/y/deep/b", "x/y/other/c"):
        batch.set(client.document(path), {})
    await batch.commit()
    assert await ear.next() == (["a", "b"], [("ADDED", "a"), ("ADDED", "b")])


async def test_a_listener_survives_a_restart_of_the_emulator(
    tmp_path_factory: pytest.TempPathFactory, project: str
) -> None:
    path = tmp_path_factory.mktemp("restarted") / "firestore.sqlite"
    ear = Ear()
    async with embedded_server(path) as address:
        client = connect_sync(address, project)
        for name in "ab":
            await asyncio.to_thread(client.document(f"c/{name}").set, {"n": 1})
        watch = client.collection("c").on_snapshot(ear)
        assert (await ear.next())[0] == ["a", "b"]
    async with embedded_server(path, port=int(address.rpartition(":")[2])) as address:
        other = connect_sync(address, project)
        await asyncio.to_thread(other.document("c/a").delete)
        while (heard := await ear.next())[0] != ["b"]:
            pass
        assert heard == (["b"], [("REMOVED", "a")])
        watch.unsubscribe()
