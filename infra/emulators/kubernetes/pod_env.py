"""The variables of a container: given, from Secrets and ConfigMaps, from the Pod's own fields; and $(NAME) in words."""

import base64
import json
import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from infra.emulators.kubernetes.kinds import CONFIG_MAPS, SECRETS, Kind
from infra.emulators.kubernetes.objects import Objects
from infra.emulators.kubernetes.quantities import quantity
from infra.emulators.kubernetes.statuses import NotFound

Object = dict[str, Any]
_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)")
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_SUBSCRIPT = re.compile(r"metadata\.(annotations|labels)\['(.+)'\]")
CLUSTER_IP: Final = "10.96.0.1"


class ConfigMissing(Exception):
    """A container cannot be created before this is there; the message is the kubelet's."""


def environment(objects: Objects, pod: Object, container: Object, allocatable: Mapping[str, Decimal]) -> dict[str, str]:
    """Raises ConfigMissing."""
    namespace = pod["metadata"]["namespace"]
    found: dict[str, str] = {"HOSTNAME": hostname(pod), **_of_the_cluster()}
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix", "")
        for kind, reference in _references(source):
            values = keys_of(objects, kind, namespace, reference["name"], optional=reference.get("optional", False))
            found |= {f"{prefix}{key}": value.decode(errors="replace") for key, value in values.items() if _named(key)}
    for variable in container.get("env") or ():
        value = _value(objects, pod, container, variable, allocatable)
        if value is not None:
            found[variable["name"]] = expanded(value, found) if "value" in variable else value
    return found


def _of_the_cluster() -> dict[str, str]:
    address = f"tcp://{CLUSTER_IP}:443"
    return {
        "KUBERNETES_SERVICE_HOST": CLUSTER_IP,
        "KUBERNETES_SERVICE_PORT": "443",
        "KUBERNETES_SERVICE_PORT_HTTPS": "443",
        "KUBERNETES_PORT": address,
        "KUBERNETES_PORT_443_TCP": address,
        "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
        "KUBERNETES_PORT_443_TCP_PORT": "443",
        "KUBERNETES_PORT_443_TCP_ADDR": CLUSTER_IP,
    }


def hostname(pod: Object) -> str:
    name: str = pod["spec"].get("hostname") or pod["metadata"]["name"]
    return name[:63].rstrip("-.")


def keys_of(objects: Objects, kind: Kind, namespace: str, name: str, *, optional: bool = False) -> dict[str, bytes]:
    """What a Secret or ConfigMap holds. Raises ConfigMissing."""
    try:
        obj = objects.get(kind, namespace, name)
    except NotFound as exc:
        if optional:
            return {}
        raise ConfigMissing(f'{kind.kind.lower()} "{name}" not found') from exc
    if kind.kind == "Secret":
        return {key: base64.b64decode(value or "") for key, value in (obj.get("data") or {}).items()}
    binary = {key: base64.b64decode(value or "") for key, value in (obj.get("binaryData") or {}).items()}
    return {key: value.encode() for key, value in (obj.get("data") or {}).items()} | binary


def expanded(text: str, values: Mapping[str, str]) -> str:
    """$(NAME) for what is known, $$ for a dollar sign; the rest stays as it is."""

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return values.get(match[1], match[0])

    return _REFERENCE.sub(replaced, text)


def field_of(pod: Object, path: str) -> str:
    """A fieldRef. Raises ConfigMissing."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    if match := _SUBSCRIPT.fullmatch(path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    match path:
        case "metadata.annotations" | "metadata.labels":
            return "\n".join(f'{k}="{v}"' for k, v in sorted((metadata.get(path.split(".")[1]) or {}).items()))
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata[path.split(".")[1]])
        case "spec.nodeName":
            return str(spec.get("nodeName", ""))
        case "spec.serviceAccountName":
            return str(spec.get("serviceAccountName", ""))
        case "status.podIP" | "status.podIPs":
            return str(status.get("podIP", ""))
        case "status.hostIP" | "status.hostIPs":
            return str(status.get("hostIP", ""))
    raise ConfigMissing(f"fieldPath {json.dumps(path)} not supported")


def resource_of(pod: Object, container: Object, reference: Object, allocatable: Mapping[str, Decimal]) -> str:
    """A resourceFieldRef; what has no limit has the node's. Raises ConfigMissing."""
    if wanted := reference.get("containerName"):
        everybody = [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
        container = next((one for one in everybody if one["name"] == wanted), {})
    which, _, resource = reference["resource"].partition(".")
    given = ((container.get("resources") or {}).get(which) or {}).get(resource)
    if given is None:
        value = allocatable.get(resource, Decimal(0)) if which == "limits" else Decimal(0)
    else:
        value = quantity(str(given))
    divisor = quantity(str(reference.get("divisor") or "1")) or Decimal(1)
    return str(int((value / divisor).to_integral_value(ROUND_CEILING)))


def _references(source: Object) -> list[tuple[Kind, Object]]:
    both = ((SECRETS, source.get("secretRef")), (CONFIG_MAPS, source.get("configMapRef")))
    return [(kind, reference) for kind, reference in both if reference]


def _value(
    objects: Objects, pod: Object, container: Object, variable: Object, allocatable: Mapping[str, Decimal]
) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return str(variable.get("value", ""))
    if reference := source.get("fieldRef"):
        return field_of(pod, reference["fieldPath"])
    if reference := source.get("resourceFieldRef"):
        return resource_of(pod, container, reference, allocatable)
    kind = SECRETS if "secretKeyRef" in source else CONFIG_MAPS
    reference = source.get("secretKeyRef") or source.get("configMapKeyRef")
    if reference is None:
        raise ConfigMissing(f"variable {variable['name']} has a source that is not known here")
    optional = reference.get("optional", False)
    namespace = pod["metadata"]["namespace"]
    values = keys_of(objects, kind, namespace, reference["name"], optional=optional)
    if reference["key"] in values:
        return values[reference["key"]].decode(errors="replace")
    if optional:
        return None
    raise ConfigMissing(f"couldn't find key {reference['key']} in {kind.kind} {namespace}/{reference['name']}")


def _named(key: str) -> bool:
    return _VARIABLE.fullmatch(key) is not None
