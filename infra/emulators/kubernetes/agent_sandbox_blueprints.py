"""What Agent Sandbox's controllers make of a template: sandboxes, their Pods, disks, services and network policies."""

import json
from typing import Any, Final

from infra.emulators.kubernetes.agent_sandbox_definitions import EXTENSIONS, GROUP
from infra.emulators.kubernetes.objects import Object, copied

NAME_HASH: Final = "agents.x-k8s.io/sandbox-name-hash"
POD_NAME: Final = "agents.x-k8s.io/pod-name"
ASSIGNED: Final = "agents.x-k8s.io/sandbox-name"
LAUNCH_TYPE: Final = "agents.x-k8s.io/launch-type"
WARM_POOL: Final = "agents.x-k8s.io/warm-pool-sandbox"
CLAIM_UID: Final = "agents.x-k8s.io/claim-uid"
TEMPLATE_REF: Final = "agents.x-k8s.io/sandbox-template-ref"
TEMPLATE_REF_HASH: Final = "agents.x-k8s.io/sandbox-template-ref-hash"
TEMPLATE_HASH: Final = "agents.x-k8s.io/sandbox-template-hash"
PRIVATE: Final = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"]
_PASSED_ON: Final = (CLAIM_UID, WARM_POOL, TEMPLATE_REF_HASH)  # labels of a sandbox that its Pod has too


def name_hash(name: str) -> str:
    """FNV-1a, 32 bits, hexadecimal."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{value:08x}"


def digest(part: dict[str, Any]) -> str:
    return name_hash(json.dumps(part, sort_keys=True))


def owner(obj: Object) -> dict[str, Any]:
    """The controller reference to this object."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owns(obj: Object, other: Object) -> bool:
    """Whether `obj` controls `other`."""
    references = other["metadata"].get("ownerReferences", [])
    return any(one.get("controller") and one["uid"] == obj["metadata"]["uid"] for one in references)


def sandbox(name: str, of: Object, template: Object, labels: dict[str, str]) -> Object:
    """A sandbox as its template has it, without a service account's token unless the template asks for one."""
    spec, metadata = template["spec"], template["metadata"]
    blueprint = copied({key: spec[key] for key in ("podTemplate", "volumeClaimTemplates", "service") if key in spec})
    blueprint["podTemplate"]["spec"].setdefault("automountServiceAccountToken", False)
    named = {TEMPLATE_REF_HASH: name_hash(metadata["name"]), TEMPLATE_HASH: digest(spec["podTemplate"])}
    return {
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {**named, **labels},
            "annotations": {TEMPLATE_REF: metadata["name"]},
            "ownerReferences": [owner(of)],
        },
        "spec": blueprint,
    }


def pod_labels(sandbox: Object) -> dict[str, str]:
    """The template's, but none that is the controllers', and those by which Pods are found."""
    metadata = sandbox["metadata"]
    own = sandbox["spec"]["podTemplate"].get("metadata", {}).get("labels", {})
    passed_on = {key: metadata["labels"][key] for key in _PASSED_ON if key in metadata.get("labels", {})}
    return {
        **{key: value for key, value in own.items() if not is_ours(key)},
        NAME_HASH: name_hash(metadata["name"]),
        **passed_on,
    }


def is_ours(label: str) -> bool:
    return label.startswith((f"{GROUP}/", f"{EXTENSIONS}/"))


def service(sandbox: Object) -> Object:
    name = sandbox["metadata"]["name"]
    label = {NAME_HASH: name_hash(name)}
    ports = [
        {"name": port.get("name", f"p{port['containerPort']}"), "port": port["containerPort"]}
        for container in sandbox["spec"]["podTemplate"]["spec"]["containers"]
        for port in container.get("ports", [])
    ]
    return {
        "metadata": {
            "name": name,
            "namespace": sandbox["metadata"]["namespace"],
            "labels": label,
            "ownerReferences": [owner(sandbox)],
        },
        "spec": {"clusterIP": "None", "selector": label, **({"ports": ports} if ports else {})},
    }


def pod(sandbox: Object) -> Object:
    """The Pod of a sandbox, of the same name."""
    name, namespace = sandbox["metadata"]["name"], sandbox["metadata"]["namespace"]
    template = sandbox["spec"]["podTemplate"]
    spec = copied(template["spec"])
    for claim in sandbox["spec"].get("volumeClaimTemplates", []):
        volume = claim["metadata"]["name"]
        others = [one for one in spec.get("volumes", []) if one["name"] != volume]
        spec["volumes"] = [*others, {"name": volume, "persistentVolumeClaim": {"claimName": f"{volume}-{name}"}}]
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": pod_labels(sandbox),
            "annotations": dict(template.get("metadata", {}).get("annotations", {})),
            "ownerReferences": [owner(sandbox)],
        },
        "spec": spec,
    }


def volume_claims(sandbox: Object) -> list[Object]:
    """The disks that a sandbox's Pod mounts."""
    name, namespace = sandbox["metadata"]["name"], sandbox["metadata"]["namespace"]
    return [
        {
            "metadata": {
                **claim["metadata"],
                "name": f"{claim['metadata']['name']}-{name}",
                "namespace": namespace,
                "ownerReferences": [owner(sandbox)],
            },
            "spec": copied(claim["spec"]),
        }
        for claim in sandbox["spec"].get("volumeClaimTemplates", [])
    ]


def network_policy(template: Object) -> dict[str, Any]:
    """The spec of a template's policy: its own rules, or in from the router and out to the public internet."""
    rules = template["spec"].get("networkPolicy")
    if rules is None:
        public = [
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": PRIVATE}},
            {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7"]}},
        ]
        router = {"from": [{"podSelector": {"matchLabels": {"app": "sandbox-router"}}}]}
        rules = {"ingress": [router], "egress": [{"to": public}]}
    return {
        "podSelector": {"matchLabels": {TEMPLATE_REF_HASH: name_hash(template["metadata"]["name"])}},
        "policyTypes": ["Ingress", "Egress"],
        **{side: copied(rules[side]) for side in ("ingress", "egress") if rules.get(side)},
    }
