"""The kubelet: gives each Pod that is bound to the node a worker, and finds the containers that others ask for."""

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Final

from infra.emulators.kubernetes.container_life import ContainerLife
from infra.emulators.kubernetes.following import Following
from infra.emulators.kubernetes.history import Event
from infra.emulators.kubernetes.kinds import CONFIG_MAPS, PODS, SECRETS
from infra.emulators.kubernetes.objects import Object, copied
from infra.emulators.kubernetes.pod_volumes import mounts_files_of
from infra.emulators.kubernetes.pod_worker import OVER, NodeParts, PodWorker

log = logging.getLogger(__name__)

FIRST_IP: Final = (10 << 24) + (244 << 16) + 2
IPS: Final = 60_000
_FILES: Final = (CONFIG_MAPS.resource, SECRETS.resource)


class Kubelet(Following):
    """Leaving it forgets the workers, and whoever closes the runtime stops the containers."""

    def __init__(self, parts: NodeParts, node: str) -> None:
        super().__init__(parts.objects, "kubelet")
        self._parts = parts
        self._node = node
        self._workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._given = 0

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, exc, trace)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def life(self, pod: Object, container: str) -> ContainerLife | None:
        """A container of a Pod that is on the node."""
        worker = self._workers.get(pod["metadata"]["uid"])
        return worker.life(container) if worker else None

    async def _saw(self, events: list[Event]) -> None:
        for event in events:
            with self._going_on():
                if event.kind.resource in _FILES:
                    self._refresh(event)
                elif event.kind.resource == PODS.resource:
                    self._saw_pod(event)

    def _saw_pod(self, event: Event) -> None:
        pod = copied(event.object)
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if event.type == "DELETED":
            if worker is not None:
                worker.removed()
            elif pod["spec"].get("nodeName") == self._node:
                self._do(PodWorker(self._parts, pod, "").forget(), f"what is left of pod {pod['metadata']['name']}")
        elif worker is not None:
            worker.saw(pod)
        elif pod["spec"].get("nodeName") == self._node and not self._is_history(pod):
            self._begin(pod)

    @staticmethod
    def _is_history(pod: Object) -> bool:
        """Nothing of it runs, and it may stay so."""
        over = (pod.get("status") or {}).get("phase") in OVER
        return over and "deletionTimestamp" not in pod["metadata"]

    def _begin(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        worker = PodWorker(self._parts, pod, (pod.get("status") or {}).get("podIP") or self._address())
        self._workers[uid] = worker
        self._do(self._work(worker), f"pod {pod['metadata']['name']}")

    def _refresh(self, event: Event) -> None:
        """Files of Secrets and ConfigMaps follow them, in Pods that run too; what is gone keeps its last ones."""
        if event.type == "DELETED":
            return
        for worker in self._workers.values():
            if mounts_files_of(worker.pod, event.kind, event.object["metadata"]):
                self._do(worker.refresh(), f"files of {worker.uid}")

    def _do(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            log.exception("a Pod is no longer looked after", extra={"pod": worker.uid})
        finally:
            del self._workers[worker.uid]

    def _address(self) -> str:
        """Of its own for each Pod at a time."""
        taken = {worker.ip for worker in self._workers.values()}
        for _ in range(IPS):
            self._given = self._given % IPS + 1
            number = FIRST_IP + self._given
            address = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
            if address not in taken:
                return address
        raise RuntimeError(f"no address is left of {IPS}")
