"""What is made in a cluster for a session, as Kubernetes' own manifests. Nothing here speaks to a cluster.

Everything carries the session's id as name and as label. The NetworkPolicy is made first and goes last: by it all that
a session has is found again, without the right to list Secrets.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from shared.models import Session

Manifest = dict[str, Any]

SESSION_LABEL = "onmemos.dev/session"
OURS = {"app.kubernetes.io/managed-by": "onmemos"}
USER_LABELS = "labels.onmemos.dev/"  # those of the session's labels that are legal here; the annotation has all
AGENT_PORT = 8080
USER_ID = 1000
GRACE_S = 10  # as Cloud Run: the agent ends what runs, GCS FUSE writes what is open
STARTUP_TRIES = 120  # once a second
METADATA_RANGE = "169.254.0.0/16"  # link-local: the metadata server and what else nodes keep for themselves
NODE_LOCAL_DNS = "169.254.20.10/32"  # cloud.google.com/kubernetes-engine/docs/how-to/nodelocal-dns-cache
CLOUD_DNS = "169.254.169.254/32"  # Cloud DNS for GKE answers at the metadata server's address; port 53 alone is opened
# By its labels: in Dataplane V2, as in Cilium, a range of addresses never means the cluster's own Pods.
CLUSTER_DNS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {
        "matchExpressions": [{"key": "k8s-app", "operator": "In", "values": ["kube-dns", "node-local-dns"]}]
    },
}
GCSFUSE_ANNOTATION = "gke-gcsfuse/volumes"
GCSFUSE_DRIVER = "gcsfuse.csi.storage.gke.io"
NAME_ROOM = 63
LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(rf"({LABEL_NAME.pattern})?")


@dataclass(frozen=True, slots=True)
class GkeSettings:
    """`kubeconfig` (a path) or else `cluster` (projects/P/locations/L/clusters/C) says which cluster.

    `runtime_class`: of Pods, such as gvisor; "": the cluster's own. `pod_network`: agents are reached by their Pods'
    addresses and not through the API server. `buckets`: the cluster has the GCS FUSE driver. `service_account`: what
    Pods with a bucket run as; "": the namespace's default. `storage_class`: of long-lived sessions' disks; "": the
    cluster's default. `disk_gib`: how much fits into /workspace. `warm_pool`: namespace/pool of Agent Sandbox, the pool
    may hold {template}; "": every session gets a Pod of its own making.
    """

    kubeconfig: str = ""
    cluster: str = ""
    runtime_class: str = ""
    pod_network: bool = False
    buckets: bool = True
    service_account: str = ""
    storage_class: str = ""
    disk_gib: int = 10
    warm_pool: str = ""


def namespace_name(session: Session) -> str:
    """onmemos-<tenant>-<namespace>-<digest>: readable as far as it fits, and different for different pairs.

    Sessions with a share have one of their own: the restricted Pod Security standard knows no nfs volumes.
    """
    level = security_level(session)
    digest = hashlib.sha256(f"{session.tenant}\0{session.namespace}\0{level}".encode()).hexdigest()[:10]
    readable = re.sub(r"[^a-z0-9]+", "-", f"{session.tenant}-{session.namespace}".lower()).strip("-")
    return f"onmemos-{readable[: NAME_ROOM - len('onmemos--') - len(digest)].strip('-') or 'x'}-{digest}"


def security_level(session: Session) -> str:
    """The Pod Security standard that the session's Pod keeps."""
    return "restricted" if session.storage.filestore is None else "baseline"


def mounts_bucket(session: Session, settings: GkeSettings) -> bool:
    """GCS FUSE runs in the Pod, so a Pod without a way out cannot have it."""
    return settings.buckets and session.egress


def selector(session_id: str) -> str:
    return f"{SESSION_LABEL}={session_id}"


def namespace(session: Session) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace_name(session),
            "labels": {**OURS, "pod-security.kubernetes.io/enforce": security_level(session)},
            "annotations": {"onmemos.dev/tenant": session.tenant, "onmemos.dev/namespace": session.namespace},
        },
    }


