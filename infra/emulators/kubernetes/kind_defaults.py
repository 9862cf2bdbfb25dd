"""What the API server fills in where an object that is no Pod leaves it out."""

import base64
from typing import Any

from infra.emulators.kubernetes import kinds
from infra.emulators.kubernetes.definitions import fill as fill_definition
from infra.emulators.kubernetes.objects import Object


def fill(kind: kinds.Kind, obj: Object) -> None:
    """The defaults of what is no Pod."""
    spec = obj.get("spec") or {}
    if kind is kinds.SECRETS:
        obj.setdefault("type", "Opaque")
        if written := obj.pop("stringData", None):
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in written.items()}
            obj["data"] = {**(obj.get("data") or {}), **encoded}
    elif kind is kinds.PERSISTENT_VOLUME_CLAIMS:
        obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    elif kind is kinds.SERVICES:
        _fill_service(obj.setdefault("spec", {}))
    elif kind is kinds.NETWORK_POLICIES:
        _fill_policy(obj.setdefault("spec", {}))
    elif kind is kinds.STORAGE_CLASSES:
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")
    elif kind is kinds.PRIORITY_CLASSES:
        obj.setdefault("value", 0)
        obj.setdefault("preemptionPolicy", "PreemptLowerPriority")
    elif kind is kinds.CUSTOM_RESOURCE_DEFINITIONS:
        fill_definition(obj)
    elif kind is kinds.NAMESPACES:
        labels = obj["metadata"].setdefault("labels", {})
        if "name" in obj["metadata"]:
            labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
    elif kind is kinds.LIMIT_RANGES:
        for item in spec.get("limits") or ():
            if item.get("type") == "Container":
                for name, amount in (item.get("max") or {}).items():
                    item.setdefault("default", {}).setdefault(name, amount)
                for name, amount in (item.get("default") or {}).items():
                    item.setdefault("defaultRequest", {}).setdefault(name, (item.get("min") or {}).get(name, amount))


def _fill_service(spec: dict[str, Any]) -> None:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))


def _fill_policy(spec: dict[str, Any]) -> None:
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]
    for rule in [*(spec.get("ingress") or ()), *(spec.get("egress") or ())]:
        for port in rule.get("ports") or ():
            port.setdefault("protocol", "TCP")
