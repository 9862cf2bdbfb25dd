"""What a whole Pod asks for, of all its containers: requests, limits, and the class that follows from them."""

from decimal import Decimal
from typing import Any

from infra.emulators.kubernetes.quantities import quantity

Amounts = dict[str, Decimal]


def pod_amounts(spec: dict[str, Any], field: str) -> Amounts:
    """`field`: requests or limits. What is needed at a time at the most, and the overhead of the Pod's runtime.

    kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
    """
    beside: Amounts = {}  # sidecars that have been started: they go on
    largest: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _amounts(container, field)
        if container.get("restartPolicy") == "Always":
            _add(beside, own)
            own = {}
        for name in own.keys() | beside.keys():
            needed = own.get(name, Decimal(0)) + beside.get(name, Decimal(0))
            largest[name] = max(largest.get(name, Decimal(0)), needed)
    total = dict(beside)
    for container in spec.get("containers") or ():
        _add(total, _amounts(container, field))
    for name, amount in largest.items():
        total[name] = max(total.get(name, Decimal(0)), amount)
    for name, amount in (spec.get("overhead") or {}).items():
        if field == "requests" or name in total:  # what has no limit gets none by its runtime
            total[name] = total.get(name, Decimal(0)) + quantity(str(amount))
    return total


def _amounts(container: dict[str, Any], field: str) -> Amounts:
    given = (container.get("resources") or {}).get(field) or {}
    return {name: quantity(str(amount)) for name, amount in given.items()}


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Decimal(0)) + amount


def quality_of_service(spec: dict[str, Any]) -> str:
    """status.qosClass: kubernetes.io/docs/concepts/workloads/pods/pod-qos."""
    requested, guaranteed = False, True
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or ():
            resources = container.get("resources") or {}
            limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
            for name in ("cpu", "memory"):
                limit, request = limits.get(name), requests.get(name)
                requested = requested or bool(limit) or bool(request)
                if limit is None or quantity(limit) != quantity(request or limit):
                    guaranteed = False
    if not requested:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
