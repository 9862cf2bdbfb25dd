"""One Pod on the node: its volumes, its containers in order, its status, and its end."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from infra.emulators.kubernetes.clusterevents import NORMAL, WARNING, Recorder
from infra.emulators.kubernetes.container_life import ContainerLife
from infra.emulators.kubernetes.kinds import PODS, RUNTIME_CLASSES
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.pod_env import environment
from infra.emulators.kubernetes.pod_folders import PodFolders
from infra.emulators.kubernetes.pod_specs import container_spec, has_egress, sandbox_name
from infra.emulators.kubernetes.pod_status import initialized, pod_status
from infra.emulators.kubernetes.pod_volumes import NotMounted, Volumes
from infra.emulators.kubernetes.podlogs import LogFile
from infra.emulators.kubernetes.statuses import NotFound, StatusError
from infra.sandbox.spec import ContainerSpec, Runtime

log = logging.getLogger(__name__)

KUBELET: Final = "kubelet"
VOLUMES_RETRY_S: Final = 0.5  # doubled up to the next
LONGEST_VOLUMES_RETRY_S: Final = 10.0
OVER: Final = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What all Pods of the node share. `logs`: where what containers print is kept."""

    objects: Objects
    runtime: Runtime
    recorder: Recorder
    volumes: Volumes
    logs: Path
    allocatable: Mapping[str, Decimal]
    now: Callable[[], str]
    first_backoff_s: float = 10.0  # the kubelet's: kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle
    longest_backoff_s: float = 300.0


