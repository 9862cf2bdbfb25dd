"""A CustomResourceDefinition that is being deleted takes its objects with it, and goes when the last one has gone."""

import contextlib
from typing import Final

from infra.emulators.kubernetes.following import Following
from infra.emulators.kubernetes.history import Event
from infra.emulators.kubernetes.kinds import CUSTOM_RESOURCE_DEFINITIONS, kinds_of
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.statuses import StatusError

FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"


class DefinitionCleanup(Following):
    def __init__(self, objects: Objects) -> None:
        super().__init__(objects, "definition-cleanup")

    async def _saw(self, events: list[Event]) -> None:
        if any(event.kind is CUSTOM_RESOURCE_DEFINITIONS or event.kind.custom for event in events):
            for definition in self._objects.list(CUSTOM_RESOURCE_DEFINITIONS)[0]:
                if "deletionTimestamp" in definition["metadata"]:
                    await self._clean(definition)

    async def _clean(self, definition: Object) -> None:
        kinds = kinds_of(definition)
        for obj in self._objects.list(kinds[0])[0] if kinds else ():
            metadata = obj["metadata"]
            if "deletionTimestamp" not in metadata:
                with contextlib.suppress(StatusError):  # somebody was faster
                    await self._objects.delete(kinds[0], metadata.get("namespace"), metadata["name"])
        if kinds and self._objects.list(kinds[0])[0]:
            return  # the last one's end brings us here again
        kept = [one for one in definition["metadata"].get("finalizers") or () if one != FINALIZER]
        definition["metadata"]["finalizers"] = kept
        with contextlib.suppress(StatusError):
            await self._objects.update(CUSTOM_RESOURCE_DEFINITIONS, definition)
