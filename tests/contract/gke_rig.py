"""The GKE provider on the Kubernetes emulator, whose Pods are only a socket each; or on the cluster of a kubeconfig.

Such a cluster may be an API server alone: then Pods are made, and none runs. What a test makes there is in namespaces
of its own, which go when the test ends.
"""

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.emulators.kubernetes.node import Capacity, Node
from infra.emulators.kubernetes.podaccess import PodAccess
from infra.emulators.run.specs import Folders
from shared.models import Session
from shared.providers.base import Workspace
from shared.providers.gke import Gke, GkeSettings
from shared.providers.gke_claims import POOLS
from shared.providers.gke_cluster import PODS, Kind
from shared.providers.gke_cluster import Cluster as Api
from shared.providers.gke_credentials import Kubeconfig
from shared.providers.gke_manifests import SESSION_LABEL, namespace_name
from tests.contract.cloud_run_rig import SocketRuntime
from tests.contract.kubernetes_rig import AGENT_KEYS, IMAGE, KUBECONFIG, NO_IMAGE, NO_NODE, Cluster, cluster, takes_pods
from tests.fakes import a_session

PATIENCE_S = 1.0  # for Pods in trouble: no node is added here
POOL_NAMESPACE, POOL = "warm", "pool-python"
EXTENSIONS = "extensions.agents.x-k8s.io/v1beta1"
KINDS = (
    "api/v1/{}pods",
    "api/v1/{}secrets",
    "api/v1/{}persistentvolumeclaims",
    "apis/networking.k8s.io/v1/{}networkpolicies",
)
CLAIM_PATH = f"apis/{EXTENSIONS}/{{}}sandboxclaims"
Object = dict[str, Any]


class Tried(Gke):
    """The provider as tests of all providers use it, on a cluster that is not ours alone."""

    tenant = ""
    why_no_pods = ""

    async def create(self, session: Session, env: dict[str, str], bucket: str) -> Workspace:
        if self.why_no_pods:
            pytest.skip(self.why_no_pods)
        env = {
            "WORKSPACE_ID": session.id,
            "ONMEMOS_TICKET_KEYS": AGENT_KEYS,
            **env,
        }  # what an agent does not start without
        return await super().create(replace(session, tenant=self.tenant, image=IMAGE), env, bucket)


