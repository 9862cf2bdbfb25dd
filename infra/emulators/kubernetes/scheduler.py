"""The scheduler: binds Pods to the node where they fit, and says with the real one's words where they don't."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from infra.emulators.kubernetes.clusterevents import NORMAL, WARNING, Recorder
from infra.emulators.kubernetes.following import Following
from infra.emulators.kubernetes.history import Event
from infra.emulators.kubernetes.kinds import NODES, PERSISTENT_VOLUME_CLAIMS, PODS, STORAGE_CLASSES
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.pod_resources import Amounts, pod_amounts
from infra.emulators.kubernetes.pod_rules import REQUIRED_AFFINITY
from infra.emulators.kubernetes.pod_status import with_condition
from infra.emulators.kubernetes.quantities import quantity
from infra.emulators.kubernetes.statuses import NotFound

SCHEDULER: Final = "default-scheduler"
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
_NOT_HELPFUL: Final = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
_NO_VICTIMS: Final = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
_WHOLE: Final = re.compile(r"-?\d{1,19}", re.ASCII)
_LOOKED_AT: Final = (PODS.resource, NODES.resource, PERSISTENT_VOLUME_CLAIMS.resource)


class Unschedulable(Exception):
    """The message is the condition's."""


class Scheduler(Following):
    def __init__(self, objects: Objects, recorder: Recorder, node: str, now: Callable[[], str]) -> None:
        super().__init__(objects, "scheduler")
        self._recorder = recorder
        self._node = node
        self._now = now

    async def _saw(self, events: list[Event]) -> None:
        if not any(_matters(event) for event in events):
            return
        for pod in self._objects.list(PODS)[0]:
            spec, metadata = pod["spec"], pod["metadata"]
            if spec.get("nodeName") or "deletionTimestamp" in metadata or spec.get("schedulingGates"):
                continue
            if spec.get("schedulerName", SCHEDULER) != SCHEDULER:
                continue
            with self._going_on():
                await self._schedule(pod)

    async def _schedule(self, pod: Object) -> None:
        try:
            node = self._fitting(pod)
            if not await self._claims_are_bound(pod):
                return
        except Unschedulable as exc:
            await self._refuse(pod, str(exc))
            return
        pod["spec"]["nodeName"] = node
        binding = self._objects.update(PODS, pod, subresource="binding")
        metadata = pod["metadata"]
        told = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}"
        self._recorder.tell(pod, NORMAL, "Scheduled", told, by=SCHEDULER)  # before what the kubelet tells of it
        await binding

    def _fitting(self, pod: Object) -> str:
        """Raises Unschedulable."""
        try:
            node = self._objects.get(NODES, None, self._node)
        except NotFound as exc:
            raise Unschedulable("no nodes available to schedule pods") from exc
        if node["spec"].get("unschedulable"):
            raise Unschedulable(f"0/1 nodes are available: 1 node(s) were unschedulable. {_NOT_HELPFUL}")
        taints = [t for t in node["spec"].get("taints") or () if t["effect"] in ("NoSchedule", "NoExecute")]
        for taint in taints:
            if not any(_tolerates(toleration, taint) for toleration in pod["spec"].get("tolerations") or ()):
                told = f"{{{taint['key']}: {taint.get('value', '')}}}"
                raise Unschedulable(
                    f"0/1 nodes are available: 1 node(s) had untolerated taint(s) {told}. {_NOT_HELPFUL}"
                )
        if not _selected(pod["spec"], node["metadata"]):
            raise Unschedulable(
                f"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {_NOT_HELPFUL}"
            )
        missing = self._insufficient(pod, node)
        if missing:
            told = ", ".join(f"1 {'Too many pods' if name == 'pods' else f'Insufficient {name}'}" for name in missing)
            raise Unschedulable(f"0/1 nodes are available: {told}. {_NO_VICTIMS}")
        return self._node

    def _insufficient(self, pod: Object, node: Object) -> list[str]:
        allocatable = node["status"]["allocatable"]
        wanted = requests_of(pod)
        taken: dict[str, Decimal] = {}
        for other in self._objects.list(PODS)[0]:
            over = (other.get("status") or {}).get("phase") in ("Succeeded", "Failed")
            if other["spec"].get("nodeName") == self._node and not over:
                for name, amount in requests_of(other).items():
                    taken[name] = taken.get(name, Decimal(0)) + amount
        return [
            name
            for name, amount in sorted(wanted.items())
            if amount and taken.get(name, Decimal(0)) + amount > quantity(str(allocatable.get(name, 0)))
        ]

    async def _claims_are_bound(self, pod: Object) -> bool:
        """Choose the node for claims that wait for their first consumer. Raises Unschedulable."""
        bound = True
        for name in claims_of(pod):
            try:
                claim = self._objects.get(PERSISTENT_VOLUME_CLAIMS, pod["metadata"]["namespace"], name)
            except NotFound as exc:
                raise Unschedulable(
                    f'0/1 nodes are available: persistentvolumeclaim "{name}" not found. {_NOT_HELPFUL}'
                ) from exc
            if "deletionTimestamp" in claim["metadata"]:
                raise Unschedulable(
                    f'0/1 nodes are available: persistentvolumeclaim "{name}" is being deleted. {_NOT_HELPFUL}'
                )
            if (claim.get("status") or {}).get("phase") == "Bound":
                continue
            bound = False
            if not self._waits_for_consumer(claim):
                raise Unschedulable(
                    "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. " + _NOT_HELPFUL
                )
            annotations = claim["metadata"].setdefault("annotations", {})
            if annotations.get(SELECTED_NODE) != self._node:
                annotations[SELECTED_NODE] = self._node
                await self._objects.update(PERSISTENT_VOLUME_CLAIMS, claim)
        return bound

    def _waits_for_consumer(self, claim: Object) -> bool:
        try:
            found = self._objects.get(STORAGE_CLASSES, None, claim["spec"].get("storageClassName") or "")
        except NotFound:
            return False
        return found.get("volumeBindingMode") == "WaitForFirstConsumer"

    async def _refuse(self, pod: Object, message: str) -> None:
        status = pod.setdefault("status", {})
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        conditions = status.get("conditions") or []
        old: Object = next((one for one in conditions if one["type"] == "PodScheduled"), {})
        if old.get("message") == message and old.get("status") == "False":
            return
        status["conditions"] = with_condition(conditions, condition, self._now())
        status.setdefault("phase", "Pending")
        await self._objects.update(PODS, pod, status=True)
        self._recorder.tell(pod, WARNING, "FailedScheduling", message, by=SCHEDULER)