class PodWorker:
    """`stopping` is set when its containers shall end. Containers other than the first share its volumes, but each
    has a loopback of its own: the one thing in which they differ from those of a real Pod."""

    def __init__(self, parts: NodeParts, pod: Object, ip: str) -> None:
        self._parts = parts
        self.pod = pod
        self.ip = ip
        self.uid: str = pod["metadata"]["uid"]
        self.runtime = parts.runtime
        self.first_backoff_s = parts.first_backoff_s
        self.longest_backoff_s = parts.longest_backoff_s
        self.stopping = asyncio.Event()
        self.gone = False  # deleted already: by force, or with its namespace
        self._folders = PodFolders(parts.volumes, parts.logs, self.uid)
        self._dirty = asyncio.Event()
        self._ending = asyncio.Event()
        self._failure: Object = {}
        self._began = parts.now()
        policy = pod["spec"].get("restartPolicy", "Always")
        self.inits = list(self._lives("initContainers", "-i", policy))
        self.mains = list(self._lives("containers", "-c", policy))
        self._restore()

    def saw(self, pod: Object) -> None:
        """A newer state of the Pod."""
        self.pod = pod
        if "deletionTimestamp" in pod["metadata"]:
            grace_s = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            if self._ending.is_set():
                self._hurry(grace_s)
            self._ending.set()

    def removed(self) -> None:
        """The Pod is no longer stored."""
        self.gone = True
        if self._ending.is_set():
            self._hurry(0)
        self._ending.set()

    async def run(self) -> None:
        """Until nothing of the Pod is left, on this machine or in the store."""
        if "deletionTimestamp" in self.pod["metadata"]:  # by a node that has ended meanwhile, and its containers too
            self._ending.set()
            self.stopping.set()
        publishing = asyncio.create_task(self._publish(), name=f"status of {self.uid}")
        living = asyncio.create_task(self._live(), name=f"life of {self.uid}")
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((living, ending), return_when=asyncio.FIRST_COMPLETED, timeout=self._deadline_s())
            if not living.done() and not ending.done():
                self._exceeded()
            if not living.done() or not ending.done():
                await self._stop(living)
            if living.done() and not living.cancelled() and (exc := living.exception()):
                log.error("a Pod's life broke off", exc_info=exc, extra={"pod": self.uid})
            self.changed()
            await ending
        finally:
            for task in (publishing, living, ending):
                task.cancel()
            await asyncio.gather(publishing, living, ending, return_exceptions=True)
            for life in self.everybody:
                life.close()
        await self._clean()

    @property
    def everybody(self) -> list[ContainerLife]:
        return [*self.inits, *self.mains]

    def life(self, container: str) -> ContainerLife | None:
        return next((life for life in self.everybody if life.name == container), None)

    # What its containers ask of it: container_life.House

    def changed(self) -> None:
        self._dirty.set()

    def tell(self, type_: str, reason: str, message: str, container: str = "") -> None:
        self._parts.recorder.tell(self.pod, type_, reason, message, by=KUBELET, field=container)

    def now(self) -> str:
        return self._parts.now()

    def log_path(self, container: str, restarts: int) -> Path:
        return self._folders.log(container, restarts)

    async def spec(self, container: Object, name: str, log: LogFile) -> ContainerSpec:
        parts = self._parts
        pod = {**self.pod, "status": {**self.pod.get("status", {}), "podIP": self.ip}}
        env = environment(parts.objects, pod, container, parts.allocatable)
        return container_spec(
            pod,
            container,
            name=name,
            env=env,
            mounts=tuple(self._folders.mounts(pod, container, env)),
            egress=has_egress(parts.objects, pod),
            allocatable=parts.allocatable,
            log=log,
        )

    def _lives(self, field: str, suffix: str, policy: str) -> Iterator[ContainerLife]:
        for number, container in enumerate(self.pod["spec"].get(field) or ()):
            name = sandbox_name(self.pod, "" if field == "containers" and number == 0 else f"{suffix}{number}")
            own = policy
            if field == "initContainers":
                sidecar = container.get("restartPolicy") == "Always"
                own = "Always" if sidecar else "OnFailure" if policy == "Always" else policy
            yield ContainerLife(self, container, name, own, f"spec.{field}")

    def _restore(self) -> None:
        status = self.pod.get("status") or {}
        known = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        for one in known:
            if life := self.life(one["name"]):
                life.restore(one)

    async def _live(self) -> None:
        """All of its containers, until each has ended for good."""
        if not await self._ready_to_start():
            return
        sidecars: list[asyncio.Task[int | None]] = []
        try:
            for life in self.inits:
                if not await self._initialize(life, sidecars):
                    return
            await asyncio.gather(*(life.run() for life in self.mains))
        finally:
            for life in self.inits:
                if life.sandbox is not None:
                    await life.stop(self._grace_s)
            for task in sidecars:
                task.cancel()
            await asyncio.gather(*sidecars, return_exceptions=True)

    async def _initialize(self, life: ContainerLife, sidecars: list[asyncio.Task[int | None]]) -> bool:
        if life.policy == "Always":
            sidecars.append(asyncio.create_task(life.run()))
            started, stopping = (asyncio.create_task(e.wait()) for e in (life.started, self.stopping))
            await asyncio.wait((started, stopping, sidecars[-1]), return_when=asyncio.FIRST_COMPLETED)
            for task in (started, stopping):
                task.cancel()
        else:
            await life.run()
        return initialized(life) and not self.stopping.is_set()

    async def _ready_to_start(self) -> bool:
        """Volumes and runtime class are there; False: it is to stop."""
        pause = VOLUMES_RETRY_S
        while not self.stopping.is_set():
            try:
                self._check_runtime_class()
                await self._folders.put_up(self.pod)
                return True
            except NotMounted as exc:
                self.tell(WARNING, exc.reason, str(exc))
            self.changed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.stopping.wait()
            pause = min(pause * 2, LONGEST_VOLUMES_RETRY_S)
        return False

    def _check_runtime_class(self) -> None:
        name = self.pod["spec"].get("runtimeClassName")
        if not name:
            return
        try:
            self._parts.objects.get(RUNTIME_CLASSES, None, name)
        except NotFound as exc:
            told = f'Failed to create pod sandbox: failed to get sandbox runtime: RuntimeClass "{name}" not found'
            raise NotMounted(told, reason="FailedCreatePodSandBox") from exc

    @property
    def _grace_s(self) -> float:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        if self.gone:
            return 0.0
        if "deletionTimestamp" in metadata:
            return float(metadata.get("deletionGracePeriodSeconds") or 0)
        return float(spec.get("terminationGracePeriodSeconds", 30))

    def _deadline_s(self) -> float | None:
        """What is left of the time that it may be active."""
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None:
            return None
        since = (self.pod.get("status") or {}).get("startTime") or self._began
        passed = datetime.fromisoformat(self.now()) - datetime.fromisoformat(since)
        return max(float(seconds) - passed.total_seconds(), 0.0)

    def _exceeded(self) -> None:
        told = "Pod was active on the node longer than the specified deadline"
        self._failure = {"phase": "Failed", "reason": "DeadlineExceeded", "message": told}
        self.tell(NORMAL, "DeadlineExceeded", told)

    async def _stop(self, living: asyncio.Task[None]) -> None:
        self.stopping.set()
        await asyncio.gather(*(life.stop(self._grace_s) for life in self.mains))
        await asyncio.wait((living,))

    def _hurry(self, grace_s: float) -> None:
        """A deletion with less grace than the one at work."""
        stops = [life.sandbox.stop(grace_s) for life in self.everybody if life.sandbox is not None]
        self._hurrying = asyncio.gather(*stops, return_exceptions=True)

    async def _publish(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._write_status()
            except StatusError as exc:
                log.warning("a Pod's status was refused", extra={"pod": self.uid, "reason": str(exc)})

    async def _write_status(self) -> None:
        metadata = self.pod["metadata"]
        try:
            pod = self._parts.objects.get(PODS, metadata["namespace"], metadata["name"])
        except NotFound:
            return
        if pod["metadata"]["uid"] == self.uid:
            now = self.now()
            stopped = self.stopping.is_set()
            status = pod_status(pod, self.inits, self.mains, ip=self.ip, began=self._began, now=now, stopped=stopped)
            status |= self._failure
            for key in ("reason", "message"):
                if key in (pod.get("status") or {}) and key not in status:
                    status[key] = pod["status"][key]
            pod["status"] = status
            await self._parts.objects.update(PODS, pod, status=True)

    async def refresh(self) -> None:
        await self._folders.refresh(self.pod)

    async def forget(self) -> None:
        """Nothing runs of it: delete its folders."""
        for life in self.everybody:
            await self._parts.runtime.remove(life.sandbox_name)
        await self._folders.delete()

    async def _clean(self) -> None:
        """Its last status, its folders, and then the object itself."""
        parts, metadata = self._parts, self.pod["metadata"]
        if not self.gone:
            with contextlib.suppress(StatusError):
                await self._write_status()
        await self.forget()
        if not self.gone:
            with contextlib.suppress(StatusError):
                await parts.objects.delete(PODS, metadata["namespace"], metadata["name"], grace_s=0, uid=self.uid)
