"""The store of objects as controllers use it: watches, finalizers, grace, restarts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from infra.emulators.kubernetes.kinds import CONFIG_MAPS, NAMESPACES, PODS
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.statuses import AlreadyExists, Conflict, Gone, NotFound


@pytest_asyncio.fixture
async def objects(tmp_path: Path) -> AsyncIterator[Objects]:
    store = Objects(tmp_path / "objects.sqlite", window=8)
    yield store
    store.close()


def a_map(name: str = "a", **metadata: object) -> Object:
    return {"metadata": {"name": name, "namespace": "n", **metadata}, "data": {"k": "1"}}


async def test_what_is_handed_out_is_the_callers_own(objects: Objects) -> None:
    made = await objects.create(CONFIG_MAPS, a_map())
    made["data"]["k"] = "2"
    found, _ = objects.list(CONFIG_MAPS, "n")
    found[0]["data"]["k"] = "3"
    assert objects.get(CONFIG_MAPS, "n", "a")["data"] == {"k": "1"}


async def test_a_name_is_taken_in_its_namespace_only(objects: Objects) -> None:
    await objects.create(CONFIG_MAPS, a_map())
    await objects.create(CONFIG_MAPS, a_map(namespace="m"))
    with pytest.raises(AlreadyExists):
        await objects.create(CONFIG_MAPS, a_map())


async def test_one_of_two_who_saw_the_same_version_loses(objects: Objects) -> None:
    seen = await objects.create(CONFIG_MAPS, a_map())
    await objects.update(CONFIG_MAPS, {**seen, "data": {"k": "2"}})
    with pytest.raises(Conflict):
        await objects.update(CONFIG_MAPS, {**seen, "data": {"k": "3"}})


async def test_the_status_alone_does_not_count_as_a_generation(objects: Objects) -> None:
    pod = await objects.create(PODS, {"metadata": {"name": "p", "namespace": "n"}, "spec": {"a": 1}})
    pod = await objects.update(PODS, {**pod, "status": {"phase": "Running"}, "spec": {"a": 2}}, status=True)
    assert (pod["spec"], pod["metadata"]["generation"]) == ({"a": 1}, 1)
    pod = await objects.update(PODS, {**pod, "spec": {"a": 2}, "status": {}})
    assert (pod["status"], pod["metadata"]["generation"]) == ({"phase": "Running"}, 2)


async def test_a_watch_begins_with_what_there_is_and_goes_on(objects: Objects) -> None:
    await objects.create(CONFIG_MAPS, a_map())
    watch = objects.watch(CONFIG_MAPS)
    assert (await anext(watch)).type == "ADDED"
    await objects.create(PODS, {"metadata": {"name": "p", "namespace": "n"}})
    await objects.delete(CONFIG_MAPS, "n", "a")
    event = await anext(watch)
    assert (event.type, event.kind, event.object["metadata"]["name"]) == ("DELETED", CONFIG_MAPS, "a")


async def test_a_watch_of_all_kinds_sees_them_in_order(objects: Objects) -> None:
    watch = objects.watch(None, objects.resource_version)
    await objects.create(CONFIG_MAPS, a_map())
    await objects.create(PODS, {"metadata": {"name": "p", "namespace": "n"}})
    assert [(await anext(watch)).kind for _ in range(2)] == [CONFIG_MAPS, PODS]


async def test_a_watch_that_falls_behind_the_window_is_gone(objects: Objects) -> None:
    slow = objects.open_watch(CONFIG_MAPS, objects.resource_version)
    for number in range(12):
        await objects.create(CONFIG_MAPS, a_map(f"m{number}"))
    with pytest.raises(Gone):
        slow.ready()
    with pytest.raises(Gone):
        objects.watch(CONFIG_MAPS, "1")


async def test_the_past_can_be_read_within_the_window(objects: Objects) -> None:
    first = await objects.create(CONFIG_MAPS, a_map())
    await objects.update(CONFIG_MAPS, {**first, "data": {"k": "2"}})
    await objects.create(CONFIG_MAPS, a_map("b"))
    await objects.delete(CONFIG_MAPS, "n", "a")
    (past,) = objects.at(CONFIG_MAPS, "n", int(first["metadata"]["resourceVersion"]))
    assert past == first


async def test_the_last_finalizer_ends_what_is_being_deleted(objects: Objects) -> None:
    await objects.create(CONFIG_MAPS, a_map(finalizers=["x/hold"]))
    held = await objects.delete(CONFIG_MAPS, "n", "a", propagation="Foreground")
    assert held["metadata"]["finalizers"] == ["x/hold", "foregroundDeletion"]
    held["metadata"]["finalizers"] = []
    await objects.update(CONFIG_MAPS, held)
    with pytest.raises(NotFound):
        objects.get(CONFIG_MAPS, "n", "a")


async def test_a_namespace_waits_for_its_own_finalizer(objects: Objects) -> None:
    await objects.create(NAMESPACES, {"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}})
    ending = await objects.delete(NAMESPACES, None, "n")
    assert ending["status"]["phase"] == "Terminating"
    await objects.update(NAMESPACES, {**ending, "spec": {"finalizers": []}}, subresource="finalize")
    assert objects.list(NAMESPACES)[0] == []


async def test_a_pod_that_was_never_bound_goes_at_once(objects: Objects) -> None:
    await objects.create(PODS, {"metadata": {"name": "p", "namespace": "n"}, "spec": {}})
    await objects.delete(PODS, "n", "p")
    assert objects.list(PODS)[0] == []


async def test_a_restart_finds_all_and_never_counts_back(tmp_path: Path) -> None:
    path = tmp_path / "objects.sqlite"
    before = Objects(path)
    kept = await before.create(CONFIG_MAPS, a_map())
    await before.create(CONFIG_MAPS, a_map("b"))
    last = await before.delete(CONFIG_MAPS, "n", "b")
    before.close()
    after = Objects(path)
    try:
        assert after.list(CONFIG_MAPS) == ([kept], last["metadata"]["resourceVersion"])
        made = await after.create(CONFIG_MAPS, a_map("c"))
        assert int(made["metadata"]["resourceVersion"]) > int(last["metadata"]["resourceVersion"])
    finally:
        after.close()
