"""From its creation to its end: what a change keeps of an object, what a deletion marks, and when it has gone."""

from datetime import datetime, timedelta
from typing import Any, Final

from infra.emulators.kubernetes.history import parse_revision
from infra.emulators.kubernetes.kinds import NAMESPACES, PODS, Kind
from infra.emulators.kubernetes.moments import timestamp
from infra.emulators.kubernetes.statuses import Conflict

Object = dict[str, Any]

MODIFIED: Final = (
    "the object has been modified; please apply your changes to the latest version and try again"  # the real words
)
_FINALIZER_OF = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}
DEFAULT_GRACE_S: Final = 30


def check_is_newest(kind: Kind, old: Object, uid: str | None, resource_version: str | None) -> None:
    """Of an update. Raises Conflict, BadRequest."""
    metadata = old["metadata"]
    if uid and uid != metadata["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}"
        raise Conflict(kind, metadata["name"], why)
    if resource_version and resource_version != metadata["resourceVersion"]:
        parse_revision(resource_version)
        raise Conflict(kind, metadata["name"], MODIFIED)


def check_preconditions(kind: Kind, old: Object, uid: str | None, resource_version: str | None) -> None:
    """Of a deletion. Raises Conflict."""
    metadata = old["metadata"]
    if uid and uid != metadata["uid"]:
        raise Conflict(
            kind,
            metadata["name"],
            f"the UID in the precondition ({uid}) does not match the UID in record ({metadata['uid']}). "
            "The object might have been deleted and then recreated",
        )
    if resource_version and resource_version != metadata["resourceVersion"]:
        raise Conflict(
            kind,
            metadata["name"],
            f"the ResourceVersion in the precondition ({resource_version}) does not match the ResourceVersion in "
            f"record ({metadata['resourceVersion']}). The object might have been modified",
        )


def mark_deleted(kind: Kind, obj: Object, grace_s: int | None, propagation: str | None, now: datetime) -> None:
    """Change `obj` into one whose deletion was asked for; what was asked before holds, but for a shorter grace."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata and (finalizer := _FINALIZER_OF.get(propagation or "")):
        finalizers = metadata.setdefault("finalizers", [])
        if finalizer not in finalizers:
            finalizers.append(finalizer)
    grace = _grace(kind, obj, grace_s)
    if "deletionTimestamp" in metadata and grace >= metadata.get("deletionGracePeriodSeconds", 0):
        return
    metadata["deletionTimestamp"] = timestamp(now + timedelta(seconds=grace))
    metadata["deletionGracePeriodSeconds"] = grace
    if kind.resource == NAMESPACES.resource:
        obj.setdefault("status", {})["phase"] = "Terminating"
    if "generation" in metadata:
        metadata["generation"] += 1


def keep_metadata(new: Object, old: Object) -> None:
    """Change `new`: what a client cannot change is as it was."""
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
        new.pop(field, None)
        if field in old:
            new[field] = old[field]
    new["resourceVersion"] = old["resourceVersion"]
    if "generateName" in old:
        new.setdefault("generateName", old["generateName"])
    if "namespace" in old:
        new["namespace"] = old["namespace"]
    if "managedFields" not in new and "managedFields" in old:
        new["managedFields"] = old["managedFields"]


def specified(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status", "apiVersion", "kind")}


def _grace(kind: Kind, obj: Object, wanted_s: int | None) -> int:
    if kind.resource != PODS.resource:
        return 0
    spec, status = obj.get("spec", {}), obj.get("status", {})
    if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
        return 0
    grace = wanted_s if wanted_s is not None else spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    return max(int(grace), 1) if grace < 0 else int(grace)


def ended(kind: Kind, obj: Object) -> bool:
    """Whether an object that is being deleted has nothing that holds it any more: it is gone, or goes now."""
    metadata = obj["metadata"]
    held = metadata.get("finalizers") or (
        kind.resource == NAMESPACES.resource and obj.get("spec", {}).get("finalizers")
    )
    return "deletionTimestamp" in metadata and not metadata.get("deletionGracePeriodSeconds") and not held