@dataclass
class GkeRig:
    """`emulator` and `runtime` are None on a cluster of others; `why_no_pods` says why none would run there."""

    provider: Gke
    settings: GkeSettings
    kubeconfig: Path
    http: httpx.AsyncClient
    api: Api
    tenant: str
    emulator: Cluster | None = None
    runtime: SocketRuntime | None = None
    why_no_pods: str = ""
    has_nodes: bool = True
    tls: ssl.SSLContext | bool = True

    def session(self, **changes: Any) -> Session:
        return a_session(**{"tenant": self.tenant, "image": IMAGE or a_session().image, **changes})

    def needs_nodes(self) -> None:
        """Skip the test where nothing schedules or starts Pods."""
        if not self.has_nodes:
            pytest.skip(self.why_no_pods)

    async def created(self, session: Session, env: dict[str, str] | None = None, bucket: str = "bucket-1") -> Workspace:
        """A workspace that runs; where none can, the test is skipped."""
        if self.why_no_pods:
            pytest.skip(self.why_no_pods)
        return await self.provider.create(session, env or {}, bucket)

    async def made(self, session: Session, env: dict[str, str] | None = None, bucket: str = "bucket-1") -> Object:
        """The Pod of a session, which need not run."""
        creating = asyncio.create_task(Gke.create(self.provider, session, env or {}, bucket))
        try:
            return await self.until(session, lambda pod: "deletionTimestamp" not in pod["metadata"], creating)
        finally:
            creating.cancel()
            await asyncio.gather(creating, return_exceptions=True)

    async def until(
        self, session: Session, holds: Callable[[Object], bool], creating: "asyncio.Task[Workspace] | None" = None
    ) -> Object:
        """The session's Pod once it is like that; if its creation fails before, the failure."""
        waiting = asyncio.create_task(self.until_one(PODS, namespace_name(session), session.id, holds))
        try:
            await asyncio.wait({waiting, *([creating] if creating else [])}, return_when=asyncio.FIRST_COMPLETED)
            if creating is not None and creating.done():
                creating.result()
            return await waiting
        finally:
            waiting.cancel()

    async def until_one(self, kind: Kind, namespace: str, name: str, holds: Callable[[Object], bool]) -> Object:
        """An object once it is like that."""
        async with asyncio.timeout(60), aclosing(self.api.states(kind, namespace, name)) as states:
            async for state in states:
                if state is not None and holds(state):
                    return state
        raise AssertionError("states never end")

    async def find(self, kind: Kind, session: Session, name: str = "") -> Object | None:
        """An object in the session's namespace, by default the one that is the session's."""
        return await self.api.find(kind, namespace_name(session), name or session.id)

    def is_empty(self) -> bool:
        """Whether nothing of a session of this rig is left in the cluster."""
        paths = (*KINDS, CLAIM_PATH) if self.settings.warm_pool else KINDS
        found = [obj for path in paths for obj in self._listed(path)]
        return not any(obj["metadata"].get("annotations", {}).get("onmemos.dev/tenant") == self.tenant for obj in found)

    def _listed(self, path: str) -> list[Object]:
        version, _, plural = path.rpartition("/{}")
        if self.emulator is not None:  # it would wait for this very thread to answer
            group, _, version = version.removeprefix("api/").removeprefix("apis/").rpartition("/")
            kind = self.emulator.objects.kinds.find(group, version, plural)
            return self.emulator.objects.list(kind)[0] if kind else []
        with httpx.Client(base_url=self.http.base_url, headers=self.http.headers, verify=self.tls, timeout=30) as http:
            answer = http.get(f"/{path.format('')}", params={"labelSelector": SESSION_LABEL})
            found: list[Object] = answer.raise_for_status().json()["items"]
            return found

    @asynccontextmanager
    async def another(self, settings: GkeSettings) -> AsyncIterator[Gke]:
        provider = Gke(settings, Kubeconfig(self.kubeconfig), most_patience_s=PATIENCE_S)
        try:
            yield provider
        finally:
            await provider.close()


@asynccontextmanager
async def gke(folder: Path, sockets: Path, **settings: Any) -> AsyncIterator[GkeRig]:
    """`folder`/buckets are the buckets; `settings` are the provider's."""
    opened = _theirs(settings) if KUBECONFIG else _ours(folder, sockets, settings)
    async with opened as rig:
        try:
            yield rig
        finally:
            await rig.provider.close()


@asynccontextmanager
async def _ours(folder: Path, sockets: Path, settings: dict[str, Any]) -> AsyncIterator[GkeRig]:
    runtime = SocketRuntime(sockets)
    folders = Folders(buckets=folder / "buckets", scratch=folder / "pods", filestore=folder / "filestore")
    wanted = GkeSettings(**settings)
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(cluster(folder, agent_sandbox=bool(wanted.warm_pool)))
        capacity = Capacity(cpu=16, memory_bytes=64 << 30)  # whatever this machine has
        node = Node(
            emulator.objects, runtime, state=folder / "node", folders=folders, first_backoff_s=0.1, capacity=capacity
        )
        stack.push_async_callback(runtime.close)
        await stack.enter_async_context(node)
        server: Any = emulator.emulator.app
        await stack.enter_async_context(PodAccess(emulator.objects, node.kubelet, node.logs, server))
        kubeconfig = emulator.kubeconfig
        api = Api(Kubeconfig(kubeconfig))
        stack.push_async_callback(api.close)
        if wanted.warm_pool:
            await _make_pool(emulator.http, api)
        provider = Gke(wanted, Kubeconfig(kubeconfig), most_patience_s=PATIENCE_S)
        yield GkeRig(provider, wanted, kubeconfig, emulator.http, api, "default", emulator, runtime)


