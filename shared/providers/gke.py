"""Workspaces as Pods in a Kubernetes cluster: one per session, in a namespace for each namespace of a tenant."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from shared.cloud import unavailable
from shared.errors import InvalidRequest, WorkspaceUnreachable
from shared.models import DATA_PATH, ProviderName, Session
from shared.providers.base import Access, Address, Condition, Wanted, Workspace
from shared.providers.gke_cluster import CALL_TIMEOUT_S, Cluster, Refused
from shared.providers.gke_credentials import Credentials, Kubeconfig
from shared.providers.gke_manifests import AGENT_PORT, GkeSettings, Manifest, mounts_bucket
from shared.providers.gke_pods import Pods

__all__ = ["Gke", "GkeSettings", "credentials"]

GONE_TIMEOUT_S = 120.0  # a Pod's own grace is 10 s; unmounting, and a node that is slow
FACTS_PREFIX = "sandbox.onmemos.dev/"  # annotations of a Pod that say what it runs in
PROXIED = "/api/v1/namespaces/"
GIB = 1 << 30
# Autopilot's least and most of a general-purpose Pod; where memory is not 1 to 6.5 GiB a vCPU, it raises what is short:
# cloud.google.com/kubernetes-engine/docs/concepts/autopilot-resource-requests
CPU_RANGE = (0.25, 30.0)
MEMORY_RANGE = (GIB // 2, 110 * GIB)
T = TypeVar("T")


def credentials(settings: GkeSettings) -> Credentials:
    """Those that the settings name."""
    if settings.kubeconfig:
        return Kubeconfig(Path(settings.kubeconfig))
    from shared.providers.gke_endpoint import GkeCluster

    return GkeCluster(settings.cluster)


class Gke:
    """The Provider on the Kubernetes API.

    Its client, which takes 0.6 s to load, is loaded by what changes or looks at workspaces, never by `address`.
    `patience_s` is for one call; `most_patience_s` cuts short what a Pod in trouble is given to come right.
    """

    name = ProviderName.GKE
    ssh = False
    price_share = 1.0

    def __init__(
        self,
        settings: GkeSettings,
        credentials: Credentials,
        *,
        patience_s: float = CALL_TIMEOUT_S,
        most_patience_s: float = math.inf,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._pods = Pods(Cluster(credentials, patience_s=patience_s), settings, most_patience_s=most_patience_s)

    async def close(self) -> None:
        """Close the connections to the API server; to close twice is not an error."""
        await self._pods.close()

    def check(self, wanted: Wanted) -> None:
        _check_size("resources.cpu", wanted.resources.cpu, CPU_RANGE, lambda cpu: f"{cpu:g}")
        _check_size(
            "resources.memory", wanted.resources.memory_bytes, MEMORY_RANGE, lambda size: f"{int(size) >> 20}Mi"
        )
        storage = wanted.storage
        asked = {
            "storage.bucket": storage.bucket and f"'{storage.bucket}'",
            "storage.keep": storage.keep and "true",
            "storage.mount_path": storage.mount_path != DATA_PATH and f"'{storage.mount_path}'",
        }
        for field, value in asked.items():
            if value and not self._settings.buckets:
                why = "this deployment's cluster cannot mount buckets"
                raise InvalidRequest.field(field, f"got {value}, wanted none on gke: {why}")
            if value and not wanted.egress:
                why = "a bucket is mounted through the Pod's own network"
                raise InvalidRequest.field(field, f"got {value} with network.egress false, wanted none on gke: {why}")

    def access(self, session: Session) -> Access:
        return Access()  # the way to a Pod is the control plane's: clients go through the relay

    async def address(self, session: Session) -> Address:
        if session.url is None:
            raise WorkspaceUnreachable(f"the workspace of {session.id} has no address")
        _, proxied, path = session.url.partition(PROXIED)
        if not proxied:
            return Address(session.url)
        server = await self._credentials.server()  # where it answers now; and the token goes nowhere else
        return Address(f"{server.url}{proxied}{path}", await self._credentials.headers(), server.ssl)

    def keeps_files(self, session: Session) -> bool:
        return session.long_lived  # its /workspace is a disk of its own

    async def create(self, session: Session, env: dict[str, str], bucket: str) -> Workspace:
        try:
            pod, is_warm = await self._pods.start(session, env, bucket)
        except Refused as exc:
            raise exc.as_failure() from exc
        except TimeoutError as exc:
            raise unavailable("Kubernetes", exc) from exc
        is_mounted = not is_warm and mounts_bucket(session, self._settings)
        details = {
            "namespace": pod["metadata"]["namespace"],
            "pod": pod["metadata"]["name"],
            "node": pod["spec"].get("nodeName", ""),
            "bucket_name": bucket,
            "bucket_mounted": str(is_mounted).lower(),
        }
        return Workspace(await self._url(pod), {**details, **_facts(pod)}, adopt=details["pod"] if is_warm else None)

    async def stop(self, session_id: str) -> None:
        await _bounded(self._pods.remove(session_id, keep_disk=True))

    async def inspect(self, session_id: str) -> Condition:
        return await _bounded(self._pods.condition(session_id))

    async def delete(self, session_id: str) -> None:
        await _bounded(self._pods.remove(session_id, keep_disk=False))

    async def session_ids(self) -> AsyncIterator[str]:
        for session_id in await _bounded(self._pods.ids()):
            yield session_id

    async def _url(self, pod: Manifest) -> str:
        metadata = pod["metadata"]
        if self._settings.pod_network:
            address = pod["status"]["podIP"]
            return f"http://{f'[{address}]' if ':' in address else address}:{AGENT_PORT}"
        server = await self._credentials.server()
        return f"{server.url}{PROXIED}{metadata['namespace']}/pods/{metadata['name']}:{AGENT_PORT}/proxy"


async def _bounded(call: Coroutine[Any, Any, T]) -> T:
    """A call that looks or removes: whatever goes wrong, trying again is safe."""
    try:
        async with asyncio.timeout(GONE_TIMEOUT_S):
            return await call
    except (Refused, TimeoutError) as exc:
        raise unavailable("Kubernetes", exc) from exc


def _facts(pod: Manifest) -> dict[str, str]:
    annotations = pod["metadata"].get("annotations", {})
    return {
        name.removeprefix(FACTS_PREFIX): value for name, value in annotations.items() if name.startswith(FACTS_PREFIX)
    }


def _check_size(field: str, got: float, least_and_most: tuple[float, float], written: Callable[[float], str]) -> None:
    least, most = least_and_most
    if not least <= got <= most:
        raise InvalidRequest.field(field, f"got {written(got)}, wanted {written(least)} to {written(most)} on gke")
