"""The schemas of built-in kinds, made of the official client's models, with what those leave out of the real ones.

That is how lists and maps merge (kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy) and which
strings are quantities. Importing the models takes more than a second of CPU: see schemas for who asks.
"""

import re
from typing import Any, Final

from infra.emulators.kubernetes.kinds import BUILTIN, Kind

Schema = dict[str, Any]

QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"
PREFIX: Final = "#/definitions/"
_QUANTITIES = {"limits", "requests", "capacity", "allocatable", "allocatedResources", "hard", "used", "podFixed"} | {
    "max", "min", "default", "defaultRequest", "maxLimitRequestRatio", "sizeLimit", "divisor"
}  # fmt: skip
_QUANTITY_OWNERS = {
    "ContainerStatus", "EmptyDirVolumeSource", "LimitRangeItem", "NodeStatus", "Overhead", "PersistentVolumeSpec",
    "PersistentVolumeClaimStatus", "PodStatus", "ResourceFieldSelector", "ResourceQuotaSpec", "ResourceQuotaStatus",
    "ResourceRequirements", "VolumeResourceRequirements",
}  # fmt: skip

# Lists that merge by keys; a strategic merge goes by the first. "": a set.
_MERGED: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "ObjectMeta": {"finalizers": (), "ownerReferences": ("uid",)},
    "PodSpec": {
        "containers": ("name",),
        "initContainers": ("name",),
        "ephemeralContainers": ("name",),
        "volumes": ("name",),
        "imagePullSecrets": ("name",),
        "hostAliases": ("ip",),
        "resourceClaims": ("name",),
        "schedulingGates": ("name",),
        "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    },
    "Container": {
        "env": ("name",),
        "ports": ("containerPort", "protocol"),
        "volumeMounts": ("mountPath",),
        "volumeDevices": ("devicePath",),
    },
    "PodStatus": {"conditions": ("type",), "podIPs": ("ip",)},
    "ResourceRequirements": {"claims": ("name",)},
    "ServiceSpec": {"ports": ("port", "protocol")},
    "ServiceStatus": {"conditions": ("type",)},
    "ServiceAccount": {"secrets": ("name",)},
    "NamespaceStatus": {"conditions": ("type",)},
    "PersistentVolumeClaimStatus": {"conditions": ("type",)},
    "NodeStatus": {"conditions": ("type",), "addresses": ("type",)},
    "CustomResourceDefinitionStatus": {"conditions": ("type",)},
}
_MERGED["EphemeralContainer"] = _MERGED["Container"]
# Only a strategic merge looks into these; for an apply they are one value.
_STRATEGIC_ONLY: Final = {("ServiceAccount", "imagePullSecrets"): "name", ("NodeSpec", "taints"): "key"}
_RETAIN_KEYS: Final = {("PodSpec", "volumes"), ("PodSpec", "resourceClaims")}
_ATOMIC: Final = {
    "ConfigMapKeySelector", "LabelSelector", "LocalObjectReference", "NodeSelector", "NodeSelectorTerm",
    "ObjectFieldSelector", "ObjectReference", "OwnerReference", "ResourceFieldSelector", "SecretKeySelector",
    "SecretReference", "TopologySelectorTerm", "TypedLocalObjectReference",
}  # fmt: skip
_ATOMIC_MAPS: Final = {("PodSpec", "nodeSelector"), ("ServiceSpec", "selector"), ("Overhead", "podFixed")}


def made() -> dict[str, Schema]:
    """By name, as an OpenAPI v2 document has them."""
    import kubernetes.aio.client.models as models  # by those who make them only

    found: dict[str, Schema] = {QUANTITY: {"type": "string", "description": "A number with a unit: 500m, 2, 512Mi."}}
    for kind in (*BUILTIN, *_ASKED):
        model = getattr(models, _model(kind))
        raw = model.model_json_schema(by_alias=True, mode="serialization")
        for name, definition in {**raw.pop("$defs", {}), _model(kind): raw}.items():
            if _named(name) not in found:
                found[_named(name)] = _cleaned_definition(_short(name), definition)
        found[definition_name(kind)]["x-kubernetes-group-version-kind"] = [
            {"group": kind.group, "kind": kind.kind, "version": kind.version}
        ]
    return found


