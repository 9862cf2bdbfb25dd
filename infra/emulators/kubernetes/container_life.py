"""One container of a Pod through all its lives: pulled, created, started, probed, ended, and started again."""

import asyncio
import contextlib
import secrets
from pathlib import Path
from typing import Any, Final, Protocol

from infra.emulators.kubernetes import images
from infra.emulators.kubernetes.clusterevents import NORMAL, WARNING
from infra.emulators.kubernetes.moments import in_go
from infra.emulators.kubernetes.pod_env import ConfigMissing
from infra.emulators.kubernetes.podlogs import LogFile
from infra.emulators.kubernetes.probes import Probes, Unhealthy, act
from infra.sandbox.spec import Container, ContainerSpec, Runtime, SandboxError

Object = dict[str, Any]
STABLE_S: Final = 600.0  # a container that ran this long starts its backoff anew: kubelet's, twice its longest
CONFIG_RETRY_S: Final = 1.0  # the kubelet's sync period is a minute, but a new Secret is noticed
PULL_SAID_S: Final = 1.0  # how long ErrImagePull is shown before ImagePullBackOff


class House(Protocol):
    """The Pod around a container, and the node around that."""

    pod: Object
    runtime: Runtime
    first_backoff_s: float
    longest_backoff_s: float
    stopping: asyncio.Event

    def changed(self) -> None:
        """Tell everybody about a new state."""

    def tell(self, type_: str, reason: str, message: str, container: str = "") -> None: ...

    def now(self) -> str: ...

    def log_path(self, container: str, restarts: int) -> Path: ...

    async def spec(self, container: Object, name: str, log: LogFile) -> ContainerSpec:
        """Raises ConfigMissing."""


