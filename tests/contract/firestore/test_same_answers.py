"""Random queries over random documents get the same answer, or the same refusal, from both Firestores."""

import math
from typing import Any
from uuid import uuid4

import pytest
from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.contract.firestore.conftest import connect

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTIONS: dict[str, firestore.AsyncClient] = {}
FIELDS = ("a", "b", "m.x")
PATHS = [f"c/{name}" for name in "pqrst"] + ["c/p/c/q", "d/x/c/r"]

scalars = st.sampled_from([None, False, True, math.nan, 0, -0.0, 1, 1.0, 1.5, 2**53 + 1, float(2**53), "", "a", b"a"])
values: st.SearchStrategy[Any] = st.one_of(scalars, st.lists(scalars, max_size=2), st.just({"x": 1}), st.just({}))
documents = st.dictionaries(
    st.sampled_from(PATHS),
    st.fixed_dictionaries(
        {}, optional={"a": values, "b": values, "m": st.fixed_dictionaries({}, optional={"x": values})}
    ),
    min_size=3,
)


def wire(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {"null_value": 0}
        case bool():
            return {"boolean_value": value}
        case int():
            return {"integer_value": value}
        case float():
            return {"double_value": value}
        case str():
            return {"string_value": value}
        case bytes():
            return {"bytes_value": value}
        case list():
            return {"array_value": {"values": [wire(item) for item in value]}}
    return {"map_value": {"fields": {key: wire(item) for key, item in value.items()}}}


def field(path: str) -> dict[str, str]:
    return {"field_path": path}


def field_filter(path: str, op: int, value: Any) -> dict[str, Any]:
    return {"field_filter": {"field": field(path), "op": op, "value": wire(value)}}


single = st.builds(field_filter, st.sampled_from(FIELDS), st.integers(1, 7), values)
several = st.builds(
    field_filter, st.sampled_from(FIELDS), st.integers(8, 10), st.lists(scalars, min_size=1, max_size=3)
)
unary = st.builds(
    lambda path, op: {"unary_filter": {"field": field(path), "op": op}}, st.sampled_from(FIELDS), st.integers(2, 5)
)
leaves = st.one_of(single, single, several, unary)
filters = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda op, parts: {"composite_filter": {"op": op, "filters": parts}},
        st.integers(1, 2),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)


@st.composite
def queries(draw: st.DrawFn) -> dict[str, Any]:
    query: dict[str, Any] = {"from_": [{"collection_id": "c", "all_descendants": draw(st.booleans())}]}
    if draw(st.booleans()):
        query["where"] = draw(filters)
    order = draw(st.lists(st.sampled_from(FIELDS), max_size=2, unique=True))
    if order:
        query["order_by"] = [{"field": field(path), "direction": draw(st.integers(1, 2))} for path in order]
        for end in ("start_at", "end_at"):
            if draw(st.integers(0, 3)) == 0:
                cursor = draw(st.lists(scalars, min_size=1, max_size=len(order)))
                query[end] = {"values": [wire(value) for value in cursor], "before": draw(st.booleans())}
    if draw(st.booleans()):
        query["limit"] = draw(st.integers(0, 4))
    if draw(st.integers(0, 3)) == 0:
        query["offset"] = draw(st.integers(0, 2))
    return query


def api(client: firestore.AsyncClient) -> FirestoreAsyncClient:
    found: FirestoreAsyncClient = client._firestore_api
    return found


aggregations = st.lists(
    st.sampled_from([{"count": {}}, {"sum": {"field": field("a")}}, {"avg": {"field": field("b")}}]),
    min_size=1,
    max_size=2,
    unique_by=str,
)


def reconnect(address: str, project: str) -> firestore.AsyncClient:
    """A client of another project on the connection that is there: opening one for every example would take longest."""
    client = connect(address, project)
    client._firestore_api_internal = CONNECTIONS.setdefault(address, client)._firestore_api
    return client


async def answer(client: firestore.AsyncClient, query: dict[str, Any], aggregations: list[dict[str, Any]]) -> Any:
    """The names of the result, in order, and the numbers about it; or the refusal."""
    parent = f"{client._database_string}/documents"
    try:
        stream = await api(client).run_query(request={"parent": parent, "structured_query": query})
        names = [r.document.name.partition("/documents/")[2] async for r in stream if r.document.name]
        counted = await api(client).run_aggregation_query(
            request={
                "parent": parent,
                "structured_aggregation_query": {"structured_query": query, "aggregations": aggregations},
            }
        )
        (numbers,) = [response async for response in counted]
        return names, {alias: str(value) for alias, value in numbers.result.aggregate_fields.items()}
    except exceptions.GoogleAPICallError as exc:
        return type(exc).__name__


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,  # so that a corner found by chance does not fail somebody else's change
    phases=[Phase.generate],  # shrinking over the network takes minutes; the query in the message is readable
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(bodies=documents, asked=st.lists(st.tuples(queries(), aggregations), min_size=3, max_size=6))
async def test_queries_get_the_same_answers(
    embedded_address: str,
    official_address: str,
    bodies: dict[str, Any],
    asked: list[tuple[dict[str, Any], list[dict[str, Any]]]],
) -> None:
    project = f"t-{uuid4().hex}"
    clients = [reconnect(address, project) for address in (embedded_address, official_address)]
    for client in clients:
        batch = client.batch()
        for path, body in bodies.items():
            batch.set(client.document(path), body)
        await batch.commit()
    for query, numbers in asked:
        own, official = [await answer(client, query, numbers) for client in clients]
        assert own == official, (query, numbers)
