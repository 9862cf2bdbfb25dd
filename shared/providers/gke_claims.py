"""Sessions from a warm pool of Agent Sandbox (kubernetes-sigs/agent-sandbox, v1beta1): claims on Pods that are up.

What a pool's Pods have, its sessions have: image, resources, network, no disk and no bucket of their own. A session
that wants anything else fits no pool and gets a Pod of its own.
"""

import asyncio
import re
import time
from contextlib import aclosing

from shared.errors import ProvisioningFailed
from shared.models import Session, Storage
from shared.providers.gke_cluster import CONFLICT, NOT_FOUND, PODS, Cluster, Kind, Refused
from shared.providers.gke_manifests import Manifest, sandbox_claim, selector

EXTENSIONS = {"group": "extensions.agents.x-k8s.io", "version": "v1beta1"}
CLAIMS = Kind("CustomObjectsApi", "custom_object", {**EXTENSIONS, "plural": "sandboxclaims"})
POOLS = Kind("CustomObjectsApi", "custom_object", {**EXTENSIONS, "plural": "sandboxwarmpools"})
TEMPLATES = Kind("CustomObjectsApi", "custom_object", {**EXTENSIONS, "plural": "sandboxtemplates"})
SANDBOXES = Kind(
    "CustomObjectsApi", "custom_object", {"group": "agents.x-k8s.io", "version": "v1beta1", "plural": "sandboxes"}
)
POD_NAME = "agents.x-k8s.io/pod-name"  # of a Sandbox whose Pod is named otherwise than it
BOUND_TIMEOUT_S = 60.0
GONE_TIMEOUT_S = 120.0
TEMPLATE_KEPT_S = 60.0
HOPELESS = frozenset(
    {"TemplateNotFound", "WarmPoolNotFound", "InvalidMetadata", "EnvVarsInjectionRejected", "VolumeClaimTemplatesError"}
)
AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
UNITS = {
    "m": 0.001,
    "k": 1e3,
    "Ki": 1 << 10,
    "M": 1e6,
    "Mi": 1 << 20,
    "G": 1e9,
    "Gi": 1 << 30,
    "T": 1e12,
    "Ti": 1 << 40,
}


class WarmPool:
    """The pools of one namespace. `pool` may hold {template}."""

    def __init__(self, cluster: Cluster, namespace: str, pool: str) -> None:
        self.namespace = namespace
        self._cluster = cluster
        self._pool = pool
        self._containers: dict[str, tuple[float, Manifest | None]] = {}

    async def fits(self, session: Session) -> bool:
        """Whether the pool's Pods are what the session asks for; where there is no pool, none are."""
        if session.storage != Storage() or session.long_lived or not session.egress:
            return False
        container = await self._container(self._name(session))
        if container is None or container.get("image") != session.image:
            return False
        limits = container.get("resources", {}).get("limits", {})
        wanted = (session.resources.cpu, session.resources.memory_bytes)
        return (amount(limits.get("cpu", "0")), amount(limits.get("memory", "0"))) == wanted

    async def find(self, session_id: str) -> Manifest | None:
        """The session's claim. Where the cluster knows no claims there is none."""
        return await self._read(CLAIMS, session_id)

    async def claims(self, label: str) -> list[Manifest]:
        try:
            return await self._cluster.labelled(CLAIMS, label, self.namespace)
        except Refused as refusal:
            if refusal.status == NOT_FOUND:
                return []
            raise

    async def claim(self, session: Session) -> str:
        """Claim a Pod, or find the one that a former try claimed; its name, once there is one.

        Raises ProvisioningFailed, Refused, ProviderUnavailable, TimeoutError.
        """
        async with asyncio.timeout(BOUND_TIMEOUT_S):
            while True:
                try:
                    await self._cluster.create(CLAIMS, self.namespace, sandbox_claim(session, self._name(session)))
                except Refused as refusal:
                    if refusal.status != CONFLICT:
                        raise
                pod_name = await self._bound(session.id)
                if pod_name is None:
                    continue  # it was being deleted, and now a new one can be made
                async with aclosing(self._cluster.states(PODS, self.namespace, pod_name)) as states:
                    async for pod in states:
                        if pod is not None:
                            return pod_name

    async def _bound(self, session_id: str) -> str | None:
        """The Pod of a claim, once it has one; None: the claim has gone."""
        async with aclosing(self._cluster.states(CLAIMS, self.namespace, session_id)) as states:
            async for claim in states:
                if claim is None:
                    return None
                if "deletionTimestamp" in claim["metadata"]:
                    continue
                pod_name = await self.pod_name(claim)
                if pod_name is not None:
                    return pod_name
                _check(claim)
        return None

    async def pod_name(self, claim: Manifest) -> str | None:
        """The Pod behind a claim; None: it has none yet."""
        name = claim.get("status", {}).get("sandbox", {}).get("name")
        sandbox = await self._read(SANDBOXES, name) if name else None
        if sandbox is None:
            return None
        return str(sandbox["metadata"].get("annotations", {}).get(POD_NAME) or name)

    async def pod(self, claim: Manifest) -> Manifest | None:
        name = await self.pod_name(claim)
        return await self._cluster.find(PODS, self.namespace, name) if name else None

    async def release(self, session_id: str) -> None:
        """Delete the claims with their Pods, and wait until they are gone."""
        async with asyncio.timeout(GONE_TIMEOUT_S):
            for claim in await self.claims(selector(session_id)):
                await self._cluster.delete(CLAIMS, self.namespace, claim["metadata"]["name"], foreground=True)

    def _name(self, session: Session) -> str:
        return self._pool.replace("{template}", session.template)

    async def _container(self, pool_name: str) -> Manifest | None:
        """The container of a pool's template, as it was up to a minute ago."""
        read_at, container = self._containers.get(pool_name, (-TEMPLATE_KEPT_S, None))
        if time.monotonic() - read_at < TEMPLATE_KEPT_S:
            return container
        container = None
        pool = await self._read(POOLS, pool_name)
        template = pool and await self._read(TEMPLATES, pool["spec"]["sandboxTemplateRef"]["name"])
        if template:
            containers = template["spec"]["podTemplate"]["spec"].get("containers", [])
            container = containers[0] if containers else None
        self._containers[pool_name] = (time.monotonic(), container)
        return container

    async def _read(self, kind: Kind, name: str) -> Manifest | None:
        try:
            return await self._cluster.find(kind, self.namespace, name)
        except Refused as refusal:
            if refusal.status == NOT_FOUND:  # the cluster does not even know the kind
                return None
            raise


def amount(quantity: str) -> float:
    """A Kubernetes quantity as a number; 0 for what is none."""
    found = AMOUNT.fullmatch(str(quantity))
    return round(float(found[1]) * UNITS.get(found[2], 1), 3) if found else 0.0


def _check(claim: Manifest) -> None:
    for condition in claim.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "False" and condition["reason"] in HOPELESS:
            raise ProvisioningFailed(
                f"Agent Sandbox could not start the workspace: {condition['reason']}: {condition['message']}"
            )
