"""Owner references: what belongs to an object goes when that has gone, or before it where it waits for that."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.statuses import NotFound, StatusError

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"


class Garbage:
    """An owner is in the namespace of what it owns, or in none."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def gone(self, owner: Object) -> None:
        """`owner` is no longer stored."""
        for kind, obj in self._dependents(owner):
            with contextlib.suppress(StatusError):
                await self.collect(kind, obj, gone=owner["metadata"]["uid"])
        await self._look_after_owners(owner)

    async def collect(self, kind: Kind, seen: Object, *, gone: str = "") -> None:
        """Delete an object that has owners, none of which is there any more; `gone`: the uid of one that is not.

        An owner of a kind that is not served may be there: nobody can tell. Raises StatusError.
        """
        namespace, name, uid = (seen["metadata"].get(field) for field in ("namespace", "name", "uid"))
        obj = self._objects.get(kind, namespace, name)  # somebody may have taken it over since it was seen
        metadata = obj["metadata"]
        owners = metadata.get("ownerReferences") or []
        if not owners or "deletionTimestamp" in metadata or metadata["uid"] != uid:
            return
        alive = [one for one in owners if one["uid"] != gone and self._may_be_there(namespace, one)]
        if not alive:
            await self._objects.delete(kind, namespace, name, uid=uid, propagation="Background")
        elif len(alive) < len(owners):
            metadata["ownerReferences"] = alive
            await self._objects.update(kind, obj)

    async def holds(self, kind: Kind, obj: Object) -> None:
        """An owner that is being deleted with finalizers of ours. Raises StatusError."""
        metadata = obj["metadata"]
        finalizers = metadata.get("finalizers") or []
        if ORPHAN in finalizers:
            for of, dependent in self._dependents(obj):
                owners = dependent["metadata"]["ownerReferences"]
                dependent["metadata"]["ownerReferences"] = [one for one in owners if one["uid"] != metadata["uid"]]
                await self._objects.update(of, dependent)
            await self._release(kind, obj, ORPHAN)
        elif FOREGROUND in finalizers:
            blocking = False
            for of, dependent in self._dependents(obj):
                mine = [one for one in dependent["metadata"]["ownerReferences"] if one["uid"] == metadata["uid"]]
                blocking = blocking or any(one.get("blockOwnerDeletion") for one in mine)
                if "deletionTimestamp" not in dependent["metadata"]:
                    place = dependent["metadata"].get("namespace"), dependent["metadata"]["name"]
                    with contextlib.suppress(NotFound):
                        await self._objects.delete(of, *place, propagation="Foreground")
            if not blocking or not any(True for _ in self._dependents(obj)):
                await self._release(kind, obj, FOREGROUND)

    async def _look_after_owners(self, dependent: Object) -> None:
        """A dependent has gone: its owner may have waited for that."""
        metadata = dependent["metadata"]
        for reference in metadata.get("ownerReferences") or ():
            found = self._owner(metadata.get("namespace"), reference)
            if found and "deletionTimestamp" in found[1]["metadata"]:
                with contextlib.suppress(StatusError):
                    await self.holds(*found)

    async def _release(self, kind: Kind, obj: Object, finalizer: str) -> None:
        metadata = obj["metadata"]
        current = self._objects.get(kind, metadata.get("namespace"), metadata["name"])
        kept = [one for one in current["metadata"].get("finalizers") or () if one != finalizer]
        current["metadata"]["finalizers"] = kept
        await self._objects.update(kind, current)

    def _may_be_there(self, namespace: str | None, reference: dict[str, Any]) -> bool:
        served = self._objects.kinds.of_object(reference["apiVersion"], reference["kind"])
        return served is None or self._owner(namespace, reference) is not None

    def _owner(self, namespace: str | None, reference: dict[str, Any]) -> tuple[Kind, Object] | None:
        kind = self._objects.kinds.of_object(reference["apiVersion"], reference["kind"])
        if kind is None:
            return None
        try:
            obj = self._objects.get(kind, namespace if kind.namespaced else None, reference["name"])
        except NotFound:
            return None
        return (kind, obj) if obj["metadata"]["uid"] == reference["uid"] else None

    def _dependents(self, owner: Object) -> Iterator[tuple[Kind, Object]]:
        """Each as it is when it is its turn."""
        metadata = owner["metadata"]
        looked_at: set[str] = set()  # versions of a kind share their objects
        for kind in self._objects.kinds:
            if kind.resource in looked_at:
                continue
            looked_at.add(kind.resource)
            namespace = metadata.get("namespace") if kind.namespaced else None
            for seen in self._objects.list(kind, namespace)[0]:
                if _owned(seen, metadata["uid"]):
                    with contextlib.suppress(NotFound):
                        obj = self._objects.get(kind, seen["metadata"].get("namespace"), seen["metadata"]["name"])
                        if _owned(obj, metadata["uid"]):
                            yield kind, obj


def _owned(obj: Object, uid: str) -> bool:
    return any(one["uid"] == uid for one in obj["metadata"].get("ownerReferences") or ())
