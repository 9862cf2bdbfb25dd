"""Every query of the stores has its index in firestore.indexes.json, and none is there that no query needs.

The emulator refuses what production would. Queries are not listed here: the stores are called, with every filter.
"""

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import AsyncClient
from google.cloud.firestore_v1.base_query import FieldFilter, Or
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

from infra.emulators.firestore import Declared, FirestoreEmulator
from shared.callers import ApiKey
from shared.documents import DocumentReader
from shared.errors import ProviderUnavailable
from shared.job_store import FirestoreJobs
from shared.key_store import FirestoreKeys
from shared.models import Position, ProviderName, SessionFilter, State
from shared.store import FirestoreStore
from tests.fakes import START, a_session
from tests.job_fakes import a_job

FILE = Path(__file__).parents[3] / "firestore.indexes.json"
DECLARED: dict[str, Any] = json.loads(FILE.read_text())
NOBODYS = "ws-nobody-1761998400"


@asynccontextmanager
async def database(
    folder: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]
) -> AsyncIterator[tuple[AsyncClient, DocumentReader]]:
    """An emulator that has these indexes."""
    server = grpc.aio.server()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    async with FirestoreEmulator(folder / "firestore.sqlite", Declared.of(document)) as emulator:
        server.add_generic_rpc_handlers(tuple(emulator.handlers()))
        await server.start()
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", address)
        client = AsyncClient(project="p", credentials=AnonymousCredentials())
        async with grpc.aio.insecure_channel(address) as channel:
            plain = FirestoreAsyncClient(transport=FirestoreGrpcAsyncIOTransport(channel=channel))
            yield client, DocumentReader(plain, "projects/p/databases/(default)/documents")
        await server.stop(None)


async def every_listing(store: FirestoreStore) -> None:
    """All combinations of a listing's filters, on a first page and on a later one."""
    choices: dict[str, list[Any]] = {
        "namespace": [None, "n"],
        "user": [None, "u"],
        "status": [None, State.RUNNING],
        "provider": [None, ProviderName.GKE],
        "label": [None, ("a", "b")],
        "namespaces": [None, frozenset({"n"}), frozenset({"n", "m"})],
    }
    for values in itertools.product(*choices.values()):
        where = SessionFilter(**dict(zip(choices, values, strict=True)))
        for after in (None, Position(START, NOBODYS)):
            await store.page("t", where, 10, after)


async def all_of(found: AsyncIterator[Any]) -> None:
    async for _ in found:
        pass


async def swept(store: FirestoreStore) -> None:
    """With so many documents that a sweep has a second page."""
    for number in range(301):
        expires_at = START - timedelta(seconds=number)
        await store.create(a_session(id=f"ws-{number}", state=State.PROVISIONING, expires_at=expires_at))
    assert len([one async for one in store.unfinished()]) == 301
    assert len([one async for one in store.expired(START)]) == 301


async def every_query(client: AsyncClient, reader: DocumentReader) -> None:
    """Raises ProviderUnavailable, which holds Firestore's words, for the first one that no index serves."""
    sessions, jobs = FirestoreStore(client, reader), FirestoreJobs(client, reader)
    keys = FirestoreKeys(client, reader)
    await all_of(sessions.unfinished())
    await all_of(sessions.expired(START))
    await sessions.has_spent_idempotency(START)
    await sessions.forget_idempotency(START)
    await jobs.page(NOBODYS, 10, None)
    await jobs.page(NOBODYS, 10, Position(START, "job-1"))
    await jobs.unfinished_of(NOBODYS, 10)
    await all_of(jobs.of_session(NOBODYS))
    await all_of(jobs.unfinished())
    key = ApiKey("d" * 64, "n", tenant="t", scopes=frozenset(), created_at=START)
    await keys.create(key)
    assert await keys.by_id(key.id) == key
    for tenant in ("t", None):
        await all_of(keys.of_tenant(tenant))
    await every_listing(sessions)


async def test_every_query_of_the_stores_has_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with database(tmp_path, monkeypatch, DECLARED) as (client, reader):
        await every_query(client, reader)
        await swept(FirestoreStore(client, reader))


async def test_the_later_pages_of_jobs_have_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with database(tmp_path, monkeypatch, DECLARED) as (client, reader):
        jobs = FirestoreJobs(client, reader)
        for number in range(301):
            await jobs.create(replace(a_job(), id=f"job-{number}", session_id="ws-a"))
        assert len([one async for one in jobs.of_session("ws-a")]) == 301
        assert len([one async for one in jobs.unfinished()]) == 301


def without_one() -> list[Any]:
    """The file, each time without one of its indexes."""
    found = []
    for at, index in enumerate(DECLARED["indexes"]):
        fields = "-".join(field["fieldPath"] for field in index["fields"])
        document = deepcopy(DECLARED)
        del document["indexes"][at]
        found.append(pytest.param(document, id=f"{index['collectionGroup']}-{fields}"))
    for at, field in enumerate(DECLARED["fieldOverrides"]):
        for number, _ in enumerate(field["indexes"]):
            document = deepcopy(DECLARED)
            del document["fieldOverrides"][at]["indexes"][number]
            found.append(pytest.param(document, id=f"{field['collectionGroup']}.{field['fieldPath']}"))
    return found


