"""What a Pod may say: the API server's validation, on create."""

from collections.abc import Iterator
from typing import Any, Final

from infra.emulators.kubernetes.container_rules import NATURAL_RULE, container_errors, context_errors
from infra.emulators.kubernetes.labels import label_errors, label_faults, subdomain_faults
from infra.emulators.kubernetes.objects import Object
from infra.emulators.kubernetes.quantities import quantity
from infra.emulators.kubernetes.selector_rules import node_selector_errors
from infra.emulators.kubernetes.statuses import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)

_POLICIES: Final = ("Always", "OnFailure", "Never")
REQUIRED_AFFINITY: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_DNS: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")


def pod_errors(pod: Object) -> Iterator[FieldError]:
    yield from spec_errors(pod.get("spec", {}), "spec")


def spec_errors(spec: dict[str, Any], where: str) -> Iterator[FieldError]:
    volumes: set[str] = set()
    yield from _volume_errors(spec.get("volumes") or [], f"{where}.volumes", volumes)
    containers = spec.get("containers") or []
    if not containers:
        yield required(f"{where}.containers")
    names: set[str] = set()
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            at = f"{where}.{field}[{index}]"
            yield from container_errors(container, at, names, volumes, init=field == "initContainers")
    if spec.get("ephemeralContainers"):
        yield forbidden(f"{where}.ephemeralContainers", "cannot be set on create")
    for field, known in (("restartPolicy", _POLICIES), ("dnsPolicy", _DNS)):
        if spec.get(field) not in known:
            yield unsupported(f"{where}.{field}", spec.get(field), known)
    if (grace := spec.get("terminationGracePeriodSeconds", 0)) < 0:
        yield invalid(f"{where}.terminationGracePeriodSeconds", grace, NATURAL_RULE)
    if "activeDeadlineSeconds" in spec and not 1 <= spec["activeDeadlineSeconds"] <= 2**31 - 1:
        rule = "must be between 1 and 2147483647, inclusive"
        yield invalid(f"{where}.activeDeadlineSeconds", spec["activeDeadlineSeconds"], rule)
    yield from label_errors(spec.get("nodeSelector") or {}, f"{where}.nodeSelector")
    for field, faults_of in (
        ("serviceAccountName", subdomain_faults),
        ("runtimeClassName", subdomain_faults),
        ("priorityClassName", subdomain_faults),
        ("nodeName", subdomain_faults),
        ("hostname", label_faults),
        ("subdomain", label_faults),
    ):
        for fault in faults_of(spec[field]) if spec.get(field) else ():
            yield invalid(f"{where}.{field}", spec[field], fault)
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    if (needed := affinity.get(REQUIRED_AFFINITY)) is not None:
        yield from node_selector_errors(needed, f"{where}.affinity.nodeAffinity.{REQUIRED_AFFINITY}")
    yield from context_errors(spec.get("securityContext") or {}, f"{where}.securityContext")
    for index, reference in enumerate(spec.get("imagePullSecrets") or ()):
        if not reference.get("name"):
            yield required(f"{where}.imagePullSecrets[{index}].name")
    yield from _toleration_errors(spec.get("tolerations") or (), f"{where}.tolerations")


def _volume_errors(volumes: list[dict[str, Any]], where: str, names: set[str]) -> Iterator[FieldError]:
    for index, volume in enumerate(volumes):
        at, name = f"{where}[{index}]", volume.get("name", "")
        if not name:
            yield required(f"{at}.name")
        elif name in names:
            yield duplicate(f"{at}.name", name)
        else:
            for fault in label_faults(name):
                yield invalid(f"{at}.name", name, fault)
        names.add(name)
        sources = [field for field in volume if field != "name"]
        if not sources:
            yield required(at, "must specify a volume type")
        for extra in sources[1:]:
            yield forbidden(f"{at}.{extra}", "may not specify more than 1 volume type")
        source = sources[0] if sources else ""
        for kind, field in (("secret", "secretName"), ("configMap", "name"), ("persistentVolumeClaim", "claimName")):
            if source == kind and not volume[kind].get(field):
                yield required(f"{at}.{kind}.{field}")
        if source == "hostPath" and not volume["hostPath"].get("path"):
            yield required(f"{at}.hostPath.path")
        if source == "csi" and not volume["csi"].get("driver"):
            yield required(f"{at}.csi.driver")
        if source == "emptyDir" and quantity(volume["emptyDir"].get("sizeLimit", "0")) < 0:
            yield forbidden(f"{at}.emptyDir.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _toleration_errors(tolerations: Any, where: str) -> Iterator[FieldError]:
    for index, one in enumerate(tolerations):
        at, operator = f"{where}[{index}]", one.get("operator") or "Equal"
        if operator not in ("Equal", "Exists"):
            yield unsupported(f"{at}.operator", operator, ("Equal", "Exists"))
        elif operator == "Exists" and one.get("value"):
            yield invalid(f"{at}.operator", one, "value must be empty when `operator` is 'Exists'")
        elif operator == "Equal" and not one.get("key"):
            yield invalid(
                f"{at}.operator",
                operator,
                'operator must be Exists when `key` is empty, which means "match all values and all keys"',
            )
        if "tolerationSeconds" in one and one.get("effect") != "NoExecute":
            yield invalid(
                f"{at}.effect", one.get("effect", ""), "effect must be 'NoExecute' when `tolerationSeconds` is set"
            )


def pod_change_errors(pod: Object, old: Object) -> Iterator[FieldError]:
    """Of an update: nearly everything of a Pod's spec is immutable."""
    new, was = _without_mutable(pod.get("spec", {})), _without_mutable(old.get("spec", {}))
    names = [container.get("image") for container in pod["spec"].get("containers", ())]
    for index, image in enumerate(names):
        if not image:
            yield required(f"spec.containers[{index}].image")
    if len(names) != len(old["spec"].get("containers", ())):
        yield forbidden("spec.containers", "pod updates may not add or remove containers")
    elif new != was:
        yield forbidden("spec", _IMMUTABLE + difference(was, new))
    kept, seen = old["spec"].get("tolerations") or [], pod["spec"].get("tolerations") or []
    if any(toleration not in seen for toleration in kept):
        yield forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")


_IMMUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
)


def _without_mutable(spec: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in spec.items() if key not in ("activeDeadlineSeconds", "tolerations")}
    for field in ("containers", "initContainers"):
        if field in kept:
            kept[field] = [{**container, "image": ""} for container in kept[field]]
    return kept


def difference(was: Any, now: Any, where: str = "") -> str:
    """The fields that differ, a line each."""
    if isinstance(was, dict) and isinstance(now, dict):
        keys = sorted(was.keys() | now.keys())
        return "".join(difference(was.get(key), now.get(key), f"{where}.{key}") for key in keys)
    return "" if was == now else f"  {where}: - {was!r} + {now!r}\n"
