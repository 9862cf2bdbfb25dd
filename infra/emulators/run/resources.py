"""What all of Cloud Run's resources have in common: generations, etags, conditions, facts. Pure; messages are copied.

A resource that is stored never changes in place: each function here returns a new one.
"""

import base64
import datetime
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from google.cloud.run_v2 import types
from google.protobuf import field_mask_pb2

# Proto-plus enums: members are IntEnum, which its annotations do not say.
State: Any = types.Condition.State
Reason: Any = types.Condition.CommonReason
Severity: Any = types.Condition.Severity

CREATOR = "emulator@onmemos.dev"
FACTS = "onmemos.dev/"  # annotations of the sandbox: isolation, egress, limits
LETTERS = "bcdfghjklmnpqrstvwxz0123456789"  # of suffixes: no vowels, no words

# What has a condition of its own beside that of the whole.
_PARTS: Mapping[Any, tuple[str, ...]] = {
    types.Service: ("RoutesReady", "ConfigurationsReady"),
    types.Instance: ("RoutesReady", "ContainerReady"),
    types.Job: ("ResourcesAvailable",),
}

R = TypeVar("R", types.Service, types.Instance, types.Job)


def merged(current: R, asked: R, fields: Iterable[str]) -> R:
    """`current` with these fields (paths of a mask) of `asked`; not valid yet."""
    changed = type(current)(current)
    copy_fields(asked, changed, fields)
    # What comes back from a get is not the client's: facts of a sandbox that may be gone by now.
    for fact in ("isolation", "egress", "limits"):
        changed.annotations.pop(f"{FACTS}{fact}", None)
    return changed


def modified(resource: R, now: datetime.datetime) -> R:
    """The next generation; in place, for what was copied before."""
    resource.generation += 1
    resource.update_time = now
    resource.last_modifier = CREATOR
    resource.etag = new_etag(resource.uid, str(resource.generation))
    return resource


def same(one: R, other: R, fields: Iterable[str]) -> bool:
    def kept(resource: R) -> R:
        copied = type(resource)()
        copy_fields(resource, copied, fields)
        return copied

    return kept(one) == kept(other)


def copy_fields(source: Any, target: Any, fields: Iterable[str]) -> None:
    """From one message to another one, perhaps of another type that has the same fields; what is not set is cleared."""
    field_mask_pb2.FieldMask(paths=list(fields)).MergeMessage(
        type(source).pb(source), type(target).pb(target), replace_message_field=True, replace_repeated_field=True
    )


def new_etag(*parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f'"{base64.urlsafe_b64encode(digest[:18]).decode()}"'


def new_suffix(length: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(length))


def reconciling(resource: R, message: str, reason: int, now: datetime.datetime) -> R:
    changed = with_conditions(resource, State.CONDITION_RECONCILING, message, reason, now)
    changed.reconciling = True
    return changed


def failed(resource: R, message: str, now: datetime.datetime, *, trying_again: bool) -> R:
    """Not ready, and not for a moment only. `trying_again` says whether the system still works at it."""
    reason = Reason.REVISION_FAILED if isinstance(resource, types.Service) else Reason.UNKNOWN
    changed = with_conditions(resource, State.CONDITION_FAILED, message, reason, now)
    changed.reconciling = trying_again
    return changed


def ready(resource: R, now: datetime.datetime) -> R:
    changed = with_conditions(resource, State.CONDITION_SUCCEEDED, "", None, now)
    changed.observed_generation = changed.generation
    return changed


def being_deleted(resource: R, now: datetime.datetime) -> R:
    """Gone for good when its containers are: Cloud Run keeps nothing deleted that could come back."""
    changed = reconciling(resource, "Deleting.", Reason.WAITING_FOR_OPERATION, now)
    changed.delete_time = now
    changed.expire_time = now
    return changed


def with_conditions(
    resource: R, state: int, message: str, reason: int | None, now: datetime.datetime, severity: int | None = None
) -> R:
    """Its terminal condition, and the same for each of its parts; reconciling no more. A failure is an ERROR."""
    changed = type(resource)(resource)
    since = now
    if changed.terminal_condition.state == state and changed.terminal_condition.last_transition_time:
        since = changed.terminal_condition.last_transition_time
    condition = types.Condition(type_="Ready", state=state, message=message, last_transition_time=since)
    if reason is not None:
        condition.reason = types.Condition.CommonReason(reason)
    if severity is not None or state == State.CONDITION_FAILED:
        condition.severity = types.Condition.Severity(severity or Severity.ERROR)
    changed.terminal_condition = condition
    changed.conditions = []
    for kind in _PARTS[type(resource)]:
        part = types.Condition(condition)
        part.type_ = kind
        changed.conditions.append(part)
    changed.reconciling = False
    return changed


def with_facts(resource: R, facts: Mapping[str, str]) -> R:
    """The resource with what is true of its sandbox now as annotations."""
    if not facts:
        return resource
    shown = type(resource)(resource)
    for key, value in facts.items():
        shown.annotations[f"{FACTS}{key}"] = value
    return shown


def id_of(name: str) -> str:
    return name.rsplit("/", 1)[-1]
