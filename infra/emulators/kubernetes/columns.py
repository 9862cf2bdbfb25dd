"""The columns that `kubectl get` prints of built-in kinds, and their cells."""

from collections.abc import Callable
from typing import Any, Final

from infra.emulators.kubernetes import kinds as k
from infra.emulators.kubernetes.moments import UNKNOWN, age
from infra.emulators.kubernetes.objects import Object

Cells = Callable[[Object], list[Any]]
NONE: Final = "<none>"


def named(obj: Object) -> str:
    name: str = obj["metadata"]["name"]
    return name


def aged(obj: Object) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _joined(values: Any, none: str = NONE) -> str:
    return ",".join(map(str, values or ())) or none


def _pod(obj: Object) -> list[Any]:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    containers = status.get("containerStatuses") or []
    ready = sum(bool(one.get("ready")) for one in containers)
    gates = len(spec.get("readinessGates") or ())
    return [
        named(obj),
        f"{ready}/{len(spec.get('containers', ()))}",
        _pod_status(obj, containers),
        str(sum(one.get("restartCount", 0) for one in containers)),
        aged(obj),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        f"0/{gates}" if gates else NONE,
    ]


def _pod_status(obj: Object, containers: list[dict[str, Any]]) -> str:
    status = obj.get("status", {})
    reason: str = status.get("reason") or status.get("phase") or "Unknown"
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    running = False
    for one in reversed(containers):
        state = one.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated:
            signal, code = terminated.get("signal"), terminated.get("exitCode", 0)
            reason = terminated.get("reason") or (f"Signal:{signal}" if signal else f"ExitCode:{code}")
        elif one.get("ready") and state.get("running"):
            running = True
    if reason == "Completed" and running:
        reason = "Running"
    if obj["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return reason


def _claim(obj: Object) -> list[Any]:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase", "")
    bound = bool(spec.get("volumeName"))
    size = (status.get("capacity") or {}).get("storage", "") if bound else ""
    modes = _modes(status.get("accessModes")) if bound else ""
    return [
        named(obj),
        phase,
        spec.get("volumeName", ""),
        size,
        modes,
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or "<unset>",
        aged(obj),
        spec.get("volumeMode", "Filesystem"),
    ]


def _modes(modes: list[str] | None) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return ",".join(short.get(mode, mode) for mode in modes or ())


def _volume(obj: Object) -> list[Any]:
    spec, claim = obj.get("spec", {}), obj.get("spec", {}).get("claimRef") or {}
    return [
        named(obj),
        (spec.get("capacity") or {}).get("storage", ""),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if obj["metadata"].get("deletionTimestamp") else obj.get("status", {}).get("phase", ""),
        f"{claim['namespace']}/{claim['name']}" if claim else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or "<unset>",
        obj.get("status", {}).get("reason", ""),
        aged(obj),
        spec.get("volumeMode", "Filesystem"),
    ]


def _service(obj: Object) -> list[Any]:
    spec = obj.get("spec", {})
    ports = [
        f"{port['port']}{':' + str(port['nodePort']) if port.get('nodePort') else ''}/{port.get('protocol', 'TCP')}"
        for port in spec.get("ports") or ()
    ]
    selector = [f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items())]
    address = spec.get("clusterIP") or NONE
    outside = _joined(spec.get("externalIPs"))
    return [named(obj), spec.get("type", ""), address, outside, _joined(ports), aged(obj), _joined(selector)]


