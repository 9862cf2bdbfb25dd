"""Indexes find what a full scan finds, at a cost that grows with the answer."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1._helpers import encode_value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.emulators.firestore import execute, indexes, names, query, writes
from infra.emulators.firestore.storage import Storage

DATABASE = "projects/p/databases/(default)"
ROOT = f"{DATABASE}/documents"
FIELDS = ("a", "b")
PATHS = [f"c/{name}" for name in "pqrst"] + ["c/p/c/q", "d/x/c/r"]

scalars = st.sampled_from([None, True, math.nan, 0, 1, 1.0, 1.5, "", "a"])
bodies = st.fixed_dictionaries(
    {}, optional={name: st.one_of(scalars, st.lists(scalars, max_size=2)) for name in FIELDS}
)
steps = st.lists(st.tuples(st.sampled_from(PATHS), st.one_of(st.none(), bodies)), min_size=4, max_size=20)
conditions = st.tuples(st.sampled_from(FIELDS), st.sampled_from(["<", "<=", ">", ">=", "==", "[]", "in"]), scalars)
OPERATORS = {"<": 1, "<=": 2, ">": 3, ">=": 4, "==": 5, "[]": 7, "in": 8}


@contextmanager
def storage_at(path: Path) -> Iterator[Storage]:
    storage = Storage(path)
    try:
        yield storage
    finally:
        storage.close()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with storage_at(tmp_path / "firestore.sqlite") as opened:
        yield opened


def write(path: str, body: dict[str, Any] | None) -> Any:
    if body is None:
        return types.Write(delete=f"{ROOT}/{path}")._pb
    fields = {name: encode_value(value) for name, value in body.items()}
    return types.Write(update=types.Document(name=f"{ROOT}/{path}", fields=fields))._pb


def store(storage: Storage, *batch: Any) -> None:
    with storage.commit():
        writes.apply(storage, DATABASE, batch, storage.tick())


def structured(
    where: list[tuple[str, str, Any]], order: list[tuple[str, int]], limit: int | None = None, *, group: bool = False
) -> query.Query:
    filters = [
        {
            "field_filter": {
                "field": {"field_path": path},
                "op": OPERATORS[op],
                "value": encode_value([value, 1] if op == "in" else value),
            }
        }
        for path, op, value in where
    ]
    asked = types.StructuredQuery(
        from_=[{"collection_id": "c", "all_descendants": group}],
        where={"composite_filter": {"op": 1, "filters": filters}},
        order_by=[{"field": {"field_path": path}, "direction": direction} for path, direction in order],
        limit=limit,
    )
    return query.read(ROOT, asked._pb)


def brute_force(storage: Storage, asked: query.Query) -> list[str]:
    root = names.parent(ROOT)
    found = [document for collection in storage.below(root) for document in storage.scan(collection)]
    mine = [d for d in found if asked.in_scope(names.document(d.name)) and asked.matches(d)]
    return [document.name for document in sorted(mine, key=asked.place)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=steps,
    after=steps,
    where=st.lists(conditions, max_size=3).filter(lambda listed: sum(op == "[]" for _, op, _ in listed) < 2),
    order=st.lists(st.tuples(st.sampled_from(FIELDS), st.integers(1, 2)), max_size=2, unique_by=lambda pair: pair[0]),
    group=st.booleans(),
)
def test_an_index_finds_what_a_scan_finds_also_after_later_writes(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[str, Any]],
    after: list[tuple[str, Any]],
    where: list[tuple[str, str, Any]],
    order: list[tuple[str, int]],
    group: bool,
) -> None:
    asked = structured(where, order, group=group)
    with storage_at(tmp_path_factory.mktemp("indexes") / "firestore.sqlite") as storage:
        for round_of in (before, after):
            for path, body in round_of:
                store(storage, write(path, body))
            found = [document.name for document in execute.run(storage, asked, {})]
            assert found == brute_force(storage, asked)


def steps_of(work: Callable[[], object]) -> int:
    """Calls of Python functions that this takes: a cost without a clock."""
    count = 0

    def tracer(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(tracer)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_the_cost_of_a_query_grows_with_its_answer_not_with_the_collection(storage: Storage) -> None:
    asked = structured([("owner", "==", "me"), ("on", "==", True)], [("n", 2)], limit=5)
    costs = []
    for start in (0, 100, 1000):
        store(
            storage,
            *(
                write(f"c/{n}", {"owner": "me" if n % 10 == 0 else "you", "on": n % 20 == 0, "n": n})
                for n in range(start, start * 2 or 100)
            ),
        )
        execute.run(storage, asked, {})  # makes the index the first time
        costs.append(steps_of(lambda: execute.run(storage, asked, {})))
    assert max(costs) <= min(costs) * 1.2


def test_an_old_shape_makes_room_for_a_new_one(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "MAX_SHAPES", 2)
    store(storage, *(write(f"c/{n}", {"a": n, "b": -n}) for n in range(5)))
    for order in ([("a", 1)], [("b", 1)], [("a", 1), ("b", 2)], [("a", 1)]):
        asked = structured([], order)
        assert [document.name for document in execute.run(storage, asked, {})] == brute_force(storage, asked)


def test_commit_times_never_repeat_also_when_the_clock_stands(tmp_path: Path) -> None:
    with storage_at(tmp_path / "firestore.sqlite") as storage:
        times = [storage.tick() for _ in range(1000)]
        ahead = times[-1] + 3_600_000_000
        storage._last_us = ahead  # the wall clock was an hour ahead, then set right
        store(storage, write("c/a", {"a": 1}))
    with storage_at(tmp_path / "firestore.sqlite") as storage:
        assert storage.tick() > ahead
    assert len(set(times)) == len(times)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "firestore.sqlite"
    with storage_at(path) as storage:
        storage._db.execute("PRAGMA user_version=99")
    with pytest.raises(RuntimeError, match="format 99"):
        Storage(path)
