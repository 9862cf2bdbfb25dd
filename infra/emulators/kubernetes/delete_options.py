"""What a deletion may say: its grace, its preconditions, what becomes of the dependents."""

from dataclasses import dataclass
from typing import Any, Final

from infra.emulators.kubernetes.decoding import json_type
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.requests import Request
from infra.emulators.kubernetes.statuses import BadRequest, Invalid, invalid, unsupported

_KIND: Final = Kind("meta.k8s.io", "v1", "options", "DeleteOptions")
_PROPAGATIONS: Final = ("Foreground", "Background", "Orphan")


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    grace_s: int | None
    uid: str | None
    resource_version: str | None
    propagation: str | None
    dry_run: bool


async def delete_options(request: Request) -> DeleteOptions:
    """Of the body; without one, of the query: the real server reads one of the two."""
    body = await request.body()
    said = request.read_object(body) if body.strip() else _queried_options(request)
    grace = said.get("gracePeriodSeconds")
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        field = "DeleteOptions.gracePeriodSeconds of type int64"
        raise BadRequest(f"json: cannot unmarshal {json_type(grace)} into Go struct field {field}")
    propagation, orphan = said.get("propagationPolicy") or None, said.get("orphanDependents")
    if propagation is not None and propagation not in _PROPAGATIONS:
        raise Invalid(_KIND, "", [unsupported("propagationPolicy", propagation, (*_PROPAGATIONS, "nil"))])
    if propagation and orphan is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        raise Invalid(_KIND, "", [invalid("propagationPolicy", propagation, why)])
    if orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    dry_run = said.get("dryRun") or []
    if dry_run and dry_run != ["All"]:
        raise Invalid(_KIND, "", [unsupported("dryRun", dry_run, ("All",))])
    conditions = said.get("preconditions") or {}
    return DeleteOptions(grace, conditions.get("uid"), conditions.get("resourceVersion"), propagation, bool(dry_run))


def _queried_options(request: Request) -> dict[str, Any]:
    query = request.query
    said: dict[str, Any] = {"propagationPolicy": query.get("propagationPolicy")}
    if (grace := request.seconds("gracePeriodSeconds")) is not None:
        said["gracePeriodSeconds"] = grace
    if "orphanDependents" in query:
        said["orphanDependents"] = request.flag("orphanDependents")
    return {**said, "dryRun": [query["dryRun"]] if query.get("dryRun") else []}
