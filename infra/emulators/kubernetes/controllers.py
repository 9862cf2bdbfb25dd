"""The controllers of the control plane, fed from one watch: namespaces, claims, owner references."""

from infra.emulators.kubernetes.claims import Claims
from infra.emulators.kubernetes.following import Following
from infra.emulators.kubernetes.garbage import Garbage
from infra.emulators.kubernetes.history import Event
from infra.emulators.kubernetes.kinds import EVENTS, NAMESPACES, PERSISTENT_VOLUME_CLAIMS, PODS
from infra.emulators.kubernetes.namespaces import Namespaces
from infra.emulators.kubernetes.objects import Objects, copied
from infra.emulators.kubernetes.statuses import NotFound


class Controllers(Following):
    def __init__(self, objects: Objects, namespaces: Namespaces, claims: Claims) -> None:
        super().__init__(objects, "controllers")
        self._namespaces = namespaces
        self._claims = claims
        self._garbage = Garbage(objects)

    async def _saw(self, events: list[Event]) -> None:
        for event in events:
            with self._going_on():
                await self._saw_one(event)

    async def _saw_one(self, event: Event) -> None:
        resource = event.kind.resource
        if resource == EVENTS.resource:
            return
        obj = copied(event.object)
        metadata = obj["metadata"]
        deleting = "deletionTimestamp" in metadata
        if event.type == "DELETED":
            if resource == PERSISTENT_VOLUME_CLAIMS.resource:
                await self._claims.released(obj)
            if resource == PODS.resource:
                await self._claims.saw_pods_change()
            await self._garbage.gone(obj)
            await self._namespace_may_be_empty(metadata.get("namespace"))
            return
        if resource == NAMESPACES.resource:
            await self._namespaces.saw(obj)
        elif resource == PERSISTENT_VOLUME_CLAIMS.resource:
            await self._claims.saw(obj)
        elif resource == PODS.resource and (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            await self._claims.saw_pods_change()
        if deleting and metadata.get("finalizers"):
            await self._garbage.holds(event.kind, obj)
        elif metadata.get("ownerReferences"):
            await self._garbage.collect(event.kind, obj)

    async def _namespace_may_be_empty(self, name: str | None) -> None:
        if not name:
            return
        try:
            namespace = self._objects.get(NAMESPACES, None, name)
        except NotFound:
            return
        if "deletionTimestamp" in namespace["metadata"]:
            await self._namespaces.empty(namespace)
