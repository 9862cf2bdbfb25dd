"""A cluster whose Pods run in real sandboxes, and the few calls that tests of Pods make all the time."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.sandbox.runtime import open_runtime
from infra.sandbox.spec import SandboxUnavailable
from tests.contract.kubernetes.requests import SOON_S, Json, Namespace, a_pod, told, watched
from tests.contract.kubernetes_rig import IMAGE, Cluster, cluster

SHELL = IMAGE or "busybox"  # what has sh and python3
WATCH_S = 20
LASTING = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


@dataclass(frozen=True, slots=True)
class Node:
    cluster: Cluster
    state: Path
    namespace: Namespace

    @property
    def folder(self) -> Path:
        """It holds buckets/, filestore/ and scratch/ of the emulator's node: other nodes cannot be looked into."""
        if not self.cluster.is_emulated:
            pytest.skip("the cluster is not the emulator's: its nodes' folders cannot be looked into")
        return self.state

    async def run(self, name: str, script: str = LASTING, /, **spec: Any) -> Json:
        """A Pod whose one container runs `script`; fields of the container are given as `container`."""
        container = {"name": "main", "image": SHELL, "command": ["sh", "-c", script], **spec.pop("container", {})}
        return await self.start(name, containers=[container], terminationGracePeriodSeconds=1, **spec)

    async def start(self, name: str, **spec: Any) -> Json:
        return await self.namespace.create("pods", a_pod(name, schedulerName="default-scheduler", **spec))

    async def until(self, name: str, condition: Callable[[Json], object]) -> Json:
        """The Pod, once `condition` holds; a Pod that is gone is {}."""
        async with asyncio.timeout(SOON_S):
            while True:
                listed = await self.namespace.get("pods", fieldSelector=f"metadata.name={name}")
                pod: Json = next(iter(listed["items"]), {})
                if condition(pod):
                    return pod
                changed = await self._changed(name, condition, listed["metadata"]["resourceVersion"])
                if changed is not None:
                    return changed

    async def _changed(self, name: str, condition: Callable[[Json], object], since: str) -> Json | None:
        """What the Pod became; None: nothing that `condition` holds of, for a while."""
        query = {"fieldSelector": f"metadata.name={name}", "resourceVersion": since}
        async with watched(self.cluster, self.namespace.path("pods"), WATCH_S, **query) as events:
            async for event in events:
                if event["type"] == "ERROR":
                    return None
                pod = {} if event["type"] == "DELETED" else event["object"]
                if condition(pod):
                    return pod
        return None

    async def ready(self, name: str) -> Json:
        return await self.until(name, is_ready)

    async def ended(self, name: str) -> Json:
        return await self.until(name, lambda pod: phase(pod) in ("Succeeded", "Failed"))

    async def delete(self, name: str, **options: Any) -> None:
        told(await self.namespace.delete("pods", name, body=options))
        await self.until(name, lambda pod: not pod)

    async def log(self, name: str, **query: str) -> str:
        path = f"{self.namespace.path('pods', name)}/log"
        answer = await self.cluster.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def events(self, name: str) -> list[tuple[str, str]]:
        """(reason, message) of those about a Pod."""
        listed = await self.namespace.get("events")
        return [(e["reason"], e["message"]) for e in listed["items"] if e["involvedObject"]["name"] == name]

    async def event(self, name: str, reason: str) -> str:
        """The message of the first event with that reason: they are written in the background."""
        async with asyncio.timeout(SOON_S):
            while True:
                for seen, message in await self.events(name):
                    if seen == reason:
                        return message
                await asyncio.sleep(0.01)


def phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase"))


def is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def container_of(pod: Json, index: int = 0) -> Json:
    statuses = (pod.get("status") or {}).get("containerStatuses") or [{}]
    status: Json = statuses[index]
    return status


def waiting(pod: Json) -> Json:
    found: Json = (container_of(pod).get("state") or {}).get("waiting") or {}
    return found


async def eventually(holds: Callable[[], object]) -> None:
    """For what a process in a Pod does: that raises no event here."""
    async with asyncio.timeout(SOON_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[Cluster]:
    """Skips where nothing isolates."""
    sockets = Path(tempfile.mkdtemp(prefix="om-"))  # a test's own folder may be deeper than a socket's path can be
    try:
        runtime = await open_runtime("bubblewrap", state=folder / "sandboxes", sockets=sockets, egress_kind="none")
    except SandboxUnavailable as exc:
        shutil.rmtree(sockets)
        pytest.skip(str(exc))
    try:
        async with cluster(folder, runtime=runtime) as running:
            yield running
    finally:
        await runtime.close()
        shutil.rmtree(sockets, ignore_errors=True)
