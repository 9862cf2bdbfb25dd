"""The status of sandboxes and claims, in the words of Agent Sandbox's own controllers."""

from datetime import UTC, datetime
from typing import Any, Final

from infra.emulators.kubernetes.agent_sandbox_blueprints import NAME_HASH, name_hash, owns
from infra.emulators.kubernetes.moments import timestamp
from infra.emulators.kubernetes.objects import Object, copied

READY: Final = "Ready"


def is_ready(sandbox: Object) -> bool:
    condition = _condition(sandbox.get("status", {}), READY)
    return condition is not None and condition["status"] == "True"


def of_sandbox(sandbox: Object, pod: Object | None, service: Object | None) -> dict[str, Any]:
    """A sandbox's status. `pod`: its own; None: it has none."""
    former, metadata = sandbox.get("status", {}), sandbox["metadata"]
    generation = metadata.get("generation", 1)
    found: dict[str, Any] = {"selector": f"{NAME_HASH}={name_hash(metadata['name'])}"}
    if pod is not None:
        if addresses := [one["ip"] for one in pod.get("status", {}).get("podIPs", [])]:
            found["podIPs"] = addresses
        if node := pod["spec"].get("nodeName"):
            found["nodeName"] = node
    if service is not None and owns(sandbox, service):
        name = service["metadata"]["name"]
        found |= {"service": name, "serviceFQDN": f"{name}.{metadata['namespace']}.svc.cluster.local"}
    conditions = [_suspended(sandbox, pod), _ready(sandbox, pod, service)]
    phase = pod.get("status", {}).get("phase") if pod else None
    if phase in ("Succeeded", "Failed"):
        ended = "Pod completed successfully" if phase == "Succeeded" else "Pod failed"
        conditions.append(("Finished", "True", f"Pod{phase}", ended))
    for one in pod.get("status", {}).get("conditions", []) if pod else []:
        if one["type"] == "PodScheduled":
            reason = one.get("reason") or ("PodScheduled" if one["status"] == "True" else "PodSchedulingUnknown")
            conditions.append(("PodScheduled", one["status"], reason, one.get("message", "")))
    found["conditions"] = [_stamped(former, generation, *one) for one in conditions]
    return found


def of_claim(claim: Object, sandbox: Object | None, refusal: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """A claim's status: its sandbox's conditions are its own."""
    former, generation = claim.get("status", {}), claim["metadata"].get("generation", 1)
    if sandbox is None:
        reason, message = refusal
        return {"conditions": [_stamped(former, generation, READY, "False", reason, message)], "sandbox": {}}
    status = sandbox.get("status", {})
    conditions = [copied(one) for one in status.get("conditions", []) if one["type"] in (READY, "Finished")]
    if not any(one["type"] == READY for one in conditions):
        waiting = ("False", "SandboxNotReady", "Sandbox is not ready")
        conditions.append(_stamped(former, generation, READY, *waiting))
    bound: dict[str, Any] = {"name": sandbox["metadata"]["name"]}
    if addresses := status.get("podIPs"):
        bound["podIPs"] = list(addresses)
    return {"conditions": conditions, "sandbox": bound}


def _suspended(sandbox: Object, pod: Object | None) -> tuple[str, str, str, str]:
    if sandbox["spec"].get("operatingMode") != "Suspended":
        return "Suspended", "False", "NotSuspended", "Sandbox is not suspended"
    if pod is None:
        return "Suspended", "True", "PodTerminated", "Pod has been terminated. Sandbox is suspended"
    return "Suspended", "False", "PodTerminating", "Pod is terminating. Sandbox is suspending"


def _ready(sandbox: Object, pod: Object | None, service: Object | None) -> tuple[str, str, str, str]:
    if sandbox["spec"].get("operatingMode") == "Suspended":
        words = "Sandbox is suspended" if pod is None else "Sandbox is suspending"
        return READY, "False", "SandboxSuspended", words
    phase = pod.get("status", {}).get("phase", "Pending") if pod else ""
    if phase == "Succeeded":
        return READY, "False", "PodSucceeded", "Pod completed successfully"
    if phase == "Failed":
        return READY, "False", "PodFailed", "Pod failed"
    message, is_up = "Pod does not exist", False
    if pod is not None:
        message = f"Pod exists with phase: {phase}"
        if phase == "Running":
            condition = _condition(pod["status"], READY)
            is_up = condition is not None and condition["status"] == "True" and bool(pod["status"].get("podIPs"))
            message = "Pod is Ready" if is_up else "Pod is Running but not Ready"
    if sandbox["spec"].get("service"):
        message += "; Service Exists" if service else "; Service does not exist"
        is_up = is_up and service is not None
    return (READY, "True", "DependenciesReady", message) if is_up else (READY, "False", "DependenciesNotReady", message)


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any] | None:
    return next((one for one in status.get("conditions", []) if one["type"] == kind), None)


def _stamped(
    former: dict[str, Any], generation: int, kind: str, value: str, reason: str, message: str
) -> dict[str, Any]:
    """A condition; its time is that of its last change."""
    before = _condition(former, kind)
    since = before["lastTransitionTime"] if before and before["status"] == value else timestamp(datetime.now(UTC))
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }
