"""The one node of the cluster and its control plane: scheduler, controllers, kubelet, and the ways into Pods."""

import os
import platform
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from infra.emulators.kubernetes.claims import Claims
from infra.emulators.kubernetes.clusterevents import NORMAL, Recorder
from infra.emulators.kubernetes.controllers import Controllers
from infra.emulators.kubernetes.kinds import NODES
from infra.emulators.kubernetes.kubelet import Kubelet
from infra.emulators.kubernetes.moments import timestamp
from infra.emulators.kubernetes.namespaces import Namespaces
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.pod_status import HOST_IP
from infra.emulators.kubernetes.pod_volumes import TokenMaker, Volumes
from infra.emulators.kubernetes.pod_worker import NodeParts
from infra.emulators.kubernetes.scheduler import Scheduler
from infra.emulators.kubernetes.statuses import NotFound
from infra.emulators.run.specs import Folders
from infra.sandbox.spec import Runtime

NODE: Final = "onmemos-local"
VERSION: Final = "v1.36.0"


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the node says that it has. None: what this machine has."""

    cpu: float | None = None
    memory_bytes: int | None = None
    ephemeral_storage_bytes: int = 100 << 30
    pods: int = 110  # kubernetes.io/docs/setup/best-practices/cluster-large

    def resources(self) -> dict[str, Decimal]:
        """By Kubernetes' names."""
        return {
            "cpu": Decimal(str(self.cpu or os.cpu_count() or 1)),
            "memory": Decimal(self.memory_bytes or _machine_memory()),
            "ephemeral-storage": Decimal(self.ephemeral_storage_bytes),
            "pods": Decimal(self.pods),
        }


THIS_MACHINE: Final = Capacity()
# One node in the stead of those that an autoscaled cluster adds as they are needed.
AUTOSCALED: Final = Capacity(cpu=1000, memory_bytes=4 << 40, ephemeral_storage_bytes=100 << 40, pods=1000)


class Node:
    """An async context manager. `state` keeps claims' files and logs; `folders` are shared with Cloud Run's."""

    def __init__(
        self,
        objects: Objects,
        runtime: Runtime,
        *,
        state: Path,
        folders: Folders,
        token: TokenMaker = lambda *_: "",
        certificate: str = "",
        capacity: Capacity = THIS_MACHINE,
        first_backoff_s: float = 10.0,
    ) -> None:
        self._objects = objects
        self._allocatable = capacity.resources()
        self._recorder = Recorder(objects, _now)
        self._certificate = certificate
        self.logs = state / "logs"
        self._claims = state / "volumes"
        volumes = Volumes(objects, folders, self._claims, self._allocatable, token)
        self._parts = NodeParts(
            objects=objects,
            runtime=runtime,
            recorder=self._recorder,
            volumes=volumes,
            logs=self.logs,
            allocatable=self._allocatable,
            now=_now,
            first_backoff_s=first_backoff_s,
        )
        self.kubelet = Kubelet(self._parts, NODE)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Node":
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._recorder)
            claims = Claims(self._objects, self._recorder, self._claims, _now)
            namespaces = Namespaces(self._objects, _now, self._certificate)
            await stack.enter_async_context(Controllers(self._objects, namespaces, claims))
            await self._register()
            await stack.enter_async_context(self.kubelet)
            await stack.enter_async_context(Scheduler(self._objects, self._recorder, NODE, _now))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._stack.aclose()

    async def _register(self) -> None:
        wanted = _node(self._allocatable)
        try:
            node = self._objects.get(NODES, None, NODE)
        except NotFound:
            node = await self._objects.create(NODES, wanted)
            told = f"Node {NODE} event: Registered Node {NODE} in Controller"
            self._recorder.tell(node, NORMAL, "RegisteredNode", told, by="node-controller")
        node["status"] = wanted["status"]
        await self._objects.update(NODES, node, status=True)


def _node(allocatable: dict[str, Decimal]) -> Object:
    resources = {name: str(int(amount) if amount == int(amount) else amount) for name, amount in allocatable.items()}
    resources |= {"hugepages-2Mi": "0", "hugepages-1Gi": "0"}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    now = _now()
    healthy = (
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    )
    conditions = [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        for kind, status, reason, message in healthy
    ]
    labels = {
        "kubernetes.io/arch": machine,
        "kubernetes.io/hostname": NODE,
        "kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": machine,
        "beta.kubernetes.io/os": "linux",
    }
    return {
        "metadata": {"name": NODE, "labels": labels},
        "spec": {"podCIDR": "10.244.0.0/16", "podCIDRs": ["10.244.0.0/16"], "providerID": f"onmemos://{NODE}"},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": conditions,
            "addresses": [{"type": "InternalIP", "address": HOST_IP}, {"type": "Hostname", "address": NODE}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "architecture": machine,
                "bootID": "",
                "containerRuntimeVersion": "containerd://2.1.0",
                "kernelVersion": platform.release(),
                "kubeProxyVersion": "",
                "kubeletVersion": VERSION,
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "Debian GNU/Linux",
                "systemUUID": "",
            },
        },
    }


def _machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _now() -> str:
    return timestamp(datetime.now(UTC))
