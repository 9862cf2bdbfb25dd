"""ResourceQuotas: what a namespace uses, and what one object more would use."""

from decimal import Decimal
from typing import Final

from infra.emulators.kubernetes import kinds
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.pod_resources import Amounts, pod_amounts
from infra.emulators.kubernetes.quantities import quantity, written_like
from infra.emulators.kubernetes.statuses import Forbidden

_COUNTED: Final = {
    kinds.PODS.resource: "pods",
    kinds.SERVICES.resource: "services",
    kinds.SECRETS.resource: "secrets",
    kinds.CONFIG_MAPS.resource: "configmaps",
    kinds.PERSISTENT_VOLUME_CLAIMS.resource: "persistentvolumeclaims",
    kinds.RESOURCE_QUOTAS.resource: "resourcequotas",
}
_COMPUTE: Final = ("cpu", "memory", "ephemeral-storage")


def usage(kind: Kind, obj: Object) -> Amounts:
    """What one object counts for; a Pod that has ended counts only as an object."""
    used: Amounts = {f"count/{kind.resource}": Decimal(1)}
    spec = obj.get("spec") or {}
    if kind.resource == kinds.PODS.resource:
        if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return used
        for field in ("requests", "limits"):
            for name, amount in pod_amounts(spec, field).items():
                used[f"{field}.{name}"] = amount
                if field == "requests":
                    used[name] = amount
    if kind.resource == kinds.PERSISTENT_VOLUME_CLAIMS.resource:
        size = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "0")
        used["requests.storage"] = quantity(size)
    if counted := _COUNTED.get(kind.resource):
        used[counted] = Decimal(1)
    return used


def check(objects: Objects, kind: Kind, obj: Object) -> None:
    """Raises Forbidden: the object does not fit, or does not say how much it needs."""
    namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
    for quota in objects.list(kinds.RESOURCE_QUOTAS, namespace)[0]:
        hard: dict[str, str] = (quota.get("spec") or {}).get("hard") or {}
        wanted = {key: amount for key, amount in usage(kind, obj).items() if key in hard}
        if kind.resource == kinds.PODS.resource:
            missing = _missing(obj, hard)
            if missing:
                why = f"failed quota: {quota['metadata']['name']}: must specify {missing}"
                raise Forbidden(kind, name, why)
        if not wanted:
            continue
        used = used_of(objects, namespace, hard)
        over = [key for key in sorted(wanted) if used[key] + wanted[key] > quantity(hard[key])]
        if over:
            told = [
                ",".join(f"{key}={written_like(amounts[key], hard[key])}" for key in over) for amounts in (wanted, used)
            ]
            limited = ",".join(f"{key}={hard[key]}" for key in over)
            amounts_told = f"requested: {told[0]}, used: {told[1]}, limited: {limited}"
            raise Forbidden(kind, name, f"exceeded quota: {quota['metadata']['name']}, {amounts_told}")


def _missing(pod: Object, hard: dict[str, str]) -> str:
    """ "limits.cpu for: a,b; …": what containers must say because the quota counts it."""
    lacking: dict[str, list[str]] = {}
    for container in [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]:
        resources = container.get("resources") or {}
        for key in hard:
            field, _, name = key.partition(".") if "." in key else ("requests", "", key)
            if name in _COMPUTE and field in ("requests", "limits") and name not in (resources.get(field) or {}):
                lacking.setdefault(key, []).append(container["name"])
    return "; ".join(f"{key} for: {','.join(sorted(names))}" for key, names in sorted(lacking.items()))


def used_of(objects: Objects, namespace: str, hard: dict[str, str]) -> Amounts:
    total = dict.fromkeys(hard, Decimal(0))
    counts = {key.removeprefix("count/") for key in hard if key.startswith("count/")}
    for kind in {kind.resource: kind for kind in objects.kinds if kind.namespaced}.values():
        if kind.resource not in _COUNTED and kind.resource not in counts:
            continue
        for obj in objects.list(kind, namespace)[0]:
            for key, amount in usage(kind, obj).items():
                if key in total:
                    total[key] += amount
    return total
