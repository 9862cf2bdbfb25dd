"""The objects of the cluster: what the API server, the node and the controllers all read, change and watch."""

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from infra.emulators.kubernetes.history import WINDOW, Event, History, Watch, parse_revision
from infra.emulators.kubernetes.kinds import CUSTOM_RESOURCE_DEFINITIONS, NODES, PODS, Kind, Kinds, kinds_of
from infra.emulators.kubernetes.lifecycle import (
    check_is_newest,
    check_preconditions,
    ended,
    keep_metadata,
    mark_deleted,
    specified,
)
from infra.emulators.kubernetes.moments import timestamp
from infra.emulators.kubernetes.objects_file import Key, ObjectsFile
from infra.emulators.kubernetes.statuses import AlreadyExists, NotFound

Object = dict[str, Any]
T = TypeVar("T")


class Rules(Protocol):
    """Defaults, admission and validation; each may change `obj` and raises what the client is told."""

    def create(self, kind: Kind, obj: Object) -> None: ...

    def update(self, kind: Kind, obj: Object, old: Object, subresource: str) -> None: ...

    def delete(self, kind: Kind, obj: Object) -> None: ...


class NoRules:
    def create(self, kind: Kind, obj: Object) -> None:
        pass

    def update(self, kind: Kind, obj: Object, old: Object, subresource: str) -> None:
        pass

    def delete(self, kind: Kind, obj: Object) -> None:
        pass


