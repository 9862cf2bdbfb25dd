"""Queries: filters, order, cursors, limits, projections, collection groups, aggregations."""

import math
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import And, Or

pytestmark = pytest.mark.asyncio(loop_scope="session")

Where = firestore.FieldFilter
VALUES: dict[str, Any] = {
    "null": None,
    "false": False,
    "true": True,
    "nan": math.nan,
    "one": 1,
    "one_double": 1.0,
    "two": 2.5,
    "text": "a",
    "text2": "b",
    "bytes": b"a",
    "list": [1, 2],
    "list1": [1],
    "list_null": [None],
    "map": {"a": 1},
    "map2": {"a": 1, "b": 2},
}


async def ids(query: Any) -> list[str]:
    return [snapshot.id async for snapshot in query.stream()]


async def fill(client: firestore.AsyncClient) -> Any:
    batch = client.batch()
    for name, value in VALUES.items():
        batch.set(client.document(f"c/{name}"), {"v": value, "k": name})
    batch.set(client.document("c/zz_without"), {"k": "zz"})
    await batch.commit()
    return client.collection("c")


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("==", 1, ["one", "one_double"]),
        ("==", None, ["null"]),
        ("==", math.nan, ["nan"]),
        ("==", [1, 2], ["list"]),
        ("==", {"a": 1}, ["map"]),
        (">", 1, ["two"]),
        (">=", 1, ["one", "one_double", "two"]),
        ("<", "b", ["text"]),
        ("<=", "b", ["text", "text2"]),
        (">", False, ["true"]),
        ("in", [1, "b", None], ["one", "one_double", "text2"]),
        ("not-in", [1, "a", "b", b"a", True, False], ["nan", "two", "list_null", "list1", "list", "map", "map2"]),
        ("!=", 1, [name for name in VALUES if name not in ("null", "one", "one_double")]),
        ("!=", None, [name for name in VALUES if name != "null"]),
        ("array_contains", 1, ["list", "list1"]),
        ("array_contains_any", [2, 7], ["list"]),
    ],
)
async def test_filters(client: firestore.AsyncClient, operator: str, value: Any, expected: list[str]) -> None:
    collection = await fill(client)
    found = await ids(collection.where(filter=Where("v", operator, value)))
    assert sorted(found) == sorted(expected)


async def test_types_have_an_order_and_the_name_breaks_ties(client: firestore.AsyncClient) -> None:
    collection = await fill(client)
    expected = [
        "null", "false", "true", "nan", "one", "one_double", "two", "text", "text2", "bytes",
        "list_null", "list1", "list", "map", "map2",
    ]  # fmt: skip
    assert await ids(collection.order_by("v")) == expected
    assert await ids(collection.order_by("v", direction="DESCENDING")) == expected[::-1]


async def test_names_can_be_filtered(client: firestore.AsyncClient) -> None:
    collection = await fill(client)
    assert await ids(collection.where(filter=Where("__name__", ">", collection.document("text")))) == [
        "text2", "true", "two", "zz_without",
    ]  # fmt: skip
    wanted = [collection.document("true"), collection.document("one")]
    assert await ids(collection.where(filter=Where("__name__", "in", wanted))) == ["one", "true"]


async def test_or_and_and_combine(client: firestore.AsyncClient) -> None:
    collection = await fill(client)
    either = Or([Where("v", "==", 1), And([Where("k", "==", "text"), Where("v", ">", "")])])
    assert await ids(collection.where(filter=either)) == ["one", "one_double", "text"]
    assert await ids(collection.where(filter=either).order_by("k", direction="DESCENDING").limit(2)) == [
        "text", "one_double",
    ]  # fmt: skip


