"""PersistentVolumeClaims: each gets a volume, a folder of this machine that lives until the claim goes."""

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from infra.emulators.kubernetes.clusterevents import NORMAL, WARNING, Recorder
from infra.emulators.kubernetes.kinds import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.scheduler import SELECTED_NODE, claims_of
from infra.emulators.kubernetes.statuses import AlreadyExists, NotFound, StatusError

BINDER: Final = "persistentvolume-controller"
PROTECTION: Final = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION: Final = "kubernetes.io/pv-protection"
WAITS: Final = "waiting for first consumer to be created before binding"


class Claims:
    """`folder`/<PersistentVolume> holds the files."""

    def __init__(self, objects: Objects, recorder: Recorder, folder: Path, now: Callable[[], str]) -> None:
        self._objects = objects
        self._recorder = recorder
        self._folder = folder
        self._now = now

    async def saw(self, claim: Object) -> None:
        """Raises StatusError: it changed meanwhile, and will be seen again."""
        if "deletionTimestamp" in claim["metadata"]:
            await self._let_go(claim)
        elif (claim.get("status") or {}).get("phase") != "Bound":
            await self._bind(claim)

    async def saw_pods_change(self) -> None:
        """A Pod has ended: claims that wait for that may go."""
        for claim in self._objects.list(PERSISTENT_VOLUME_CLAIMS)[0]:
            if "deletionTimestamp" in claim["metadata"]:
                with contextlib.suppress(StatusError):
                    await self._let_go(claim)

    async def released(self, claim: Object) -> None:
        """A claim has gone: so does its volume, unless that shall be kept."""
        name = claim["spec"].get("volumeName")
        if not name:
            return
        with contextlib.suppress(NotFound):
            volume = self._objects.get(PERSISTENT_VOLUMES, None, name)
            if volume["spec"].get("persistentVolumeReclaimPolicy") == "Retain":
                volume["status"] = {"phase": "Released"}
                await self._objects.update(PERSISTENT_VOLUMES, volume, status=True)
                return
            if volume["metadata"].get("finalizers"):
                volume["metadata"]["finalizers"] = []
                await self._objects.update(PERSISTENT_VOLUMES, volume)
            await self._objects.delete(PERSISTENT_VOLUMES, None, name)
        await asyncio.to_thread(shutil.rmtree, self._folder / name, True)

    async def _bind(self, claim: Object) -> None:
        spec, metadata = claim["spec"], claim["metadata"]
        class_name = spec.get("storageClassName")
        try:
            storage_class = self._objects.get(STORAGE_CLASSES, None, class_name or "")
        except NotFound:
            if class_name:
                told = f'storageclass.storage.k8s.io "{class_name}" not found'
                self._recorder.tell(claim, WARNING, "ProvisioningFailed", told, by=BINDER)
            return
        waits = storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
        if waits and SELECTED_NODE not in (metadata.get("annotations") or {}):
            self._recorder.tell(claim, NORMAL, "WaitForFirstConsumer", WAITS, by=BINDER)
            return
        volume = spec.get("volumeName") or f"pvc-{metadata['uid']}"
        with contextlib.suppress(AlreadyExists):
            await self._provision(volume, claim, storage_class)
        annotations = metadata.setdefault("annotations", {})
        annotations |= {
            "pv.kubernetes.io/bind-completed": "yes",
            "pv.kubernetes.io/bound-by-controller": "yes",
            "volume.kubernetes.io/storage-provisioner": storage_class["provisioner"],
        }
        spec["volumeName"] = volume
        if PROTECTION not in metadata.setdefault("finalizers", []):
            metadata["finalizers"].append(PROTECTION)
        bound = await self._objects.update(PERSISTENT_VOLUME_CLAIMS, claim)
        capacity = {"storage": spec["resources"]["requests"]["storage"]}
        bound["status"] = {"phase": "Bound", "accessModes": spec.get("accessModes") or [], "capacity": capacity}
        await self._objects.update(PERSISTENT_VOLUME_CLAIMS, bound, status=True)
        told = f"Successfully provisioned volume {volume}"
        self._recorder.tell(bound, NORMAL, "ProvisioningSucceeded", told, by=storage_class["provisioner"])

    async def _provision(self, name: str, claim: Object, storage_class: Object) -> None:
        spec, metadata = claim["spec"], claim["metadata"]
        reference = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        }
        created = await self._objects.create(
            PERSISTENT_VOLUMES,
            {
                "metadata": {
                    "name": name,
                    "annotations": {"pv.kubernetes.io/provisioned-by": storage_class["provisioner"]},
                    "finalizers": [VOLUME_PROTECTION],
                },
                "spec": {
                    "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                    "accessModes": spec.get("accessModes") or ["ReadWriteOnce"],
                    "claimRef": reference,
                    "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
                    "storageClassName": storage_class["metadata"]["name"],
                    "volumeMode": spec.get("volumeMode") or "Filesystem",
                    "hostPath": {"path": str(self._folder / name), "type": ""},
                },
            },
        )
        created["status"] = {"phase": "Bound", "lastPhaseTransitionTime": self._now()}
        await self._objects.update(PERSISTENT_VOLUMES, created, status=True)

    async def _let_go(self, claim: Object) -> None:
        """A claim that a Pod still uses stays."""
        metadata = claim["metadata"]
        if PROTECTION not in (metadata.get("finalizers") or ()) or self._used(claim):
            return
        metadata["finalizers"] = [one for one in metadata["finalizers"] if one != PROTECTION]
        await self._objects.update(PERSISTENT_VOLUME_CLAIMS, claim)

    def _used(self, claim: Object) -> bool:
        name, namespace = claim["metadata"]["name"], claim["metadata"]["namespace"]
        return any(
            name in claims_of(pod) and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            for pod in self._objects.list(PODS, namespace)[0]
            if pod["spec"].get("nodeName")
        )
