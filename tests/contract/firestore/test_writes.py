"""Writes: preconditions, merges, field transforms, batches."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import firestore

from tests.contract.firestore.conftest import OWNER

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def body_of(document: firestore.AsyncDocumentReference) -> dict[str, Any] | None:
    found: dict[str, Any] | None = (await document.get()).to_dict()
    return found


async def test_an_update_holds_only_at_the_version_it_names(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    await document.set({"n": 1})
    seen = await document.get()
    option = client.write_option(last_update_time=seen.update_time)
    await document.update({"n": 2}, option=option)
    with pytest.raises(exceptions.FailedPrecondition):
        await document.update({"n": 3}, option=option)
    with pytest.raises(exceptions.FailedPrecondition):
        await document.delete(option=option)
    assert await body_of(document) == {"n": 2}


async def test_a_version_of_a_missing_document_never_holds(client: firestore.AsyncClient) -> None:
    option = client.write_option(last_update_time=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(exceptions.FailedPrecondition):
        await client.document("rooms/a").update({"n": 1}, option=option)


async def test_deleting_what_must_exist_is_not_found(client: firestore.AsyncClient) -> None:
    with pytest.raises(exceptions.NotFound):
        await client.document("rooms/a").delete(option=client.write_option(exists=True))


async def test_an_update_replaces_named_fields_and_removes_deleted_ones(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    await document.set({"keep": 1, "map": {"a": 1, "b": 2}, "gone": 1, "scalar": 1, "odd.name": 1})
    await document.update(
        {
            "map.a": 5,
            "gone": firestore.DELETE_FIELD,
            "scalar.deep.er": 1,
            "`odd.name`": 2,
            "absent.x": firestore.DELETE_FIELD,
        }
    )
    assert await body_of(document) == {
        "keep": 1,
        "map": {"a": 5, "b": 2},
        "scalar": {"deep": {"er": 1}},
        "odd.name": 2,
    }


async def test_removing_the_last_nested_field_leaves_an_empty_map(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    await document.set({"map": {"a": {"b": 1}}})
    await document.update({"map.a.b": firestore.DELETE_FIELD})
    assert await body_of(document) == {"map": {"a": {}}}


async def test_a_merge_keeps_what_it_does_not_name(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    await document.set({"a": 1, "map": {"x": 1}}, merge=True)
    await document.set({"b": 2, "map": {"y": 2}}, merge=True)
    assert await body_of(document) == {"a": 1, "b": 2, "map": {"x": 1, "y": 2}}


async def test_a_server_timestamp_is_the_time_of_the_commit_in_milliseconds(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    result = await document.set({"at": firestore.SERVER_TIMESTAMP, "map": {"at": firestore.SERVER_TIMESTAMP}})
    found = await body_of(document) or {}
    assert found["at"] == found["map"]["at"]
    assert found["at"].microsecond % 1000 == 0
    assert abs((result.update_time - found["at"]).total_seconds()) < 1


@pytest.mark.parametrize(
    ("stored", "operand", "expected"),
    [
        (5, 3, 8),
        (5, 0.5, 5.5),
        (None, 2, 2),
        ("text", 2, 2),
        (2**63 - 2, 10, 2**63 - 1),
        (-(2**63) + 1, -10, -(2**63)),
        (1.5, 1, 2.5),
    ],
)
async def test_increments(client: firestore.AsyncClient, stored: Any, operand: float, expected: float) -> None:
    document = client.document("rooms/a")
    await document.set({} if stored is None else {"n": stored})
    await document.update({"n": firestore.Increment(operand)})
    found = (await body_of(document) or {})["n"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("stored", "operand", "largest", "smallest"),
    [
        (1.5, 2, 2, 1.5),
        (2, 2.0, 2, 2),
        (2.0, 2, 2.0, 2.0),
        ("text", 7, 7, 7),
        (0.0, -0.0, 0.0, 0.0),
        (2**53 + 1, float(2**53), 2**53 + 1, float(2**53)),
    ],
)
async def test_maximum_and_minimum(
    client: firestore.AsyncClient, stored: Any, operand: float, largest: float, smallest: float
) -> None:
    document = client.document("rooms/a")
    await document.set({"max": stored, "min": stored})
    await document.update({"max": firestore.Maximum(operand), "min": firestore.Minimum(operand)})
    found = await body_of(document) or {}
    assert (found["max"], type(found["max"])) == (largest, type(largest))
    assert (found["min"], type(found["min"])) == (smallest, type(smallest))
    assert math.copysign(1, found["min"]) == math.copysign(1, smallest)


async def test_nan_wins_maximum_and_minimum(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    await document.set({"a": math.nan, "b": 1})
    await document.update({"a": firestore.Maximum(1), "b": firestore.Minimum(math.nan)})
    found = await body_of(document) or {}
    assert math.isnan(found["a"])
    assert math.isnan(found["b"])


async def test_unions_add_what_is_missing_and_removals_take_all_equals(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    await document.set({"union": [1, "b", 1.0], "removal": [1, "b", 1.0, None, {"k": 1}], "text": "x"})
    await document.update(
        {
            "union": firestore.ArrayUnion([1, 2, 2, "b", None, {"k": 1}]),
            "removal": firestore.ArrayRemove([1, None, {"k": 1}]),
            "text": firestore.ArrayUnion([1]),
            "absent": firestore.ArrayRemove([1]),
        }
    )
    assert await body_of(document) == {
        "union": [1, "b", 1.0, 2, None, {"k": 1}],
        "removal": ["b"],
        "text": [1],
        "absent": [],
    }


async def test_a_transform_that_changes_nothing_keeps_the_update_time(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    first = await document.set({"n": 1})
    second = await document.update({"n": firestore.Increment(0)})
    assert first.update_time == second.update_time


async def test_a_batch_is_all_or_nothing_and_has_one_time(client: firestore.AsyncClient) -> None:
    batch = client.batch()
    for name in ("a", "b"):
        batch.set(client.document(f"rooms/{name}"), {"n": 1})
    results = await batch.commit()
    assert results[0].update_time == results[1].update_time == batch.commit_time
    refused = client.batch()
    refused.set(client.document("rooms/a"), {"n": 2})
    refused.create(client.document("rooms/b"), {"n": 2})
    with pytest.raises(exceptions.AlreadyExists):
        await refused.commit()
    assert await body_of(client.document("rooms/a")) == {"n": 1}


async def test_later_writes_of_a_batch_see_earlier_ones(client: firestore.AsyncClient) -> None:
    document = client.document("rooms/a")
    batch = client.batch()
    batch.create(document, {"n": 1})
    batch.update(document, {"n": firestore.Increment(1), "m": 1})
    batch.delete(client.document("rooms/b"))
    await batch.commit()
    assert await body_of(document) == {"n": 2, "m": 1}


async def test_a_commit_takes_more_than_500_writes(client: firestore.AsyncClient) -> None:
    batch = client.batch()
    for index in range(501):
        batch.set(client.document(f"many/{index}"), {"n": index})
    assert len(await batch.commit()) == 501


async def test_a_batch_write_answers_for_each_write(client: firestore.AsyncClient) -> None:
    root = f"{client._database_string}/documents/rooms"
    value = {"n": {"integer_value": 1}}
    response = await client._firestore_api.batch_write(
        request={
            "database": client._database_string,
            "writes": [
                {"update": {"name": f"{root}/a", "fields": value}},
                {"update": {"name": f"{root}/b", "fields": value}, "current_document": {"exists": True}},
                {"delete": f"{root}/c"},
            ],
        },
        metadata=OWNER,
    )
    assert [status.code for status in response.status] == [0, 5, 0]
    assert await body_of(client.document("rooms/a")) == {"n": 1}


@pytest.mark.parametrize(
    "write",
    [
        {},
        {"delete": "ROOT/a", "update_mask": {"field_paths": ["x"]}},
        {"update": {"name": "ROOT/a"}, "update_mask": {"field_paths": ["a..b"]}},
        {"update": {"name": "ROOT/a"}, "update_mask": {"field_paths": ["__x__"]}},
        {"update": {"name": "ROOT/a"}, "update_transforms": [{"field_path": "n"}]},
        {"update": {"name": "ROOT/a"}, "update_transforms": [{"field_path": "n", "increment": {"string_value": "x"}}]},
        {"transform": {"document": "ROOT/a", "field_transforms": []}},
        {"update": {"name": "ROOT/a", "fields": {"a": {}}}},
        {"update": {"name": "ROOT/a", "fields": {"a": {"geo_point_value": {"latitude": 91}}}}},
        {"update": {"name": "ROOT/a", "fields": {"a": {"reference_value": "foo"}}}},
        {"update": {"name": "ROOT/a", "fields": {"": {"integer_value": 1}}}},
    ],
)
async def test_senseless_writes_are_refused(client: firestore.AsyncClient, write: dict[str, Any]) -> None:
    root = f"{client._database_string}/documents/rooms"

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: placed(item) for key, item in value.items()}
        return value.replace("ROOT", root) if isinstance(value, str) else value

    with pytest.raises(exceptions.InvalidArgument):
        await client._firestore_api.commit(request={"database": client._database_string, "writes": [placed(write)]})