async def test_equality_order_limit_and_cursor_go_together(client: firestore.AsyncClient) -> None:
    batch = client.batch()
    for index in range(60):
        body = {"namespace": f"n{index % 3}", "running": index % 2 == 0, "created": index // 6}
        batch.set(client.document(f"s/d{index:02}"), body)
    await batch.commit()
    query = (
        client.collection("s")
        .where(filter=Where("namespace", "==", "n1"))
        .where(filter=Where("running", "==", True))
        .order_by("created", direction="DESCENDING")
    )
    everything = await ids(query)
    assert everything == [f"d{6 * index + 4:02}" for index in reversed(range(10))]
    first = [snapshot async for snapshot in query.limit(4).stream()]
    assert await ids(query.start_after(first[-1]).limit(4)) == everything[4:8]
    assert await ids(query.start_at({"created": 5}).end_before({"created": 2})) == everything[4:7]
    assert await ids(query.offset(7)) == everything[7:]
    assert [snapshot.id for snapshot in await query.limit_to_last(3).get()] == everything[-3:]


async def test_cursors_stop_at_equal_values_or_after_them(client: firestore.AsyncClient) -> None:
    collection = await fill(client)
    ordered = collection.order_by("v")
    everything = await ids(ordered)
    place = everything.index("one")
    assert await ids(ordered.start_at({"v": 1})) == everything[place:]
    assert await ids(ordered.start_after({"v": 1})) == everything[place + 2 :]
    assert await ids(ordered.end_at({"v": 1})) == everything[: place + 2]
    assert await ids(ordered.end_before({"v": 1})) == everything[:place]
    middle = await collection.document("one").get()
    assert await ids(ordered.start_after(middle)) == everything[place + 1 :]


async def test_inequalities_order_by_their_fields_in_order_of_name(client: firestore.AsyncClient) -> None:
    for name, a, b in (("x", 2, 1), ("y", 1, 2), ("z", 1, 1)):
        await client.document(f"c/{name}").set({"a": a, "b": b})
    query = client.collection("c").where(filter=Where("b", ">", 0)).where(filter=Where("a", ">", 0))
    assert await ids(query) == ["z", "y", "x"]
    assert await ids(query.order_by("b", direction="DESCENDING")) == ["y", "x", "z"]


async def test_a_projection_returns_only_its_fields(client: firestore.AsyncClient) -> None:
    await client.document("c/a").set({"x": 1, "m": {"y": 2, "z": 3}})
    found = [s.to_dict() async for s in client.collection("c").select(["m.y", "absent"]).stream()]
    assert found == [{"m": {"y": 2}}]


async def test_a_collection_group_is_every_collection_of_that_name(client: firestore.AsyncClient) -> None:
    for path in ("l/a", "l/b/x/y/l/q", "z/y/l/e", "z/y/other/e"):
        await client.document(path).set({"n": path})
    assert await ids(client.collection_group("l")) == ["a", "q", "e"]
    assert await ids(client.collection_group("l").order_by("n", direction="DESCENDING")) == ["e", "q", "a"]
    assert await ids(client.collection_group("l").where(filter=Where("n", "==", "z/y/l/e"))) == ["e"]
    assert await ids(client.collection("l")) == ["a"]


async def test_queries_follow_updates_and_deletions(client: firestore.AsyncClient) -> None:
    query = client.collection("c").where(filter=Where("tags", "array_contains", "x")).order_by("n")
    assert await ids(query) == []
    await client.document("c/a").set({"tags": ["x", "y"], "n": 1})
    await client.document("c/b").set({"tags": ["x", "x"], "n": 0})
    assert await ids(query) == ["b", "a"]
    await client.document("c/b").update({"n": 2})
    await client.document("c/a").update({"tags": firestore.ArrayRemove(["y"])})
    assert await ids(query) == ["a", "b"]
    await client.document("c/a").delete()
    await client.document("c/b").update({"tags": ["y"]})
    assert await ids(query) == []


async def test_aggregations(client: firestore.AsyncClient) -> None:
    for name, n in (("a", 1), ("b", 2.0), ("c", "text")):
        await client.document(f"c/{name}").set({"n": n})
    await client.document("c/d").set({"m": 1})
    collection: Any = client.collection("c")  # whose aggregations are typed as the synchronous ones
    assert (await collection.count(alias="all").get())[0][0].value == 4
    assert (await collection.limit(2).count().get())[0][0].value == 2
    found = (await collection.count(alias="k").sum("n", alias="s").avg("n", alias="a").get())[0]
    assert {result.alias: result.value for result in found} == {"k": 3, "s": 3.0, "a": 1.5}
    nothing: Any = client.collection("none")
    (empty,) = (await nothing.sum("n", alias="s").get())[0]
    assert empty.value == 0


async def test_a_count_stops_at_its_bound(client: firestore.AsyncClient) -> None:
    for name in "abc":
        await client.document(f"c/{name}").set({})
    parent = f"{client._database_string}/documents"
    stream = await client._firestore_api.run_aggregation_query(
        request={
            "parent": parent,
            "structured_aggregation_query": {
                "structured_query": {"from_": [{"collection_id": "c"}]},
                "aggregations": [{"count": {"up_to": 2}}],
            },
        }
    )
    (response,) = [response async for response in stream]
    assert response.result.aggregate_fields["field_1"].integer_value == 2


def composite(*filters: dict[str, Any], op: int = 1) -> dict[str, Any]:
    return {"composite_filter": {"op": op, "filters": list(filters)}}


def where(path: str, op: int, value: dict[str, Any]) -> dict[str, Any]:
    return {"field_filter": {"field": {"field_path": path}, "op": op, "value": value}}


def numbers(*listed: int) -> dict[str, Any]:
    return {"array_value": {"values": [{"integer_value": number} for number in listed]}}


ONE = {"integer_value": 1}
NAME = {"field": {"field_path": "__name__"}, "direction": 2}


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"where": where("v", 8, numbers())}, exceptions.InvalidArgument),
        ({"where": where("v", 8, ONE)}, exceptions.InvalidArgument),
        ({"where": where("v", 8, numbers(*range(31)))}, exceptions.InvalidArgument),
        ({"where": where("v", 10, numbers(*range(11)))}, exceptions.InvalidArgument),
        (
            {"where": composite(where("v", 8, numbers(*range(6))), where("w", 8, numbers(*range(6))))},
            exceptions.InvalidArgument,
        ),
        ({"where": composite(where("v", 7, ONE), where("w", 7, ONE))}, exceptions.InvalidArgument),
        ({"where": composite(where("v", 6, ONE), where("w", 6, ONE))}, exceptions.InvalidArgument),
        ({"where": composite(where("v", 10, numbers(1)), where("w", 8, numbers(1)))}, exceptions.InvalidArgument),
        (
            {"where": composite(where("v", 10, numbers(1)), composite(where("w", 5, ONE), op=2))},
            exceptions.InvalidArgument,
        ),
        ({"where": composite(where("v", 7, {"null_value": 0}), where("w", 7, ONE))}, exceptions.InvalidArgument),
        ({"where": where("v", 0, ONE)}, exceptions.InvalidArgument),
        ({"where": composite(where("v", 5, ONE), op=0)}, exceptions.InvalidArgument),
        ({"where": where("__name__", 5, ONE)}, exceptions.InvalidArgument),
        ({"where": where("v..w", 5, ONE)}, exceptions.InvalidArgument),
        ({"where": where("__x__", 5, ONE)}, exceptions.InvalidArgument),
        ({"limit": -1}, exceptions.InvalidArgument),
        ({"offset": -1}, exceptions.InvalidArgument),
        ({"start_at": {"values": [ONE]}}, exceptions.InvalidArgument),
        ({"order_by": [NAME, {"field": {"field_path": "v"}}]}, exceptions.InvalidArgument),
        ({"order_by": [{"field": {"field_path": "v"}}] * 2}, exceptions.InvalidArgument),
        ({"from_": [{"collection_id": "__c__"}]}, exceptions.InvalidArgument),
        ({"from_": [{"all_descendants": True}], "where": where("v", 5, ONE)}, exceptions.InvalidArgument),
        ({"order_by": [NAME]}, exceptions.FailedPrecondition),
    ],
)
async def test_senseless_queries_are_refused(
    client: firestore.AsyncClient, query: dict[str, Any], error: type[Exception]
) -> None:
    request = {
        "parent": f"{client._database_string}/documents",
        "structured_query": {"from_": [{"collection_id": "c"}], **query},
    }
    with pytest.raises(error):
        [_ async for _ in await client._firestore_api.run_query(request=request)]