def default_deny() -> Manifest:
    """For every Pod of the namespace: what no other policy allows does not pass."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny", "labels": dict(OURS)},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


def service_account(name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "labels": dict(OURS)},
        "automountServiceAccountToken": False,
    }


def network_policy(session: Session) -> Manifest:
    """In: to the agent's port, whose door is the ticket. Out: all but link-local addresses, and DNS; or nothing."""
    dns = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    way_out: list[Manifest] = [
        {"to": [_range("0.0.0.0/0", METADATA_RANGE), _range("::/0", "fe80::/10")]},
        {"to": [CLUSTER_DNS, _range(NODE_LOCAL_DNS), _range(CLOUD_DNS)], "ports": dns},
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(session),
        "spec": {
            "podSelector": {"matchLabels": {SESSION_LABEL: session.id}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": AGENT_PORT}]}],
            "egress": way_out if session.egress else [],
        },
    }


def secret(session: Session, env: dict[str, str]) -> Manifest:
    """The environment: what the user set, and what is the session's."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(session),
        "type": "Opaque",
        "stringData": dict(env),
    }


def volume_claim(session: Session, settings: GkeSettings) -> Manifest:
    """The disk of a long-lived session, which outlives its Pods."""
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{settings.disk_gib}Gi"}},
    }
    if settings.storage_class:
        spec["storageClassName"] = settings.storage_class
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": _metadata(session), "spec": spec}


def pod(session: Session, settings: GkeSettings, bucket: str) -> Manifest:
    """What the agent runs in. Requests are limits: what a session may use is what it has."""
    bucketed = mounts_bucket(session, settings)
    metadata = _metadata(session)
    # Nodes that are empty but for sessions are not: cluster-autoscaler's FAQ, "What types of pods can prevent…".
    metadata["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] = "false"
    if bucketed:
        metadata["annotations"][GCSFUSE_ANNOTATION] = "true"
    volumes = _volumes(session, settings, bucket if bucketed else "")
    spec: Manifest = {
        "containers": [
            {
                "name": "agent",
                "image": session.image,
                "env": [{"name": "PORT", "value": str(AGENT_PORT)}],
                "envFrom": [{"secretRef": {"name": session.id}}],
                "ports": [{"name": "agent", "containerPort": AGENT_PORT, "protocol": "TCP"}],
                "resources": _resources(session, settings),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                "startupProbe": {**_probe(), "failureThreshold": STARTUP_TRIES},
                "readinessProbe": {**_probe(), "periodSeconds": 5},
                "volumeMounts": [{"name": name, "mountPath": path} for name, path, _ in volumes],
            }
        ],
        "volumes": [{"name": name, **source} for name, _, source in volumes],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",  # else every start walks through the whole disk
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": GRACE_S,
    }
    if settings.runtime_class:
        spec["runtimeClassName"] = settings.runtime_class
    if bucketed and settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def sandbox_claim(session: Session, pool: str) -> Manifest:
    """A claim on a sandbox of a warm pool. It carries no env: a claim with one is never served from the pool."""
    return {
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1",
        "kind": "SandboxClaim",
        "metadata": _metadata(session),
        "spec": {"warmPoolRef": {"name": pool}},
    }


def _metadata(session: Session) -> Manifest:
    legal = {
        f"{USER_LABELS}{key}": value
        for key, value in session.labels.items()
        if LABEL_NAME.fullmatch(key) and LABEL_VALUE.fullmatch(value)
    }
    return {
        "name": session.id,
        "labels": {**legal, **OURS, SESSION_LABEL: session.id},
        "annotations": {
            "onmemos.dev/tenant": session.tenant,
            "onmemos.dev/namespace": session.namespace,
            "onmemos.dev/user": session.user,
            "onmemos.dev/labels": json.dumps(dict(session.labels), sort_keys=True),
        },
    }


def _range(cidr: str, *but: str) -> Manifest:
    return {"ipBlock": {"cidr": cidr, "except": list(but)} if but else {"cidr": cidr}}


def _probe() -> Manifest:
    return {"httpGet": {"path": "/health", "port": AGENT_PORT}, "periodSeconds": 1, "timeoutSeconds": 2}


def _resources(session: Session, settings: GkeSettings) -> Manifest:
    disk_gib = 1 if session.long_lived else settings.disk_gib  # its /workspace is not the node's
    amounts = {
        "cpu": f"{round(session.resources.cpu * 1000)}m",
        "memory": quantity(session.resources.memory_bytes),
        "ephemeral-storage": f"{disk_gib}Gi",
    }
    return {"requests": dict(amounts), "limits": amounts}


def quantity(size_bytes: int) -> str:
    """As Kubernetes writes it: in the largest unit that leaves no rest."""
    for shift, unit in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
        if size_bytes and size_bytes % (1 << shift) == 0:
            return f"{size_bytes >> shift}{unit}"
    return str(size_bytes)


def _volumes(session: Session, settings: GkeSettings, bucket: str) -> list[tuple[str, str, Manifest]]:
    """(name, mount path, source) of all that the session has mounted."""
    workspace: Manifest = (
        {"persistentVolumeClaim": {"claimName": session.id}}
        if session.long_lived
        else {"emptyDir": {"sizeLimit": f"{settings.disk_gib}Gi"}}
    )
    found = [("workspace", "/workspace", workspace)]
    if bucket:
        owner = f"uid={USER_ID},gid={USER_ID},file-mode=664,dir-mode=775"
        attributes = {"bucketName": bucket, "mountOptions": f"implicit-dirs,{owner}"}
        found.append(
            ("bucket", session.storage.mount_path, {"csi": {"driver": GCSFUSE_DRIVER, "volumeAttributes": attributes}})
        )
    share = session.storage.filestore
    if share is not None:
        found.append(("filestore", share.mount_path, {"nfs": {"server": share.ip, "path": f"/{share.share}"}}))
    return found
