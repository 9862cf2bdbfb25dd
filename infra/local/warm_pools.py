"""The warm pool that an operator makes in a cluster, made here with the same client: what docs/gke.md prints."""

from pathlib import Path
from typing import Any

from shared.providers.gke_claims import POOLS, TEMPLATES
from shared.providers.gke_cluster import CONFLICT, Cluster, Refused
from shared.providers.gke_credentials import Kubeconfig
from shared.templates import Template

API = "extensions.agents.x-k8s.io/v1beta1"
WARM = 2  # Pods that wait, each an agent of about 40 MB
AGENT_PORT = 8080


async def ensure_warm_pool(kubeconfig: str, pool: str, template: Template, ticket_keys: str) -> None:
    """Make `pool` (namespace/name, which may hold {template}) with its namespace, or leave what is there.

    `ticket_keys`: the public keys, a JWK set, that its agents take tickets of.
    """
    namespace, _, name = pool.format(template=template.name).partition("/")
    cluster = Cluster(Kubeconfig(Path(kubeconfig)))
    try:
        await _unless_there(cluster.create_namespace({"metadata": {"name": namespace}}))
        for kind, kind_name, spec in (
            (TEMPLATES, "SandboxTemplate", {"podTemplate": {"spec": _pod(template, ticket_keys)}}),
            (POOLS, "SandboxWarmPool", {"replicas": WARM, "sandboxTemplateRef": {"name": name}}),
        ):
            await _unless_there(cluster.create(kind, namespace, _object(kind_name, namespace, name, spec)))
    finally:
        await cluster.close()


async def _unless_there(creation: Any) -> None:
    try:
        await creation
    except Refused as refusal:
        if refusal.status != CONFLICT:
            raise


def _object(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _pod(template: Template, ticket_keys: str) -> dict[str, Any]:
    size = {"cpu": f"{template.resources.cpu:g}", "memory": f"{template.resources.memory_bytes >> 20}Mi"}
    container = {
        "name": "agent",
        "image": template.image,
        "env": [
            {"name": "PORT", "value": str(AGENT_PORT)},
            {"name": "WORKSPACE_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "ONMEMOS_AGENT_STATE", "value": "/run/onmemos-state"},
            {"name": "ONMEMOS_TICKET_KEYS", "value": ticket_keys},
        ],
        "resources": {"requests": size, "limits": size},
        "readinessProbe": {"httpGet": {"path": "/health", "port": AGENT_PORT}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "workspace", "mountPath": "/workspace"},
            {"name": "state", "mountPath": "/run/onmemos-state"},
        ],
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": [{"name": "workspace", "emptyDir": {}}, {"name": "state", "emptyDir": {}}],
    }