@pytest.mark.parametrize("document", without_one())
async def test_no_index_is_declared_that_no_query_needs(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database(tmp_path, monkeypatch, document) as (client, reader):
        with pytest.raises(ProviderUnavailable, match="The query requires an index"):
            await every_query(client, reader)


def test_what_firestore_removes_by_itself_is_nothing_that_stands_for_a_resource() -> None:
    """A session's document outlives its expiry: it is what is left to find its workspace, tasks and bucket by."""
    assert [(one["collectionGroup"], one["fieldPath"]) for one in DECLARED["fieldOverrides"] if one.get("ttl")] == [
        ("idempotency", "expires_at")
    ]


Build = Callable[[AsyncClient], Any]
ASC, DESC = "ASCENDING", "DESCENDING"


def declared(scope: str, *columns: tuple[str, str]) -> dict[str, Any]:
    fields = [{"fieldPath": path, "arrayConfig" if mode == "CONTAINS" else "order": mode} for path, mode in columns]
    return {"collectionGroup": "c", "queryScope": scope, "fields": fields}


OTHER_INDEXES = {
    "indexes": [
        declared("COLLECTION", ("a", ASC), ("z", DESC)),
        declared("COLLECTION", ("b", ASC), ("z", DESC)),
        declared("COLLECTION", ("e", ASC), ("z", ASC)),
        declared("COLLECTION", ("l", "CONTAINS"), ("m.n", ASC)),
        declared("COLLECTION_GROUP", ("a", ASC), ("b", ASC)),
    ],
    "fieldOverrides": [
        {"collectionGroup": "c", "fieldPath": "off", "indexes": []},
        {"collectionGroup": "c", "fieldPath": "g", "indexes": [{"order": ASC, "queryScope": "COLLECTION_GROUP"}]},
        {"collectionGroup": "closed", "fieldPath": "*", "indexes": []},
    ],
}


def query(*filters: Any, of: str = "c", group: bool = False, order: tuple[tuple[str, str], ...] = ()) -> Build:
    def build(client: AsyncClient) -> Any:
        found: Any = client.collection_group(of) if group else client.collection(of)
        for one in filters:
            found = found.where(filter=one)
        for path, direction in order:
            found = found.order_by(path, direction=direction)
        return found

    return build


def equal(path: str) -> FieldFilter:
    return FieldFilter(path, "==", 1)


A, B = equal("a"), equal("b")
NEWEST = (("z", DESC),)
HAS = FieldFilter("l", "array_contains", 1)
MORE = FieldFilter("q", ">", 1)

SERVED = {
    "all documents": query(),
    "one equality": query(A),
    "two equalities, merged": query(A, B),
    "a range": query(MORE),
    "a range, descending": query(MORE, order=(("q", DESC),)),
    "an order, merged": query(A, B, order=NEWEST),
    "a membership": query(HAS),
    "a membership in an order": query(HAS, order=(("m.n", ASC),)),
    "each alternative by its own": query(Or([A, B]), order=NEWEST),
    "a group": query(equal("g"), group=True),
    "a group in an order": query(A, group=True, order=(("b", ASC),)),
    "an order that an equality fixes": query(A, order=(("a", ASC),)),
    "all of a collection without indexes": query(of="closed"),
}
REFUSED = {
    "the other direction": query(A, order=(("z", ASC),)),
    "indexes of two directions": query(A, equal("e"), order=NEWEST),
    "an equality and a range": query(A, MORE),
    "two orders": query(order=(("a", ASC), ("z", DESC), ("y", ASC))),
    "a name in the other direction": query(A, order=(*NEWEST, ("__name__", ASC))),
    "an alternative that has none": query(Or([A, equal("y")]), order=NEWEST),
    "a field without an index": query(equal("off")),
    "a field of a map without one": query(equal("off.x")),
    "an order of such a field": query(of="closed", order=(("x", ASC),)),
    "a group without one": query(equal("y"), group=True),
    "a collection whose field has a group's alone": query(equal("g")),
    "a membership that is asked as an equality": query(equal("l"), order=(("m.n", ASC),)),
}


@pytest.mark.parametrize("build", SERVED.values(), ids=SERVED)
async def test_indexes_serve(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with database(tmp_path, monkeypatch, OTHER_INDEXES) as (client, _):
        assert list(await build(client).get()) == []


async def test_a_name_needs_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with database(tmp_path, monkeypatch, OTHER_INDEXES) as (client, _):
        named = FieldFilter("__name__", "==", client.document("closed/x"))
        assert list(await query(named, equal("y"), of="closed")(client).get()) == []


@pytest.mark.parametrize("build", REFUSED.values(), ids=REFUSED)
async def test_no_index_serves(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with database(tmp_path, monkeypatch, OTHER_INDEXES) as (client, _):
        with pytest.raises(exceptions.FailedPrecondition, match="requires an index"):
            await build(client).get()


async def test_a_sum_wants_its_field_in_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with database(tmp_path, monkeypatch, OTHER_INDEXES) as (client, _):
        await query()(client).sum("q").get()
        with pytest.raises(exceptions.FailedPrecondition, match=r"c \(a ASCENDING, y ASCENDING\), scope COLLECTION"):
            await query(A)(client).sum("y").get()
