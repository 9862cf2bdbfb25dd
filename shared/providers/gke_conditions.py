"""What a Pod's status and its events mean for the session that waits for it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.providers.base import Condition, Health

if TYPE_CHECKING:
    from kubernetes.aio.client import CoreV1Event, V1ContainerStatus, V1Pod

ENDED = ("Failed", "Succeeded")
AT_ONCE_S = 0.0
# A node is added within 1-3 minutes: cloud.google.com/kubernetes-engine/docs/concepts/cluster-autoscaler
SCALE_UP_S = 240.0
# The kubelet tries again after pauses of up to 2 min 2 s; a disk that was just detached elsewhere takes part of that.
MOUNT_S = 150.0
CONFIG_S = 15.0  # a Secret that was just written may not have reached the node
REGISTRY_S = 60.0  # a registry that does not answer; the kubelet backs off to 5 minutes
PERMANENT_PULL = re.compile(
    r"not found|no such (image|host)|manifest unknown|does not exist|denied|unauthorized|403 Forbidden"
    r"|no match for platform|no matching manifest|invalid reference",
    re.IGNORECASE,
)
PERMANENT_MOUNT = re.compile(r"code = (NotFound|InvalidArgument)|not found in the list of registered CSI drivers")
# reason of a waiting container -> how long it may still come right
STUCK = {
    "InvalidImageName": AT_ONCE_S,
    "ErrImageNeverPull": AT_ONCE_S,
    "ImageInspectError": REGISTRY_S,
    "RegistryUnavailable": REGISTRY_S,
    "CrashLoopBackOff": AT_ONCE_S,
    "RunContainerError": AT_ONCE_S,
    "CreateContainerError": CONFIG_S,
    "CreateContainerConfigError": CONFIG_S,
    "PostStartHookError": AT_ONCE_S,
}
MOUNT_EVENTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
NEVER_FITS = frozenset({"NotTriggerScaleUp"})
NO_NODE = "FailedScaleUp"  # such as a quota of the project's, which may be free again in a moment


@dataclass(frozen=True, slots=True)
class Outlook:
    """A condition, and for how many seconds one that is not READY may yet become so; None: nothing is wrong."""

    condition: Condition
    patience_s: float | None = None


def condition(pod: "V1Pod") -> Condition:
    """The state of a Pod that has been made. One that is being deleted or has ended is GONE: nobody starts it again."""
    found = outlook(pod, ()).condition
    ended = pod.status is not None and pod.status.phase in ENDED
    return Condition(Health.GONE, found.reason) if ended else found


def outlook(pod: "V1Pod", events: "Iterable[CoreV1Event]") -> Outlook:
    """The same, with what its events add."""
    status = pod.status
    if pod.metadata is not None and pod.metadata.deletion_timestamp is not None:
        return Outlook(Condition(Health.GONE, "the Pod is being deleted"))
    if status is None or status.phase is None:
        return Outlook(Condition(Health.STARTING, "the Pod was not looked at yet"))
    if status.phase in ENDED:
        return _failed(_words(status.reason, status.message) or _ended(pod) or f"the Pod is {status.phase}")
    for container in (*(status.init_container_statuses or ()), *(status.container_statuses or ())):
        stuck = _stuck(container, events)
        if stuck is not None:
            return stuck
    by_type = {one.type: one for one in status.conditions or ()}
    scheduled, ready = by_type.get("PodScheduled"), by_type.get("Ready")
    if scheduled is not None and scheduled.status == "False":
        return _unscheduled(_words(scheduled.reason, scheduled.message), scheduled.reason or "", events)
    if ready is not None and ready.status == "True":
        return Outlook(Condition(Health.READY))
    for event in events:
        if event.reason in MOUNT_EVENTS and not _any_started(pod):
            message = event.message or ""
            patience_s = AT_ONCE_S if PERMANENT_MOUNT.search(message) else MOUNT_S
            return Outlook(Condition(Health.STARTING, _words(event.reason, message)), patience_s)
    return Outlook(Condition(Health.STARTING, _words(ready.reason, ready.message) if ready else ""))


def _stuck(status: "V1ContainerStatus", events: "Iterable[CoreV1Event]") -> Outlook | None:
    waiting = status.state.waiting if status.state else None
    if waiting is None or not waiting.reason:
        return None
    message = waiting.message or ""
    if waiting.reason in ("ErrImagePull", "ImagePullBackOff"):
        pulls = [one.message or "" for one in events if one.reason == "Failed" and "pull" in (one.message or "")]
        told = max([message, *pulls], key=lambda text: bool(PERMANENT_PULL.search(text)))
        clear = waiting.reason == "ImagePullBackOff" or PERMANENT_PULL.search(told)
        words = _words(waiting.reason, told or message)
        return _failed(words) if clear else Outlook(Condition(Health.STARTING, words), REGISTRY_S)
    if waiting.reason not in STUCK:
        return None  # ContainerCreating, PodInitializing
    words = _words(waiting.reason, message)
    last = status.last_state.terminated if status.last_state else None
    if last is not None:
        words += f"; it ended with {_words(last.reason, last.message)} (exit code {last.exit_code})"
    patience_s = STUCK[waiting.reason]
    return _failed(words) if patience_s == AT_ONCE_S else Outlook(Condition(Health.STARTING, words), patience_s)


def _unscheduled(told: str, reason: str, events: "Iterable[CoreV1Event]") -> Outlook:
    """Unschedulable: where nodes are added on demand this is how every start may look for a while."""
    words = told
    if reason == "SchedulingGated":
        return Outlook(Condition(Health.STARTING, words))
    for event in events:
        if event.reason in NEVER_FITS:
            return _failed(f"{words}; {_words(event.reason, event.message)}")
        if event.reason == NO_NODE:
            words = f"{told}; {_words(event.reason, event.message)}"
    return Outlook(Condition(Health.STARTING, words), SCALE_UP_S)


def _any_started(pod: "V1Pod") -> bool:
    statuses = (pod.status.container_statuses if pod.status else None) or ()
    return any(one.state is not None and one.state.running is not None for one in statuses)


def _ended(pod: "V1Pod") -> str:
    for one in (pod.status.container_statuses if pod.status else None) or ():
        last = one.state.terminated if one.state else None
        if last is not None:
            return f"{_words(last.reason, last.message)} (exit code {last.exit_code})"
    return ""


def _failed(words: str) -> Outlook:
    return Outlook(Condition(Health.FAILED, words), AT_ONCE_S)


def _words(reason: str | None, message: str | None) -> str:
    return ": ".join(part.strip() for part in (reason, message) if part)