class ContainerLife:
    """`state` and `last_state` are ContainerStates as JSON. `policy` is the restart policy that holds for it."""

    def __init__(self, house: House, container: Object, name: str, policy: str, field: str) -> None:
        self.container = container
        self.name: str = container["name"]
        self.sandbox_name = name
        self.policy = policy
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Object = {}
        self.restarts = 0
        self.ready = False
        self.started = asyncio.Event()
        self.ever_started = False
        self.container_id = ""
        self.sandbox: Container | None = None
        self.log: LogFile | None = None
        self._house = house
        self._field = f"{field}{{{self.name}}}"
        self._backoff_s = 0.0

    def restore(self, status: Object) -> None:
        """Go on from what an earlier process of the node knew: what ran then has ended."""
        self.restarts = int(status.get("restartCount", 0))
        self.last_state = status.get("lastState") or {}
        self.container_id = status.get("containerID", "")
        state = status.get("state") or {}
        if "running" in state:
            self.last_state = {"terminated": self._terminated(255, "Unknown", state["running"].get("startedAt"))}
            self.restarts += 1
            self.ever_started = True
        elif "terminated" in state:
            self.state = state
            self.ever_started = True

    async def run(self) -> int | None:
        """The exit code of its last life; None: it was stopped before it had one."""
        while not self._house.stopping.is_set():
            code = await self._live()
            if code is None:
                continue
            if self._house.stopping.is_set() or not self._again(code):
                return code
            await self._wait_to_restart()
        terminated = self.state.get("terminated")
        return int(terminated["exitCode"]) if terminated else None

    async def stop(self, grace_s: float) -> None:
        """End what runs: first its preStop hook, then TERM, and after `grace_s` KILL."""
        sandbox = self.sandbox
        if sandbox is None:
            return
        self._house.tell(NORMAL, "Killing", f"Stopping container {self.name}", self._field)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        hook = (self.container.get("lifecycle") or {}).get("preStop")
        if hook and grace_s > 0:
            with contextlib.suppress(TimeoutError, Unhealthy, SandboxError, OSError):
                async with asyncio.timeout(grace_s):
                    await act(self.container, sandbox, hook)
        await sandbox.stop(max(deadline - loop.time(), 0))

    def close(self) -> None:
        if self.log is not None:
            self.log.end()

    async def _live(self) -> int | None:
        """One life; None: it did not come to one, and the next try follows."""
        log = LogFile(self._house.log_path(self.name, self.restarts))
        try:
            sandbox = await self._begin(log)
            if sandbox is None:
                return None
            self.close()
            self.log = log
            return await self._watch(sandbox)
        finally:
            log.end()

    async def _begin(self, log: LogFile) -> Container | None:
        house, image = self._house, self.container["image"]
        try:
            self._pull(image)
        except images.NotPulled as exc:
            await self._not_pulled(image, exc)
            return None
        try:
            spec = await house.spec(self.container, self.sandbox_name, log)
        except ConfigMissing as exc:
            house.tell(WARNING, "Failed", f"Error: {exc}", self._field)
            await self._wait("CreateContainerConfigError", str(exc), CONFIG_RETRY_S)
            return None
        house.tell(NORMAL, "Created", f"Created container: {self.name}", self._field)
        try:
            sandbox = await house.runtime.start(spec)
        except (SandboxError, OSError) as exc:
            house.tell(WARNING, "Failed", f"Error: {exc}", self._field)
            self._grow_backoff(0)
            await self._wait("RunContainerError", str(exc)[:1024], max(self._backoff_s, 1.0))
            return None
        house.tell(NORMAL, "Started", f"Started container {self.name}", self._field)
        return sandbox

    async def _watch(self, sandbox: Container) -> int:
        """From its start to its end."""
        house = self._house
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.sandbox = sandbox
        self.container_id = f"containerd://{secrets.token_hex(32)}"
        self.state = {"running": {"startedAt": house.now()}}
        self.ever_started = True
        probing = asyncio.create_task(self._probes(sandbox).run(), name=f"probes of {sandbox.name}")
        if not self.container.get("startupProbe"):
            self.started.set()
            self.ready = not self.container.get("readinessProbe")
        house.changed()
        try:
            if house.stopping.is_set():
                await sandbox.stop(0)
            code = await sandbox.wait()
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
            self.sandbox = None
            self.ready = False
            self.started.clear()
        self._grow_backoff(loop.time() - began)
        message = self._last_words(sandbox) if code else ""
        running = self.state.get("running") or {}
        ended = self._terminated(code, "Error" if code else "Completed", running.get("startedAt"), message)
        self.state = {"terminated": ended}
        house.changed()
        return code

    async def _wait_to_restart(self) -> None:
        """The first restart is at once; those after it wait longer and longer."""
        await self._house.runtime.remove(self.sandbox_name)  # a new container has a file system of its own
        self.last_state = self.state
        if self._backoff_s:
            pod, delay = self._house.pod["metadata"], in_go(self._backoff_s)
            named = f"{pod['name']}_{pod['namespace']}({pod['uid']})"
            told = f"back-off {delay} restarting failed container={self.name} pod={named}"
            self._house.tell(
                WARNING, "BackOff", f"Back-off restarting failed container {self.name} in pod {named}", self._field
            )
            await self._wait("CrashLoopBackOff", told, self._backoff_s)
        self.restarts += 1

    async def _not_pulled(self, image: str, exc: images.NotPulled) -> None:
        house = self._house
        if exc.reason == "InvalidImageName":
            house.tell(WARNING, "InspectFailed", exc.message, self._field)
            house.tell(WARNING, "Failed", "Error: InvalidImageName", self._field)
            await self._wait(exc.reason, exc.message, house.first_backoff_s)
            return
        house.tell(WARNING, "Failed", f'Failed to pull image "{image}": {exc.message}', self._field)
        house.tell(WARNING, "Failed", "Error: ErrImagePull", self._field)
        await self._wait("ErrImagePull", exc.message, PULL_SAID_S)
        if house.stopping.is_set():
            return
        house.tell(NORMAL, "BackOff", f'Back-off pulling image "{image}"', self._field)
        house.tell(WARNING, "Failed", "Error: ImagePullBackOff", self._field)
        self._grow_backoff(0)
        told = f'Back-off pulling image "{image}": ErrImagePull: {exc.message}'
        await self._wait("ImagePullBackOff", told, max(self._backoff_s, house.first_backoff_s))

    def _pull(self, image: str) -> None:
        """Raises NotPulled."""
        default = "Always" if images.is_latest(image) else "IfNotPresent"
        if (self.container.get("imagePullPolicy") or default) == "Always":
            images.full_name(image)
            self._house.tell(NORMAL, "Pulling", f'Pulling image "{image}"', self._field)
            images.pull(image)
            told = f'Successfully pulled image "{image}" in 1ms (1ms including waiting). Image size: 0 bytes.'
            self._house.tell(NORMAL, "Pulled", told, self._field)
            return
        images.pull(image)
        told = f'Container image "{image}" already present on machine'
        self._house.tell(NORMAL, "Pulled", told, self._field)

    async def _wait(self, reason: str, message: str, seconds: float) -> None:
        self.state = {"waiting": {"reason": reason, "message": message}}
        self._house.changed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._house.stopping.wait()

    def _again(self, code: int) -> bool:
        return self.policy == "Always" or (self.policy == "OnFailure" and code != 0)

    def _grow_backoff(self, lived_s: float) -> None:
        house = self._house
        if lived_s >= STABLE_S or (self.restarts == 0 and self.ever_started):
            self._backoff_s = 0.0
        elif self._backoff_s:
            self._backoff_s = min(self._backoff_s * 2, house.longest_backoff_s)
        else:
            self._backoff_s = house.first_backoff_s

    def _probes(self, sandbox: Container) -> Probes:
        def started() -> None:
            if not self.started.is_set():
                self.started.set()
                self._house.changed()

        def ready(now: bool) -> None:
            if self.ready != now:
                self.ready = now
                self._house.changed()

        def failed(why: str) -> None:
            self._house.tell(NORMAL, "Killing", f"Container {self.name} {why}, will be restarted", self._field)
            grace_s = float(self._house.pod["spec"].get("terminationGracePeriodSeconds", 30))
            self._stopping = asyncio.create_task(sandbox.stop(grace_s), name=f"end of {sandbox.name}")

        def unhealthy(why: str) -> None:
            self._house.tell(WARNING, "Unhealthy", why, self._field)

        return Probes(self.container, sandbox, started=started, ready=ready, failed=failed, unhealthy=unhealthy)

    def _last_words(self, sandbox: Container) -> str:
        """What is told of an end: only when the container asks for that."""
        if self.container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return ""
        return "\n".join(sandbox.log_tail().splitlines()[-80:])[-2048:]

    def _terminated(self, code: int, reason: str, started_at: str | None, message: str = "") -> Object:
        return {
            "exitCode": code,
            "reason": reason,
            **({"message": message} if message else {}),
            "startedAt": started_at,
            "finishedAt": self._house.now(),
            "containerID": self.container_id,
        }
