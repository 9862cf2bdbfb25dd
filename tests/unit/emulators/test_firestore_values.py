"""The byte encoding of values, against the order that the official client itself uses for listeners."""

import math
from datetime import UTC, datetime
from typing import Any

from google.cloud import firestore
from google.cloud.firestore_v1._helpers import encode_value
from google.cloud.firestore_v1.order import Order
from google.cloud.firestore_v1.vector import Vector
from hypothesis import given
from hypothesis import strategies as st

from infra.emulators.firestore import names, values

edges = st.sampled_from(
    [0, -0.0, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), float(2**63), math.inf, -math.inf]
)
text = st.text(alphabet=["\x00", "\x01", "a", "b", "é", "\uffff", "😀"], max_size=3)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    edges,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    text,
    st.binary(max_size=3),
    st.datetimes(timezones=st.just(UTC)),
    st.builds(firestore.GeoPoint, st.floats(-90, 90), st.floats(-180, 180)),
    st.lists(st.floats(-2, 2), min_size=1, max_size=3).map(Vector),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=4,
)


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


@given(anything, anything)
def test_encodings_compare_as_the_official_client_does(one: Any, other: Any) -> None:
    left, right = encode_value(one), encode_value(other)
    a, b = values.encode(left._pb), values.encode(right._pb)
    assert sign((a > b) - (a < b)) == sign(Order.compare(left, right))


@given(anything, anything)
def test_encodings_are_prefix_free_so_inverting_them_turns_the_order(one: Any, other: Any) -> None:
    a, b = (values.encode(encode_value(value)._pb) for value in (one, other))
    assert a == b or not a.startswith(b)
    assert (a < b) == (values.invert(b) < values.invert(a))


@given(st.lists(text.filter(bool), min_size=1, max_size=4), st.lists(text.filter(bool), min_size=1, max_size=4))
def test_paths_sort_by_segments_and_can_be_read_back(one: list[str], other: list[str]) -> None:
    a, b = names.encode(tuple(one)), names.encode(tuple(other))
    assert (a < b) == ([s.encode() for s in one] < [s.encode() for s in other])
    assert names.first_segment(a)[0] == one[0]


def test_numeric_ids_come_before_text_and_sort_by_number() -> None:
    ids = ["__id-5__", "__id7__", "__id10__", " ", "a"]
    assert sorted(set(ids), key=names.encode_segment) == ids
    assert names.first_segment(names.encode(("__id-5__", "x")))[0] == "__id-5__"


def test_the_documented_example_has_its_documented_size() -> None:
    """cloud.google.com/firestore/docs/storage-size#document_size"""
    fields = encode_value(
        {"type": "Personal", "done": False, "priority": 1, "description": "Learn Cloud Firestore"}
    )._pb.map_value.fields
    assert values.document_size(("users", "jeff", "tasks", "my_task_id"), fields) == 147


def test_times_order_before_and_after_the_epoch() -> None:
    moments = [datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    encoded = [values.encode(encode_value(moment)._pb) for moment in moments]
    assert encoded == sorted(encoded)
