"""LimitRanges: defaults for containers that do not say what they need, and bounds for those that do."""

from decimal import Decimal
from typing import Any

from infra.emulators.kubernetes import kinds
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.pod_resources import pod_amounts
from infra.emulators.kubernetes.quantities import quantity, written_like
from infra.emulators.kubernetes.statuses import Forbidden


def _items(objects: Objects, namespace: str, kind: str) -> list[dict[str, Any]]:
    return [
        item
        for limits in objects.list(kinds.LIMIT_RANGES, namespace)[0]
        for item in (limits.get("spec") or {}).get("limits") or ()
        if item.get("type") == kind
    ]


def fill(objects: Objects, pod: Object) -> None:
    spec = pod["spec"]
    for item in _items(objects, pod["metadata"]["namespace"], "Container"):
        for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
            resources = container.setdefault("resources", {})
            for field, source in (("limits", "default"), ("requests", "defaultRequest")):
                for name, amount in (item.get(source) or {}).items():
                    resources.setdefault(field, {}).setdefault(name, amount)


def check_pod(objects: Objects, pod: Object) -> None:
    """Raises Forbidden."""
    namespace, name, spec = pod["metadata"]["namespace"], pod["metadata"]["name"], pod["spec"]
    faults: list[str] = []
    for item in _items(objects, namespace, "Container"):
        for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
            resources = container.get("resources") or {}
            amounts = {
                field: {key: quantity(value) for key, value in (resources.get(field) or {}).items()}
                for field in ("limits", "requests")
            }
            faults += _faults(item, amounts["limits"], amounts["requests"], "Container")
    for item in _items(objects, namespace, "Pod"):
        faults += _faults(item, pod_amounts(spec, "limits"), pod_amounts(spec, "requests"), "Pod")
    if faults:
        told = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
        raise Forbidden(kinds.PODS, name, told)


def check_claim(objects: Objects, claim: Object) -> None:
    """Raises Forbidden."""
    namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    amounts = {key: quantity(value) for key, value in requests.items()}
    for item in _items(objects, namespace, "PersistentVolumeClaim"):
        for fault in _faults(item, {}, amounts, "PersistentVolumeClaim", limited="requests"):
            raise Forbidden(kinds.PERSISTENT_VOLUME_CLAIMS, name, fault)


def _faults(
    item: dict[str, Any],
    limits: dict[str, Decimal],
    requests: dict[str, Decimal],
    kind: str,
    *,
    limited: str = "limits",
) -> list[str]:
    faults = []
    for name, least in (item.get("min") or {}).items():
        seen = requests.get(name)
        if seen is None:
            faults.append(f"minimum {name} usage per {kind} is {least}.  No request is specified")
        elif seen < quantity(least):
            faults.append(f"minimum {name} usage per {kind} is {least}, but request is {written_like(seen, least)}")
    for name, most in (item.get("max") or {}).items():
        word, seen = ("limit", limits.get(name)) if limited == "limits" else ("request", requests.get(name))
        if seen is None:
            faults.append(f"maximum {name} usage per {kind} is {most}.  No {word} is specified")
        elif seen > quantity(most):
            faults.append(f"maximum {name} usage per {kind} is {most}, but {word} is {written_like(seen, most)}")
    return faults