@asynccontextmanager
async def _theirs(settings: dict[str, Any]) -> AsyncIterator[GkeRig]:
    wanted = GkeSettings(**{"buckets": False, **settings})
    if wanted.warm_pool:
        pytest.skip("warm pools are of the emulator's cluster")
    credentials = Kubeconfig(Path(KUBECONFIG))
    server = await credentials.server()
    tenant = f"contract-{secrets.token_hex(4)}"
    provider = Tried(wanted, credentials, most_patience_s=60)
    async with AsyncExitStack() as stack:
        tls = server.ssl if server.ssl is not None else True
        headers = await credentials.headers()
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=server.url, headers=headers, verify=tls, timeout=30)
        )
        api = Api(Kubeconfig(Path(KUBECONFIG)))
        stack.push_async_callback(api.close)
        nodes = [one for one in (await http.get("/api/v1/nodes")).raise_for_status().json()["items"] if takes_pods(one)]
        provider.tenant = tenant
        if not nodes:
            provider.why_no_pods = NO_NODE
        elif not IMAGE:
            provider.why_no_pods = NO_IMAGE
        stack.push_async_callback(_clean, http, tenant)
        if not nodes:
            accounts = asyncio.create_task(_make_accounts(http, tenant))
            stack.callback(accounts.cancel)
        yield GkeRig(
            provider,
            wanted,
            Path(KUBECONFIG),
            http,
            api,
            tenant,
            why_no_pods=provider.why_no_pods,
            has_nodes=bool(nodes),
            tls=tls,
        )


async def _namespaces(http: httpx.AsyncClient, tenant: str) -> list[str]:
    answer = await http.get("/api/v1/namespaces", params={"labelSelector": "app.kubernetes.io/managed-by=onmemos"})
    found = answer.raise_for_status().json()["items"]
    return [
        obj["metadata"]["name"] for obj in found if obj["metadata"]["annotations"].get("onmemos.dev/tenant") == tenant
    ]


async def _make_accounts(http: httpx.AsyncClient, tenant: str) -> None:
    """What the controller does that an API server alone does not have: each namespace gets its default account."""
    while True:
        with contextlib.suppress(httpx.HTTPError):
            for namespace in await _namespaces(http, tenant):
                account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
                await http.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", json=account)
        await asyncio.sleep(0.1)


async def _clean(http: httpx.AsyncClient, tenant: str) -> None:
    """Remove the namespaces; where no controller empties them, what is in them, whatever holds it."""
    for namespace in await _namespaces(http, tenant):
        for path in KINDS:
            collection = f"/{path.format(f'namespaces/{namespace}/')}"
            for obj in (await http.get(collection)).raise_for_status().json()["items"]:
                one = f"{collection}/{obj['metadata']['name']}"
                await http.delete(one, params={"gracePeriodSeconds": 0})
                merge = {"Content-Type": "application/merge-patch+json"}
                await http.patch(one, content='{"metadata": {"finalizers": null}}', headers=merge)
        await http.delete(f"/api/v1/namespaces/{namespace}")
        if not (await http.get("/api/v1/nodes")).json()["items"]:
            with contextlib.suppress(httpx.HTTPError, KeyError):
                left = (await http.get(f"/api/v1/namespaces/{namespace}")).json()
                left["spec"]["finalizers"] = []
                await http.put(f"/api/v1/namespaces/{namespace}/finalize", json=left)


async def _make_pool(http: httpx.AsyncClient, api: Api) -> None:
    """A pool of one Pod, as an ordinary session's is, that is ready."""
    container = {
        "name": "agent",
        "image": a_session().image,
        "env": [{"name": "WORKSPACE_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": {"limits": {"cpu": "1", "memory": "2Gi"}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
    }
    template = {"podTemplate": {"spec": {"containers": [container]}}}
    pooled = {"replicas": 1, "sandboxTemplateRef": {"name": "python"}}
    place = f"/apis/{EXTENSIONS}/namespaces/{POOL_NAMESPACE}"
    for path, kind, name, spec in (
        ("/api/v1/namespaces", "Namespace", POOL_NAMESPACE, {}),
        (f"{place}/sandboxtemplates", "SandboxTemplate", "python", template),
        (f"{place}/sandboxwarmpools", "SandboxWarmPool", POOL, pooled),
    ):
        version = "v1" if kind == "Namespace" else EXTENSIONS
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
        (await http.post(path, json=body)).raise_for_status()
    async with asyncio.timeout(10), aclosing(api.states(POOLS, POOL_NAMESPACE, POOL)) as states:
        async for pool in states:
            if pool is not None and pool.get("status", {}).get("readyReplicas"):
                return