class Objects:
    """In memory, written through to `path`. A change is visible at once, and on disk when its call returns.

    Checking and changing are one step: no other task comes between a rule's look at the objects and the change.
    What is handed out is the caller's own copy, except the objects of `open_watch`.
    """

    def __init__(
        self,
        path: Path,
        *,
        rules: Rules | None = None,
        window: int = WINDOW,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.kinds = Kinds()
        self.rules: Rules = rules or NoRules()
        self._clock = clock
        self._file = ObjectsFile(path)
        self._revision, stored = self._file.load()
        self._revision = max(self._revision, 1)  # 0 stands for "any" in requests
        self._objects: dict[str, dict[tuple[str, str], Object]] = {}
        for (resource, namespace, name), obj in stored:
            self._objects.setdefault(resource, {})[namespace, name] = obj
        for definition in self._objects.get(CUSTOM_RESOURCE_DEFINITIONS.resource, {}).values():
            self.kinds.add(*kinds_of(definition))
        self._history = History(self._revision, window)

    def close(self) -> None:
        self._file.close()

    @property
    def resource_version(self) -> str:
        return str(self._revision)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Raises NotFound."""
        return copied(self._stored(kind, namespace, name))

    def at(self, kind: Kind, namespace: str, revision: int) -> list[Object]:
        """The objects of a past resourceVersion. Raises Gone."""
        found = dict(self._objects.get(kind.resource, {}))
        for event in reversed(self._history.after(revision)):
            if event.kind.resource == kind.resource:
                metadata = event.object["metadata"]
                key = metadata.get("namespace", ""), metadata["name"]
                if event.before is None:
                    del found[key]
                else:
                    found[key] = event.before
        return [copied(found[key]) for key in sorted(found) if not namespace or key[0] == namespace]

    def list(self, kind: Kind, namespace: str | None = None) -> tuple[list[Object], str]:
        """Objects by namespace and name (None or "": of all namespaces), and the resourceVersion of the list."""
        found = self._objects.get(kind.resource, {})
        keys = sorted(key for key in found if not namespace or key[0] == namespace)
        return [copied(found[key]) for key in keys], self.resource_version

    async def create(self, kind: Kind, obj: Object, *, dry_run: bool = False) -> Object:
        """As it was stored, with uid, creationTimestamp and resourceVersion.

        Raises AlreadyExists, and what rules raise.
        """
        obj = copied(obj)
        metadata = obj.setdefault("metadata", {})
        obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
        for field in ("uid", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(field, None)
        if kind.has_status and kind.resource != NODES.resource:  # a kubelet registers its node with its status
            obj.pop("status", None)
        self.rules.create(kind, obj)
        key = self._key(kind, metadata.get("namespace"), metadata["name"])
        if key[1:] in self._objects.get(kind.resource, {}):
            raise AlreadyExists(kind, metadata["name"])
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = timestamp(self._clock())
        if kind.generation:
            metadata["generation"] = 1
        return await self._put(key, kind, obj, None, dry_run=dry_run)

    async def update(
        self, kind: Kind, obj: Object, *, status: bool = False, subresource: str = "", dry_run: bool = False
    ) -> Object:
        """Replace the object: all but its status. `status`: that alone; the subresource of that name: and metadata.

        An object that is being deleted goes with its last finalizer. Raises NotFound, Conflict (resourceVersion is
        given and is not the newest), and what rules raise.
        """
        subresource = "status" if status else subresource
        obj = copied(obj)
        metadata = obj["metadata"]
        key = self._key(kind, metadata.get("namespace"), metadata["name"])
        old = self._stored(kind, metadata.get("namespace"), metadata["name"])
        check_is_newest(kind, old, metadata.get("uid"), metadata.get("resourceVersion"))
        if subresource == "status":
            seen = metadata if kind.status_has_metadata and not status else copied(old["metadata"])
            if "managedFields" in metadata:
                seen["managedFields"] = metadata["managedFields"]
            if kind.resource == PODS.resource:  # kubelets got them wrong once
                seen = {**seen, "ownerReferences": old["metadata"].get("ownerReferences")}
                seen = {key: value for key, value in seen.items() if value is not None}
            obj = {**copied(old), "metadata": seen, "status": obj.get("status", {})}
        elif kind.has_status:
            obj.pop("status", None)
            if "status" in old:
                obj["status"] = copied(old["status"])
        obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
        keep_metadata(obj["metadata"], old["metadata"])
        self.rules.update(kind, obj, copied(old), subresource)
        if kind.generation and specified(obj) != specified(old):
            obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if ended(kind, obj):
            return await self._remove(key, kind, obj, dry_run=dry_run)
        if {**obj, "apiVersion": ""} == {**old, "apiVersion": ""}:
            return obj  # as the real server: no write, no event
        return await self._put(key, kind, obj, old, dry_run=dry_run)

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        grace_s: int | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """The object's last state: gone, unless its finalizers or a Pod's grace hold it (deletionTimestamp is set).

        Raises NotFound, Conflict (of the preconditions).
        """
        old = self._stored(kind, namespace, name)
        key = self._key(kind, namespace, name)
        check_preconditions(kind, old, uid, resource_version)
        self.rules.delete(kind, copied(old))
        obj = copied(old)
        mark_deleted(kind, obj, grace_s, propagation, self._clock())
        if ended(kind, obj):
            return await self._remove(key, kind, obj, dry_run=dry_run)
        if obj == old:
            return obj
        return await self._put(key, kind, obj, old, dry_run=dry_run)

    def open_watch(self, kind: Kind | None, since: str | None = None) -> Watch:
        """Changes after the resourceVersion `since`; None or "0": first what there is, as ADDED, then changes.

        Raises Gone (410).
        """
        if since not in (None, "", "0"):
            return Watch(self._history, kind.resource if kind else None, [], parse_revision(since))
        initial: list[Event] = []
        for resource, found in self._objects.items():
            if kind is None or resource == kind.resource:
                for key in sorted(found):
                    obj = found[key]
                    if of := kind or self.kinds.of_object(obj["apiVersion"], obj["kind"]):
                        initial.append(Event("ADDED", of, obj, int(obj["metadata"]["resourceVersion"])))
        return Watch(self._history, kind.resource if kind else None, initial, self._revision)

    def watch(self, kind: Kind | None, since: str | None = None) -> AsyncIterator[Event]:
        """As `open_watch`, with copies, without end. Raises Gone (410), also later: it was read too slowly."""
        return self.open_watch(kind, since).events(copied)

    def _stored(self, kind: Kind, namespace: str | None, name: str) -> Object:
        found = self._objects.get(kind.resource, {}).get(self._key(kind, namespace, name)[1:])
        if found is None:
            raise NotFound(kind, name)
        return found

    @staticmethod
    def _key(kind: Kind, namespace: str | None, name: str) -> Key:
        return kind.resource, (namespace or "") if kind.namespaced else "", name

    async def _put(self, key: Key, kind: Kind, obj: Object, old: Object | None, *, dry_run: bool) -> Object:
        if dry_run:
            return obj
        self._revision += 1
        obj["metadata"]["resourceVersion"] = str(self._revision)
        self._objects.setdefault(key[0], {})[key[1:]] = obj
        self._define(kind, obj, old)
        self._history.add(Event("MODIFIED" if old else "ADDED", kind, obj, self._revision, old))
        await self._file.put(key, obj, self._revision)
        return copied(obj)

    async def _remove(self, key: Key, kind: Kind, obj: Object, *, dry_run: bool) -> Object:
        if dry_run:
            return obj
        self._revision += 1
        before = self._objects[key[0]].pop(key[1:])
        obj["metadata"]["resourceVersion"] = str(self._revision)
        if kind.resource == CUSTOM_RESOURCE_DEFINITIONS.resource:
            self.kinds.discard(obj["spec"]["group"], obj["spec"]["names"]["plural"])
        self._history.add(Event("DELETED", kind, obj, self._revision, before))
        await self._file.remove(key, self._revision)
        return copied(obj)

    def _define(self, kind: Kind, obj: Object, old: Object | None) -> None:
        if kind.resource == CUSTOM_RESOURCE_DEFINITIONS.resource:
            if old:
                self.kinds.discard(old["spec"]["group"], old["spec"]["names"]["plural"])
            self.kinds.add(*kinds_of(obj))


def copied(value: T) -> T:
    """A copy of JSON; copy.deepcopy takes ten times as long."""
    copy: Any = _copied(value)
    return copy  # type: ignore[no-any-return]


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_copied(member) for member in value]
    return value
