"""Documents: what can be stored comes back the same, and what cannot is refused with the real status."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from google.api_core import exceptions
from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.cloud import firestore
from google.cloud.firestore_v1.vector import Vector

pytestmark = pytest.mark.asyncio(loop_scope="session")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


async def test_every_type_of_value_comes_back_as_it_went(client: firestore.AsyncClient) -> None:
    body = {
        "null": None,
        "true": True,
        "integer": 2**63 - 1,
        "double": 1.5,
        "infinity": math.inf,
        "text": "é😀\x00`.\\",
        "bytes": b"\x00\xff",
        "time": datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC),
        "place": firestore.GeoPoint(-90, 180),
        "list": [1, "two", {"three": [3.0]}, None],
        "map": {"a": {"b": {}}, "odd name.": 1},
        "vector": Vector([1.0, 2.0]),
        "reference": client.document("rooms/a/seats/b"),
    }
    document = client.document("rooms/a")
    await document.set(body)
    assert (await document.get()).to_dict() == body


async def test_times_are_cut_to_microseconds(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    await document.set({"at": DatetimeWithNanoseconds(2026, 1, 1, nanosecond=123456789, tzinfo=UTC)})
    assert (await document.get()).get("at").microsecond == 123456
    root = f"{client._database_string}/documents"
    stored = await client._firestore_api.get_document(request={"name": f"{root}/rooms/a"})
    assert stored.fields["at"].timestamp_value.nanosecond == 123456000


async def test_a_missing_document_says_so(client: firestore.AsyncClient) -> None:
    snapshot = await client.document("rooms/none").get()
    assert not snapshot.exists
    assert snapshot.read_time is not None


async def test_get_all_answers_each_document_once_missing_ones_too(client: firestore.AsyncClient) -> None:
    await client.document("rooms/a").set({"n": 1, "m": {"x": 1, "y": 2}})
    wanted = [client.document(f"rooms/{name}") for name in ("a", "none", "a")]
    found = {s.id: s.to_dict() async for s in client.get_all(wanted, field_paths=["m.y", "absent"])}
    assert found == {"a": {"m": {"y": 2}}, "none": None}


async def test_creating_twice_is_refused(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    await document.create({"n": 1})
    with pytest.raises(exceptions.AlreadyExists):
        await document.create({"n": 2})
    assert (await document.get()).to_dict() == {"n": 1}


async def test_adding_makes_up_an_id(client: firestore.AsyncClient) -> None:
    _, document = await client.collection("rooms").add({"n": 1})
    assert (await document.get()).to_dict() == {"n": 1}


async def test_updating_what_is_missing_is_not_found(client: firestore.AsyncClient) -> None:
    with pytest.raises(exceptions.NotFound):
        await client.document("rooms/a").update({"n": 1})


async def test_deleting_twice_is_not_an_error(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    await document.set({"n": 1})
    await document.delete()
    await document.delete()
    assert not (await document.get()).exists


async def test_a_document_made_anew_has_a_new_create_time(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    await document.set({"n": 1})
    first = await document.get()
    await document.set({"n": 2})
    second = await document.get()
    await document.delete()
    await document.set({"n": 2})
    third = await document.get()
    assert first.create_time == second.create_time < third.create_time
    assert first.update_time < second.update_time < third.update_time


async def test_a_write_that_changes_nothing_keeps_the_update_time(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    first = await document.set({"n": 1, "nan": math.nan})
    second = await document.set({"nan": math.nan, "n": 1})
    third = await document.set({"n": 1.0, "nan": math.nan})
    assert first.update_time == second.update_time < third.update_time


@pytest.mark.parametrize("name", ["rooms/__x__", "__rooms__/a", "rooms/.", "rooms/..", "rooms/" + "x" * 1501])
async def test_reserved_and_long_names_are_refused(client: firestore.AsyncClient, name: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        await client.document(name).set({"n": 1})


@pytest.mark.parametrize(
    "name", ["rooms/__id7__", "rooms/__", "rooms/__a", "rooms/a b", "rooms/é", "rooms/" + "x" * 1500]
)
async def test_odd_names_are_fine(client: firestore.AsyncClient, name: str) -> None:
    await client.document(name).set({"n": 1})
    assert (await client.document(name).get()).to_dict() == {"n": 1}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "rooms",
        "projects/p/databases/(default)/documents",
        "projects/p/databases/(default)/documents/rooms",
        "projects/p/databases/(default)/documents/rooms/",
        "projects/p/databases/(default)/documents/rooms//seats/a",
        "projects/p/databases/(default)/other/rooms/a",
    ],
)
async def test_what_names_no_document_is_refused(client: firestore.AsyncClient, name: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        await client._firestore_api.get_document(request={"name": name})


@pytest.mark.parametrize(
    "body",
    [
        {"__x__": 1},
        {"a": {"__x__": 1}},
        {"x" * 1501: 1},
        {"a": [[1]]},
        {"a": nested(21)},
        {"a": "x" * 1_048_488},
        {"a": "x" * 600_000, "b": "x" * 450_000},
        {"a": {"__type__": "other", "value": [1.0]}},
    ],
    ids=["reserved", "reserved inside", "long name", "list in list", "too deep", "long text", "too large", "type"],
)
async def test_what_cannot_be_stored_is_refused(client: firestore.AsyncClient, body: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        await client.document("rooms/a").set(body)
    assert not (await client.document("rooms/a").get()).exists


@pytest.mark.parametrize("body", [{"a": nested(20)}, {"a": "x" * 1_048_487}], ids=["deep", "long"])
async def test_the_largest_documents_are_stored(client: firestore.AsyncClient, body: dict[str, Any]) -> None:
    await client.document("r/a").set(body)
    assert (await client.document("r/a").get()).to_dict() == body
