"""The controllers of the control plane, fed from one watch: namespaces, claims, owner references."""

import asyncio
import logging
from typing import Any

from infra.emulators.kubernetes.claims import Claims
from infra.emulators.kubernetes.garbage import Garbage
from infra.emulators.kubernetes.history import Event
from infra.emulators.kubernetes.kinds import EVENTS, NAMESPACES, PERSISTENT_VOLUME_CLAIMS, PODS
from infra.emulators.kubernetes.namespaces import Namespaces
from infra.emulators.kubernetes.objects import Objects, copied
from infra.emulators.kubernetes.statuses import Gone, NotFound, StatusError

log = logging.getLogger(__name__)


class Controllers:
    """An async context manager."""

    def __init__(self, objects: Objects, namespaces: Namespaces, claims: Claims) -> None:
        self._objects = objects
        self._namespaces = namespaces
        self._claims = claims
        self._garbage = Garbage(objects)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Controllers":
        self._task = asyncio.create_task(self._run(), name="controllers")
        return self

    async def __aexit__(self, *_: Any) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            watch = self._objects.open_watch(None)
            try:
                while True:
                    for event in await watch.next():
                        await self._tried(event)
            except Gone:
                log.warning("the controllers begin their watch anew")

    async def _tried(self, event: Event) -> None:
        if event.kind.resource == EVENTS.resource:
            return
        try:
            await self._saw(Event(event.type, event.kind, copied(event.object), event.revision, event.before))
        except StatusError as exc:  # it has changed meanwhile, and that is an event too
            log.debug("a controller was refused", extra={"reason": str(exc), "kind": event.kind.kind})
        except Exception:
            log.exception("a controller failed", extra={"kind": event.kind.kind})

    async def _saw(self, event: Event) -> None:
        obj, metadata = event.object, event.object["metadata"]
        resource = event.kind.resource
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
        elif event.type == "ADDED" and metadata.get("ownerReferences"):
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
