"""PodStatus: the phase and the conditions that follow from the states of a Pod's containers."""

from collections.abc import Sequence
from typing import Any, Final

from infra.emulators.kubernetes import images
from infra.emulators.kubernetes.container_life import ContainerLife
from infra.emulators.kubernetes.pod_resources import quality_of_service

Object = dict[str, Any]
HOST_IP: Final = "10.128.0.2"
_OURS: Final = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def phase_of(pod: Object, inits: Sequence[ContainerLife], mains: Sequence[ContainerLife]) -> str:
    failed = [life for life in inits if _code(life) not in (None, 0) and not _restarts(life)]
    if failed:
        return "Failed"
    if not all(initialized(life) for life in inits):
        return "Pending"
    codes = [_code(life) for life in mains]
    if all(code is not None and not _again(life) for life, code in zip(mains, codes, strict=True)):
        return "Succeeded" if not any(codes) else "Failed"
    return "Running" if all(life.ever_started for life in mains) else "Pending"


def initialized(life: ContainerLife) -> bool:
    """Whether what comes after an init container may start."""
    return _code(life) == 0 or (life.policy == "Always" and life.started.is_set())


def pod_status(
    pod: Object,
    inits: Sequence[ContainerLife],
    mains: Sequence[ContainerLife],
    *,
    ip: str,
    began: str,
    now: str,
    stopped: bool,
) -> Object:
    """What is not the node's own in the former status (other conditions, say) is kept.

    `stopped`: nothing that has ended is started again.
    """
    old = pod.get("status") or {}
    phase = old["phase"] if old.get("phase") in ("Succeeded", "Failed") else phase_of(pod, inits, mains)
    codes = [_code(life) for life in mains]
    if stopped and None not in codes and phase == "Running":
        phase = "Failed" if any(codes) else "Succeeded"
    return {
        **{key: value for key, value in old.items() if key not in ("message", "reason")},
        "phase": phase,
        "conditions": _conditions(pod, inits, mains, phase, now),
        "hostIP": HOST_IP,
        "hostIPs": [{"ip": HOST_IP}],
        **({"podIP": ip, "podIPs": [{"ip": ip}]} if ip else {}),
        "startTime": old.get("startTime") or began,
        **({"initContainerStatuses": [_init_status(life) for life in inits]} if inits else {}),
        "containerStatuses": [_status(life, waits=not all(map(initialized, inits))) for life in mains],
        "qosClass": old.get("qosClass") or quality_of_service(pod["spec"]),
    }


def with_condition(conditions: list[Object], new: Object, now: str) -> list[Object]:
    """Its time of transition changes with its status only."""
    old = next((one for one in conditions if one["type"] == new["type"]), None)
    same = old is not None and old["status"] == new["status"]
    since = old.get("lastTransitionTime", now) if same and old else now
    entry = {"lastProbeTime": None, "lastTransitionTime": since, **new}
    if old is None:
        return [*conditions, entry]
    return [entry if one is old else one for one in conditions]


def _conditions(
    pod: Object, inits: Sequence[ContainerLife], mains: Sequence[ContainerLife], phase: str, now: str
) -> list[Object]:
    conditions: list[Object] = list((pod.get("status") or {}).get("conditions") or ())
    over = phase in ("Succeeded", "Failed")
    running = any("running" in life.state for life in (*inits, *mains))
    incomplete = [life.name for life in inits if not initialized(life)]
    unready = [life.name for life in mains if not life.ready]
    gates = {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()}
    open_gates = gates - {one["type"] for one in conditions if one["status"] == "True"}
    why_unready: Object = {}
    if phase == "Succeeded":
        why_unready = {"reason": "PodCompleted"}
    elif phase == "Failed":
        why_unready = {"reason": "PodFailed"}
    elif unready:
        why_unready = {
            "reason": "ContainersNotReady",
            "message": f"containers with unready status: [{' '.join(unready)}]",
        }
    initial: Object = {"status": "True"}
    if over and phase == "Succeeded":
        initial = {"status": "True", "reason": "PodCompleted"}
    elif incomplete:
        told = f"containers with incomplete status: [{' '.join(incomplete)}]"
        initial = {"status": "False", "reason": "ContainersNotInitialized", "message": told}
    ready = {"status": "False", **why_unready} if why_unready else {"status": "True"}
    pod_ready = ready
    if ready["status"] == "True" and open_gates:
        told = f'the status of pod readiness gate "{min(open_gates)}" is not "True", but False'
        pod_ready = {"status": "False", "reason": "ReadinessGatesNotReady", "message": told}
    new = {
        "PodReadyToStartContainers": {"status": "True" if running or (not over and not unready) else "False"},
        "Initialized": initial,
        "Ready": pod_ready,
        "ContainersReady": ready,
        "PodScheduled": {"status": "True"},
    }
    for kind in _OURS:
        conditions = with_condition(conditions, {"type": kind, **new[kind]}, now)
    return conditions


def _container_status(life: ContainerLife) -> Object:
    try:
        image = images.full_name(life.container["image"])
    except images.NotPulled:
        image = life.container["image"]
    ran = bool(life.container_id)
    return {
        "name": life.name,
        "state": life.state,
        "lastState": life.last_state,
        "ready": life.ready,
        "restartCount": life.restarts,
        "image": image if ran else life.container["image"],
        "imageID": f"{image.split('@')[0].rsplit(':', 1)[0]}@sha256:{'0' * 64}" if ran else "",
        **({"containerID": life.container_id} if ran else {}),
        "started": life.started.is_set(),
    }


def _status(life: ContainerLife, *, waits: bool) -> Object:
    status = _container_status(life)
    if waits and "waiting" in life.state and not life.ever_started:
        status["state"] = {"waiting": {"reason": "PodInitializing"}}
    return status


def _init_status(life: ContainerLife) -> Object:
    status = _container_status(life)
    status["ready"] = initialized(life)
    if "waiting" in life.state and not life.ever_started and not life.state["waiting"].get("message"):
        status["state"] = {"waiting": {"reason": "PodInitializing"}}
    return status


def _code(life: ContainerLife) -> int | None:
    terminated = life.state.get("terminated")
    return None if terminated is None else int(terminated["exitCode"])


def _restarts(life: ContainerLife) -> bool:
    return life.policy in ("Always", "OnFailure")


def _again(life: ContainerLife) -> bool:
    code = _code(life)
    return life.policy == "Always" or (life.policy == "OnFailure" and code != 0)
