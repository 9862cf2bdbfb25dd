"""Namespaces: what appears in a new one a moment later, and how one that is being deleted becomes empty."""

import contextlib
from collections.abc import Callable
from typing import Any, Final

from infra.emulators.kubernetes.kinds import CONFIG_MAPS, NAMESPACES, PODS, SERVICE_ACCOUNTS, Kind
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.statuses import AlreadyExists, StatusError

ROOT_CA: Final = "kube-root-ca.crt"
_LEFT: Final = "NamespaceContentRemaining"


class Namespaces:
    """`certificate` is what clients inside trust; empty where the API server speaks plain HTTP."""

    def __init__(self, objects: Objects, now: Callable[[], str], certificate: str = "") -> None:
        self._objects = objects
        self._now = now
        self._certificate = certificate

    async def saw(self, namespace: Object) -> None:
        """A namespace is there, in this state. Raises StatusError: it changed meanwhile, and will be seen again."""
        if "deletionTimestamp" in namespace["metadata"]:
            await self.empty(namespace)
            return
        name = namespace["metadata"]["name"]
        await self._ensure(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": name}})
        told = {"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver"}
        metadata = {"name": ROOT_CA, "namespace": name, "annotations": told}
        await self._ensure(CONFIG_MAPS, {"metadata": metadata, "data": {"ca.crt": self._certificate}})

    async def empty(self, namespace: Object) -> None:
        """Delete all that is in it; and it itself, once nothing is."""
        name = namespace["metadata"]["name"]
        left: list[tuple[Kind, Object]] = []
        for kind in self._kinds():
            for obj in self._objects.list(kind, name)[0]:
                if "deletionTimestamp" not in obj["metadata"]:
                    with contextlib.suppress(StatusError):
                        await self._objects.delete(kind, name, obj["metadata"]["name"], propagation="Background")
            left += [(kind, obj) for obj in self._objects.list(kind, name)[0]]
        namespace = self._objects.get(NAMESPACES, None, name)
        if left:
            await self._tell_what_is_left(namespace, left)
        elif namespace["spec"].get("finalizers"):
            namespace["spec"]["finalizers"] = []
            await self._objects.update(NAMESPACES, namespace, subresource="finalize")

    def _kinds(self) -> list[Kind]:
        """Pods first: what they use goes when they have gone. Versions of a kind share their objects."""
        kinds: dict[str, Kind] = {PODS.resource: PODS}
        for kind in self._objects.kinds:
            if kind.namespaced:
                kinds.setdefault(kind.resource, kind)
        return list(kinds.values())

    async def _tell_what_is_left(self, namespace: Object, left: list[tuple[Kind, Object]]) -> None:
        counts: dict[str, int] = {}
        for kind, _ in left:
            counts[kind.resource] = counts.get(kind.resource, 0) + 1
        listed = ", ".join(f"{resource}. has {count} resource instances" for resource, count in sorted(counts.items()))
        message = f"Some resources are remaining: {listed}"
        status = namespace.setdefault("status", {})
        others = [one for one in status.get("conditions") or () if one["type"] != _LEFT]
        old = next((one for one in status.get("conditions") or () if one["type"] == _LEFT), None)
        if old and old["message"] == message:
            return
        condition: dict[str, Any] = {
            "type": _LEFT,
            "status": "True",
            "reason": "SomeResourcesRemain",
            "message": message,
            "lastTransitionTime": old["lastTransitionTime"] if old else self._now(),
        }
        status["conditions"] = [*others, condition]
        await self._objects.update(NAMESPACES, namespace, status=True)

    async def _ensure(self, kind: Kind, obj: Object) -> None:
        with contextlib.suppress(AlreadyExists):
            await self._objects.create(kind, obj)