def requests_of(pod: Object) -> Amounts:
    """What a Pod reserves, itself among it."""
    return {**pod_amounts(pod["spec"], "requests"), "pods": Decimal(1)}


def claims_of(pod: Object) -> list[str]:
    volumes = pod["spec"].get("volumes") or ()
    named = [one["persistentVolumeClaim"]["claimName"] for one in volumes if one.get("persistentVolumeClaim")]
    own = [f"{pod['metadata']['name']}-{one['name']}" for one in volumes if "ephemeral" in one]
    return [*named, *own]


def _selected(spec: Object, node: Object) -> bool:
    labels = node.get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED_AFFINITY)
    if not affinity:
        return True
    fields = {"metadata.name": node["name"]}
    for term in affinity.get("nodeSelectorTerms") or ():
        of_labels, of_fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
        if (of_labels or of_fields) and (  # an empty term matches nothing
            all(_holds(one, labels) for one in of_labels) and all(_holds(one, fields) for one in of_fields)
        ):
            return True
    return False


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], list(expression.get("values") or ())
    seen = labels.get(key)
    match expression["operator"]:
        case "In":
            return seen in values
        case "NotIn":
            return seen not in values
        case "Exists":
            return seen is not None
        case "DoesNotExist":
            return seen is None
        case "Gt" | "Lt" if seen is not None and _WHOLE.fullmatch(seen) and _WHOLE.fullmatch(values[0]):
            return int(seen) > int(values[0]) if expression["operator"] == "Gt" else int(seen) < int(values[0])
    return False


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    same = toleration["key"] == taint["key"]
    return same and (toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", ""))


def _matters(event: Event) -> bool:
    """A Pod's status is of no account, but for its end."""
    if event.kind.resource not in _LOOKED_AT and event.kind.resource != STORAGE_CLASSES.resource:
        return False
    if event.kind.resource != PODS.resource or event.type != "MODIFIED" or event.before is None:
        return True
    if not event.object["spec"].get("nodeName"):
        return _without_status(event.object) != _without_status(event.before)
    before, after = ((one.get("status") or {}).get("phase") for one in (event.before, event.object))
    return before != after and after in ("Succeeded", "Failed")


def _without_status(obj: Object) -> Object:
    metadata = {k: v for k, v in obj["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    return {"metadata": metadata, "spec": obj["spec"]}
