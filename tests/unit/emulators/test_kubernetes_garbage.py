"""What belongs to an object goes with it, and what may belong to something, or has gone over to another, stays."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from infra.emulators.kubernetes.garbage import FOREGROUND, ORPHAN, Garbage
from infra.emulators.kubernetes.kinds import CONFIG_MAPS, PODS, Kind
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.statuses import NotFound


@pytest_asyncio.fixture
async def objects(tmp_path: Path) -> AsyncIterator[Objects]:
    store = Objects(tmp_path / "objects.sqlite")
    yield store
    store.close()


def reference(owner: Object, **more: object) -> Object:
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        **more,
    }


async def a_map(objects: Objects, name: str, *owners: Object) -> Object:
    metadata = {"name": name, "namespace": "n", **({"ownerReferences": list(owners)} if owners else {})}
    return await objects.create(CONFIG_MAPS, {"metadata": metadata})


def names(objects: Objects, kind: Kind = CONFIG_MAPS) -> list[str]:
    return [one["metadata"]["name"] for one in objects.list(kind, "n")[0]]


async def test_what_an_owner_had_goes_when_that_has_gone(objects: Objects) -> None:
    owner = await a_map(objects, "owner")
    await a_map(objects, "owned", reference(owner))
    await Garbage(objects).gone(await objects.delete(CONFIG_MAPS, "n", "owner"))
    assert names(objects) == []


async def test_an_owner_of_a_kind_that_is_not_served_may_be_there(objects: Objects) -> None:
    stranger = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u"}
    owned = await a_map(objects, "owned", stranger)
    await Garbage(objects).collect(CONFIG_MAPS, owned)
    assert names(objects) == ["owned"]


async def test_what_a_custom_object_had_goes_though_its_kind_is_no_longer_served(objects: Objects) -> None:
    owner = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "n", "uid": "u"}}
    await a_map(objects, "owned", reference(owner))
    await Garbage(objects).gone(owner)
    assert names(objects) == []


async def test_what_was_taken_over_meanwhile_stays(objects: Objects) -> None:
    former, new = await a_map(objects, "former"), await a_map(objects, "new")
    seen = await a_map(objects, "owned", reference(former))
    taken = {**seen, "metadata": {**seen["metadata"], "ownerReferences": [reference(new)]}}
    await objects.update(CONFIG_MAPS, taken)
    await objects.delete(CONFIG_MAPS, "n", "former")
    await Garbage(objects).collect(CONFIG_MAPS, seen)
    assert names(objects) == ["new", "owned"]


async def test_what_is_named_anew_is_another(objects: Objects) -> None:
    seen = await a_map(objects, "owned", {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"})
    await objects.delete(CONFIG_MAPS, "n", "owned")
    await a_map(objects, "owned")
    await Garbage(objects).collect(CONFIG_MAPS, seen)
    assert names(objects) == ["owned"]


async def test_orphans_are_let_go_although_one_changes_meanwhile(objects: Objects) -> None:
    pod = await objects.create(PODS, {"metadata": {"name": "p", "namespace": "n"}, "spec": {}})
    first, second = [await a_map(objects, name, reference(pod)) for name in ("a", "b")]
    held = await objects.delete(PODS, "n", "p", propagation="Orphan")
    assert held["metadata"]["finalizers"] == [ORPHAN]

    update = objects.update

    async def also(kind: Kind, obj: Object, **more: bool | str) -> Object:
        """Somebody changes the second one while the first is let go."""
        changed = await update(kind, obj, **more)  # type: ignore[arg-type]
        if obj["metadata"]["name"] == first["metadata"]["name"]:
            await update(CONFIG_MAPS, {**second, "data": {"k": "v"}})
        return changed

    objects.update = also  # type: ignore[method-assign]
    await Garbage(objects).holds(PODS, held)
    assert names(objects, PODS) == []
    assert not any(one["metadata"].get("ownerReferences") for one in objects.list(CONFIG_MAPS, "n")[0])


async def test_an_owner_waits_for_those_that_block_it(objects: Objects) -> None:
    owner = await a_map(objects, "owner")
    blocking = await a_map(objects, "owned", reference(owner, blockOwnerDeletion=True))
    finalized = {**blocking, "metadata": {**blocking["metadata"], "finalizers": ["example.com/hold"]}}
    await objects.update(CONFIG_MAPS, finalized)
    held = await objects.delete(CONFIG_MAPS, "n", "owner", propagation="Foreground")
    garbage = Garbage(objects)
    await garbage.holds(CONFIG_MAPS, held)
    assert objects.get(CONFIG_MAPS, "n", "owner")["metadata"]["finalizers"] == [FOREGROUND]
    owned = objects.get(CONFIG_MAPS, "n", "owned")
    owned["metadata"]["finalizers"] = []
    gone = await objects.update(CONFIG_MAPS, owned)
    with pytest.raises(NotFound):
        objects.get(CONFIG_MAPS, "n", "owned")
    await garbage.gone(gone)
    assert names(objects) == []
