"""The objects of the cluster: what the API server, the node and the controllers all read, change and watch."""

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from infra.emulators.kubernetes.history import WINDOW, Event, History, Watch
from infra.emulators.kubernetes.kinds import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, NODES, PODS, Kind, Kinds, kinds_of
from infra.emulators.kubernetes.objects_file import Key, ObjectsFile
from infra.emulators.kubernetes.statuses import AlreadyExists, BadRequest, Conflict, NotFound

Object = dict[str, Any]
T = TypeVar("T")

MODIFIED: Final = (
    "the object has been modified; please apply your changes to the latest version and try again"  # the real words
)
_FINALIZER_OF = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}
DEFAULT_GRACE_S: Final = 30


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
        metadata["creationTimestamp"] = self._now()
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
        self._check(kind, old, metadata.get("uid"), metadata.get("resourceVersion"))
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
        _keep_metadata(obj["metadata"], old["metadata"])
        self.rules.update(kind, obj, copied(old), subresource)
        if kind.generation and _specified(obj) != _specified(old):
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
        self._check_preconditions(kind, old, uid, resource_version)
        self.rules.delete(kind, copied(old))
        obj = copied(old)
        metadata = obj["metadata"]
        if "deletionTimestamp" not in metadata and (finalizer := _FINALIZER_OF.get(propagation or "")):
            finalizers = metadata.setdefault("finalizers", [])
            if finalizer not in finalizers:
                finalizers.append(finalizer)
        grace = _grace(kind, obj, grace_s)
        if "deletionTimestamp" not in metadata or grace < metadata.get("deletionGracePeriodSeconds", 0):
            self._mark(kind, obj, grace)
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

    def _now(self) -> str:
        return timestamp(self._clock())

    def _mark(self, kind: Kind, obj: Object, grace_s: int) -> None:
        metadata = obj["metadata"]
        metadata["deletionTimestamp"] = timestamp(self._clock() + timedelta(seconds=grace_s))
        metadata["deletionGracePeriodSeconds"] = grace_s
        if kind.resource == NAMESPACES.resource:
            obj.setdefault("status", {})["phase"] = "Terminating"
        if "generation" in metadata:
            metadata["generation"] += 1

    def _check(self, kind: Kind, old: Object, uid: str | None, resource_version: str | None) -> None:
        metadata = old["metadata"]
        if uid and uid != metadata["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}"
            raise Conflict(kind, metadata["name"], why)
        if resource_version and resource_version != metadata["resourceVersion"]:
            parse_revision(resource_version)
            raise Conflict(kind, metadata["name"], MODIFIED)

    def _check_preconditions(self, kind: Kind, old: Object, uid: str | None, resource_version: str | None) -> None:
        metadata = old["metadata"]
        if uid and uid != metadata["uid"]:
            raise Conflict(
                kind,
                metadata["name"],
                f"the UID in the precondition ({uid}) does not match the UID in record ({metadata['uid']}). "
                "The object might have been deleted and then recreated",
            )
        if resource_version and resource_version != metadata["resourceVersion"]:
            raise Conflict(
                kind,
                metadata["name"],
                f"the ResourceVersion in the precondition ({resource_version}) does not match the ResourceVersion in "
                f"record ({metadata['resourceVersion']}). The object might have been modified",
            )

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


def timestamp(moment: datetime) -> str:
    """metav1.Time: whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_revision(text: str | None) -> int:
    """Raises BadRequest."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 20:
        raise BadRequest(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def _keep_metadata(new: Object, old: Object) -> None:
    """What a client cannot change."""
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
        new.pop(field, None)
        if field in old:
            new[field] = old[field]
    new["resourceVersion"] = old["resourceVersion"]
    if "generateName" in old:
        new.setdefault("generateName", old["generateName"])
    if "namespace" in old:
        new["namespace"] = old["namespace"]
    if "managedFields" not in new and "managedFields" in old:
        new["managedFields"] = old["managedFields"]


def _specified(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status", "apiVersion", "kind")}


def _grace(kind: Kind, obj: Object, wanted_s: int | None) -> int:
    if kind.resource != PODS.resource:
        return 0
    spec, status = obj.get("spec", {}), obj.get("status", {})
    if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
        return 0
    grace = wanted_s if wanted_s is not None else spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    return max(int(grace), 1) if grace < 0 else int(grace)


def ended(kind: Kind, obj: Object) -> bool:
    """Whether an object that is being deleted has nothing that holds it any more: it is gone, or goes now."""
    metadata = obj["metadata"]
    held = metadata.get("finalizers") or (
        kind.resource == NAMESPACES.resource and obj.get("spec", {}).get("finalizers")
    )
    return "deletionTimestamp" in metadata and not metadata.get("deletionGracePeriodSeconds") and not held