def definition_name(kind: Kind) -> str:
    return _named(_model(kind))


# What is asked and answered, never stored.
_ASKED: Final = (
    Kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False),
    Kind("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False),
    Kind("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False),
    Kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False),
    Kind("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest"),
    Kind("policy", "v1", "evictions", "Eviction"),
    Kind("", "v1", "bindings", "Binding"),
)

_VERSIONED = re.compile(r"(?P<group>[A-Z][a-z]+)?(?P<version>V\d+(?:(?:Alpha|Beta)\d+)?)(?P<name>.*)")
_MODELS = {("", "Event"): "CoreV1Event", ("authentication.k8s.io", "TokenRequest"): "AuthenticationV1TokenRequest"}


def _model(kind: Kind) -> str:
    return _MODELS.get((kind.group, kind.kind)) or f"{kind.version.capitalize()}{kind.kind}"


def _short(model: str) -> str:
    match = _VERSIONED.fullmatch(model)
    return match["name"] if match else model


def _named(model: str) -> str:
    match = _VERSIONED.fullmatch(model)
    if match is None:
        return f"io.k8s.{model}"
    group = f"{match['group'].lower()}." if match["group"] else ""
    return f"io.k8s.api.{group}{match['version'].lower()}.{match['name']}"


def _cleaned_definition(owner: str, raw: Schema) -> Schema:
    definition: Schema = {"type": "object"}
    if description := raw.get("description", "").split("\n\nAttributes:")[0]:
        definition["description"] = description
    definition["properties"] = {name: _property(owner, name, value) for name, value in raw["properties"].items()}
    if raw.get("required"):
        definition["required"] = raw["required"]
    if owner in _ATOMIC:
        definition["x-kubernetes-map-type"] = "atomic"
    return definition


def _property(owner: str, name: str, raw: Schema) -> Schema:
    schema = _cleaned(raw)
    if owner in _QUANTITY_OWNERS and name in _QUANTITIES:
        quantity = {"$ref": PREFIX + QUANTITY}
        beside = {"description": schema["description"]} if "description" in schema else {}
        if schema.get("type") == "object":
            schema["additionalProperties"] = quantity
        else:
            schema = {**beside, **quantity}
    if schema.get("type") == "array":
        keys = _MERGED.get(owner, {}).get(name)
        if keys is None:
            schema["x-kubernetes-list-type"] = "atomic"
            if key := _STRATEGIC_ONLY.get((owner, name)):
                schema |= {"x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": key}
        else:
            retain = "merge,retainKeys" if (owner, name) in _RETAIN_KEYS else "merge"
            schema |= {"x-kubernetes-list-type": "map" if keys else "set", "x-kubernetes-patch-strategy": retain}
            if keys:
                schema |= {"x-kubernetes-list-map-keys": list(keys), "x-kubernetes-patch-merge-key": keys[0]}
    if (owner, name) in _ATOMIC_MAPS:
        schema["x-kubernetes-map-type"] = "atomic"
    return schema


def _cleaned(raw: Schema) -> Schema:
    described = {"description": raw["description"]} if raw.get("description") else {}
    if "anyOf" in raw:
        choices = [one for one in raw["anyOf"] if one.get("type") != "null"]
        types = {one.get("type") for one in choices}
        if len(choices) == 1:
            return {**described, **_cleaned(choices[0])}
        if types == {"integer", "string"}:
            return {**described, "type": "string", "format": "int-or-string"}
        if types == {"string"}:
            return {**described, "type": "string", "format": "byte"}
        return described  # anything: parts of a JSON schema
    if "$ref" in raw:
        return {**described, "$ref": PREFIX + _named(raw["$ref"].rsplit("/", 1)[-1])}
    schema: Schema = dict(described)
    for key in ("type", "format"):
        if key in raw:
            schema[key] = raw[key]
    if "items" in raw:
        schema["items"] = _cleaned(raw["items"])
    if isinstance(raw.get("additionalProperties"), dict):
        schema["additionalProperties"] = _cleaned(raw["additionalProperties"])
    return schema