def _node(obj: Object) -> list[Any]:
    status = obj.get("status", {})
    ready = next((one for one in status.get("conditions") or () if one["type"] == "Ready"), None)
    state = "Unknown" if ready is None else "Ready" if ready["status"] == "True" else "NotReady"
    if obj.get("spec", {}).get("unschedulable"):
        state += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = [key.removeprefix(prefix) for key in obj["metadata"].get("labels") or {} if key.startswith(prefix)]
    addresses = {one["type"]: one["address"] for one in status.get("addresses") or ()}
    info = status.get("nodeInfo") or {}
    return [
        named(obj),
        state,
        _joined(sorted(roles)),
        aged(obj),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _event(obj: Object) -> list[Any]:
    about = obj.get("involvedObject", {})
    last = obj.get("lastTimestamp") or obj.get("eventTime") or obj["metadata"].get("creationTimestamp")
    first = obj.get("firstTimestamp") or obj.get("eventTime") or last
    source = obj.get("source") or {}
    told = ", ".join(filter(None, (source.get("component"), source.get("host")))) or obj.get("reportingComponent", "")
    return [
        age(last),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        about.get("fieldPath", ""),
        told,
        (obj.get("message") or "").strip(),
        age(first),
        str(obj.get("count") or 1),
        named(obj),
    ]


def _policy(obj: Object) -> list[Any]:
    selector = (obj.get("spec", {}).get("podSelector") or {}).get("matchLabels") or {}
    return [named(obj), _joined((f"{key}={value}" for key, value in sorted(selector.items())), NONE), aged(obj)]


def _quota(obj: Object) -> list[Any]:
    status = obj.get("status", {})
    hard, used = status.get("hard") or {}, status.get("used") or {}
    told = {True: [], False: []}  # type: dict[bool, list[str]]
    for name in sorted(hard):
        told[name.startswith("limits.")].append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [named(obj), ", ".join(told[False]), ", ".join(told[True]), aged(obj)]


def _storage_class(obj: Object) -> list[Any]:
    default = (obj["metadata"].get("annotations") or {}).get("storageclass.kubernetes.io/is-default-class") == "true"
    return [
        named(obj) + (" (default)" if default else ""),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        str(bool(obj.get("allowVolumeExpansion"))).lower(),
        aged(obj),
    ]


# A name that ends in * is shown in wide output only.
BUILTIN: Final[dict[str, tuple[tuple[str, ...], Cells]]] = {
    k.PODS.resource: (
        ("Name", "Ready", "Status", "Restarts", "Age", "IP*", "Node*", "Nominated Node*", "Readiness Gates*"),
        _pod,
    ),
    k.NAMESPACES.resource: (
        ("Name", "Status", "Age"),
        lambda obj: [named(obj), obj.get("status", {}).get("phase", ""), aged(obj)],
    ),
    k.CONFIG_MAPS.resource: (
        ("Name", "Data", "Age"),
        lambda obj: [named(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), aged(obj)],
    ),
    k.SECRETS.resource: (
        ("Name", "Type", "Data", "Age"),
        lambda obj: [named(obj), obj.get("type", ""), len(obj.get("data") or {}), aged(obj)],
    ),
    k.SERVICE_ACCOUNTS.resource: (
        ("Name", "Age"),
        lambda obj: [named(obj), aged(obj)],
    ),
    k.PERSISTENT_VOLUME_CLAIMS.resource: (
        (
            *("Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass", "Age"),
            "VolumeMode*",
        ),
        _claim,
    ),
    k.PERSISTENT_VOLUMES.resource: (
        (
            *("Name", "Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim", "StorageClass"),
            *("VolumeAttributesClass", "Reason", "Age", "VolumeMode*"),
        ),
        _volume,
    ),
    k.SERVICES.resource: (
        ("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector*"),
        _service,
    ),
    k.NODES.resource: (
        (
            *("Name", "Status", "Roles", "Age", "Version", "Internal-IP*", "External-IP*", "OS-Image*"),
            *("Kernel-Version*", "Container-Runtime*"),
        ),
        _node,
    ),
    k.EVENTS.resource: (
        (
            *("Last Seen", "Type", "Reason", "Object", "Subobject*", "Source*", "Message", "First Seen*", "Count*"),
            "Name*",
        ),
        _event,
    ),
    k.NETWORK_POLICIES.resource: (("Name", "Pod-Selector", "Age"), _policy),
    k.RESOURCE_QUOTAS.resource: (("Name", "Request", "Limit", "Age"), _quota),
    k.LIMIT_RANGES.resource: (
        ("Name", "Created At"),
        lambda obj: [named(obj), obj["metadata"].get("creationTimestamp")],
    ),
    k.RUNTIME_CLASSES.resource: (
        ("Name", "Handler", "Age"),
        lambda obj: [named(obj), obj.get("handler", ""), aged(obj)],
    ),
    k.STORAGE_CLASSES.resource: (
        ("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"),
        _storage_class,
    ),
    k.PRIORITY_CLASSES.resource: (
        ("Name", "Value", "Global-Default", "Age", "PreemptionPolicy"),
        lambda obj: [
            named(obj),
            obj.get("value", 0),
            str(bool(obj.get("globalDefault"))).lower(),
            aged(obj),
            obj.get("preemptionPolicy", "PreemptLowerPriority"),
        ],
    ),
    k.LEASES.resource: (
        ("Name", "Holder", "Age"),
        lambda obj: [named(obj), obj.get("spec", {}).get("holderIdentity", ""), aged(obj)],
    ),
    k.CUSTOM_RESOURCE_DEFINITIONS.resource: (
        ("Name", "Created At"),
        lambda obj: [named(obj), obj["metadata"].get("creationTimestamp")],
    ),
}
