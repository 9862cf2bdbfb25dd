"""Waiting for a Pod: by watching it and its events, for as long as it may still come right."""

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any

from shared.errors import OnMemOSError, ProviderUnavailable, ProvisioningFailed
from shared.providers.base import Health
from shared.providers.gke_cluster import EVENTS, PODS, Cluster, Refused
from shared.providers.gke_conditions import Outlook, outlook
from shared.providers.gke_manifests import Manifest

READY_TIMEOUT_S = 480.0  # a node that is added (240 s), and an image of some GiB that it pulls
EVENTS_AFTER_S = 0.5  # a Pod that starts at once has nothing to tell
MOST_EVENTS = 100


class Waiting:
    """What is known of one Pod while it starts. `most_patience_s` cuts short how long trouble may last."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, *, most_patience_s: float = math.inf) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._most_patience_s = most_patience_s
        self._pod: Manifest | None = None
        self._events: dict[str, Manifest] = {}
        self._troubles: dict[str, float] = {}  # since when, by what they are called
        self._changed = asyncio.Event()

    async def until_ready(self) -> Manifest:
        """The Pod. Raises ProvisioningFailed, in Kubernetes' own words, or ProviderUnavailable: not in time."""
        watching = [self._start(self._watch_pod()), self._start(self._watch_events())]
        try:
            return await self._ready(watching[0])
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _ready(self, watching: "asyncio.Task[None]") -> Manifest:
        deadline = time.monotonic() + READY_TIMEOUT_S
        words = ""
        while time.monotonic() < deadline:
            self._changed.clear()
            if watching.done():
                watching.result()  # raises what ended it
            give_up_at = deadline
            if self._pod is not None:
                found = self._outlook(self._pod)
                words = found.condition.reason
                if found.condition.health is Health.READY:
                    return self._pod
                if found.condition.health is Health.GONE:
                    raise ProviderUnavailable(f"the Pod {self._name} was deleted while it started")
                if found.patience_s is not None:
                    began = self._troubles.setdefault(words.partition(":")[0], time.monotonic())
                    give_up_at = began + min(found.patience_s, self._most_patience_s)
                if give_up_at <= time.monotonic():
                    raise ProvisioningFailed(f"Kubernetes could not start the workspace: {words}")
            left_s = min(give_up_at, deadline) - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    await self._changed.wait()
            except TimeoutError:
                continue
        raise ProviderUnavailable(f"the Pod {self._name} was not ready after {READY_TIMEOUT_S:g} s: {words}")

    def _outlook(self, pod: Manifest) -> Outlook:
        from kubernetes.aio.client import CoreV1Event, V1Pod

        parsed = V1Pod.from_dict(pod)
        if parsed is None:
            raise ValueError(f"{pod!r} is no Pod")
        events = [CoreV1Event.from_dict(event) for event in self._events.values()]
        return outlook(parsed, [event for event in events if event is not None])

    def _start(self, watch: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(watch)
        task.add_done_callback(lambda _: self._changed.set())
        return task

    async def _watch_pod(self) -> None:
        async for pod in self._cluster.states(PODS, self._namespace, self._name):
            if pod is None:
                raise ProviderUnavailable(f"the Pod {self._name} was deleted while it started")
            self._pod = pod
            self._changed.set()

    async def _watch_events(self) -> None:
        """Events only explain: without the right to see them, or when there are none, the Pod's status has to do."""
        await asyncio.sleep(EVENTS_AFTER_S)
        fields = f"involvedObject.kind=Pod,involvedObject.name={self._name}"
        try:
            async for changed in self._cluster.changes(EVENTS, self._namespace, fields):
                found = changed if isinstance(changed, list) else [changed[1]]
                for event in found[:MOST_EVENTS]:
                    if self._pod and event["involvedObject"].get("uid") == self._pod["metadata"]["uid"]:
                        self._events[event["metadata"]["name"]] = event
                while len(self._events) > MOST_EVENTS:
                    del self._events[next(iter(self._events))]
                self._changed.set()
        except (OnMemOSError, Refused):
            return
