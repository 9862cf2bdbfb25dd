"""Validation of the kinds besides Pods."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from infra.emulators.kubernetes import kinds
from infra.emulators.kubernetes.container_rules import PORT_RULE, PROTOCOLS, port_name_faults
from infra.emulators.kubernetes.definitions import definition_errors
from infra.emulators.kubernetes.labels import label_errors, label_faults
from infra.emulators.kubernetes.network_policies import policy_errors
from infra.emulators.kubernetes.objects import Object
from infra.emulators.kubernetes.pod_rules import difference, pod_errors
from infra.emulators.kubernetes.pod_security import LEVELS
from infra.emulators.kubernetes.quantities import quantity
from infra.emulators.kubernetes.statuses import (
    FieldError,
    forbidden,
    invalid,
    required,
    too_long,
    unsupported,
)

_KEY = re.compile(r"[-._a-zA-Z0-9]+", re.ASCII)
_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
DATA_MOST_BYTES: Final = 2**20
_IMMUTABLE = "field is immutable when `immutable` is set"
_ACCESS_MODES: Final = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_SERVICE_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_CLAIM_RULE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"
)


def errors(kind: kinds.Kind, obj: Object) -> Iterator[FieldError]:
    if check := _CHECKS.get(kind.resource):
        yield from check(obj)


def change_errors(kind: kinds.Kind, obj: Object, old: Object) -> Iterator[FieldError]:
    """What an update may not change, besides what `errors` says of its result."""
    if check := _CHANGES.get(kind.resource):
        yield from check(obj, old)


def _namespace(obj: Object) -> Iterator[FieldError]:
    for name, value in (obj["metadata"].get("labels") or {}).items():
        if (
            name in (f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "audit", "warn"))
            and value not in LEVELS
        ):
            yield invalid(f"metadata.labels[{name}]", value, f"must be one of {', '.join(LEVELS)}")


def _data(obj: Object) -> Iterator[FieldError]:
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (obj.get(field) or {}).items():
            if not _KEY.fullmatch(key):
                yield invalid(f"{field}[{key}]", key, _KEY_RULE)
            elif len(key) > 253:
                yield invalid(f"{field}[{key}]", key, "must be no more than 253 characters")
            size += len(value.encode())
    for key in (obj.get("data") or {}).keys() & (obj.get("binaryData") or {}).keys():
        yield invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    if size > DATA_MOST_BYTES * (4 / 3 if obj["kind"] == "Secret" else 1):
        yield too_long("data" if obj["kind"] == "Secret" else "", DATA_MOST_BYTES)


_SECRET_KEYS: Final = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def _secret(obj: Object) -> Iterator[FieldError]:
    yield from _data(obj)
    for key in _SECRET_KEYS.get(obj.get("type", ""), ()):
        if key not in (obj.get("data") or {}):
            yield required(f"data[{key}]")
    if obj.get("type") == "kubernetes.io/service-account-token":
        annotation = "kubernetes.io/service-account.name"
        if not (obj["metadata"].get("annotations") or {}).get(annotation):
            yield required(f"metadata.annotations[{annotation}]")


def _secret_change(obj: Object, old: Object) -> Iterator[FieldError]:
    if obj.get("type") != old.get("type"):
        yield invalid("type", obj.get("type"), "field is immutable")
    yield from _data_change(obj, old)


def _data_change(obj: Object, old: Object) -> Iterator[FieldError]:
    if not old.get("immutable"):
        return
    if not obj.get("immutable"):
        yield forbidden("immutable", _IMMUTABLE)
    for field in ("data", "binaryData"):
        if (obj.get(field) or {}) != (old.get(field) or {}):
            yield forbidden(field, _IMMUTABLE)


def _claim(obj: Object) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    modes = spec.get("accessModes") or []
    if not modes:
        yield required("spec.accessModes", "at least 1 access mode is required")
    for mode in modes:
        if mode not in _ACCESS_MODES:
            yield unsupported("spec.accessModes", mode, _ACCESS_MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        rule = "may not use ReadWriteOncePod with other access modes"
        yield forbidden("spec.accessModes", rule)
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        yield required("spec.resources[storage]")
    elif quantity(size) <= 0:
        yield invalid("spec.resources[storage]", size, "must be greater than zero")
    if spec.get("volumeMode") not in ("Block", "Filesystem"):
        yield unsupported("spec.volumeMode", spec.get("volumeMode"), ("Block", "Filesystem"))


def _claim_change(obj: Object, old: Object) -> Iterator[FieldError]:
    def fixed(spec: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in spec.items() if key not in ("resources", "volumeAttributesClassName")}

    new, was = obj["spec"], old["spec"]
    bound = {"volumeName", "storageClassName"} if not was.get("volumeName") else set()  # binding sets them once
    if {k: v for k, v in fixed(new).items() if k not in bound} != {
        k: v for k, v in fixed(was).items() if k not in bound
    }:
        yield forbidden("spec", _CLAIM_RULE + difference(fixed(was), fixed(new)))
    sizes = [quantity(((spec.get("resources") or {}).get("requests") or {}).get("storage", "0")) for spec in (new, was)]
    if sizes[0] < sizes[1]:
        yield forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")


def _service(obj: Object) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    if spec.get("type") not in _SERVICE_TYPES:
        yield unsupported("spec.type", spec.get("type"), _SERVICE_TYPES)
    ports = spec.get("ports") or []
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{at}.name")
        elif port.get("name"):
            for fault in label_faults(port["name"]):
                yield invalid(f"{at}.name", port["name"], fault)
        if not 1 <= (port.get("port") or 0) <= 65535:
            yield invalid(f"{at}.port", port.get("port") or 0, PORT_RULE)
        if port.get("protocol") not in PROTOCOLS:
            yield unsupported(f"{at}.protocol", port.get("protocol"), PROTOCOLS)
        target = port.get("targetPort")
        if isinstance(target, int) and not 1 <= target <= 65535:
            yield invalid(f"{at}.targetPort", target, PORT_RULE)
        elif isinstance(target, str):
            for fault in port_name_faults(target):
                yield invalid(f"{at}.targetPort", target, fault)
    yield from label_errors(spec.get("selector") or {}, "spec.selector")


def _runtime_class(obj: Object) -> Iterator[FieldError]:
    handler = obj.get("handler", "")
    for fault in label_faults(handler):
        yield invalid("handler", handler, fault)


def _storage_class(obj: Object) -> Iterator[FieldError]:
    if not obj.get("provisioner"):
        yield required("provisioner")
    if obj.get("reclaimPolicy") not in ("Delete", "Retain"):
        yield unsupported("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"))
    if obj.get("volumeBindingMode") not in ("Immediate", "WaitForFirstConsumer"):
        yield unsupported("volumeBindingMode", obj.get("volumeBindingMode"), ("Immediate", "WaitForFirstConsumer"))


def _quota(obj: Object) -> Iterator[FieldError]:
    for name, amount in ((obj.get("spec") or {}).get("hard") or {}).items():
        if quantity(amount) < 0:
            yield invalid(f"spec.hard[{name}]", amount, "must be greater than or equal to 0")


def _fixed(*fields: str) -> Callable[[Object, Object], Iterator[FieldError]]:
    def check(obj: Object, old: Object) -> Iterator[FieldError]:
        for field in fields:
            if obj.get(field) != old.get(field):
                yield invalid(field, obj.get(field), "field is immutable")

    return check


def _definition_change(obj: Object, old: Object) -> Iterator[FieldError]:
    for path in ("group", "scope"):
        if obj["spec"].get(path) != old["spec"].get(path):
            yield invalid(f"spec.{path}", obj["spec"].get(path), "field is immutable")


_CHECKS: Final[dict[str, Callable[[Object], Iterator[FieldError]]]] = {
    kinds.PODS.resource: pod_errors,
    kinds.NAMESPACES.resource: _namespace,
    kinds.CONFIG_MAPS.resource: _data,
    kinds.SECRETS.resource: _secret,
    kinds.PERSISTENT_VOLUME_CLAIMS.resource: _claim,
    kinds.SERVICES.resource: _service,
    kinds.NETWORK_POLICIES.resource: policy_errors,
    kinds.RUNTIME_CLASSES.resource: _runtime_class,
    kinds.STORAGE_CLASSES.resource: _storage_class,
    kinds.RESOURCE_QUOTAS.resource: _quota,
    kinds.CUSTOM_RESOURCE_DEFINITIONS.resource: definition_errors,
}
_CHANGES: Final[dict[str, Callable[[Object, Object], Iterator[FieldError]]]] = {
    kinds.CONFIG_MAPS.resource: _data_change,
    kinds.SECRETS.resource: _secret_change,
    kinds.PERSISTENT_VOLUME_CLAIMS.resource: _claim_change,
    kinds.RUNTIME_CLASSES.resource: _fixed("handler"),
    kinds.STORAGE_CLASSES.resource: _fixed("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
    kinds.PRIORITY_CLASSES.resource: _fixed("value", "preemptionPolicy"),
    kinds.CUSTOM_RESOURCE_DEFINITIONS.resource: _definition_change,
}
