"""Services and revisions as Cloud Run shows them: defaults, revisions, conditions, etags. Pure; messages are copied.

A service that is stored never changes in place: each function here returns a new one.
"""

import base64
import datetime
import hashlib
import secrets
import uuid
from collections.abc import Mapping
from typing import Any

from google.api import launch_stage_pb2
from google.cloud.run_v2 import types
from google.protobuf import field_mask_pb2

from infra.emulators.run.container_rules import DEFAULT_CONCURRENCY, DEFAULT_PORT, cpu_of
from infra.emulators.run.names import ServiceName

# Proto-plus enums: members are IntEnum, which its annotations do not say.
State: Any = types.Condition.State
Reason: Any = types.Condition.CommonReason
_RevisionReason: Any = types.Condition.RevisionReason
_Severity: Any = types.Condition.Severity
_Ingress: Any = types.IngressTraffic

CREATOR = "emulator@onmemos.dev"
FACTS = "onmemos.dev/"  # annotations of the sandbox: isolation, egress, limits
DEFAULT_TIMEOUT_S = 300  # cloud.google.com/run/docs/configuring/request-timeout
DEFAULT_MAX_INSTANCES = 100  # cloud.google.com/run/docs/configuring/max-instances

# What a client may set; everything else of a Service is the server's.
_SETTABLE = [
    "description",
    "labels",
    "annotations",
    "client",
    "client_version",
    "ingress",
    "launch_stage",
    "binary_authorization",
    "template",
    "traffic",
    "scaling",
    "invoker_iam_disabled",
    "default_uri_disabled",
    "iap_enabled",
    "multi_region_settings",
    "custom_audiences",
    "build_config",
]


def new_service(name: ServiceName, asked: types.Service, uri: str, now: datetime.datetime) -> types.Service:
    """The service as it is while its first revision is on its way. `asked` was found valid."""
    service = types.Service(
        name=str(name), uid=str(uuid.uuid4()), create_time=now, creator=CREATOR, uri=uri, urls=[uri]
    )
    return _modified(_with_defaults(merged(service, asked, [])), now)


def merged(current: types.Service, asked: types.Service, paths: list[str]) -> types.Service:
    """`current` with the fields of `asked` that `paths` name, all of them for none or "*"; not valid yet."""
    chosen = _SETTABLE if not paths or "*" in paths else [p for p in paths if p.split(".", 1)[0] in _SETTABLE]
    service = types.Service(current)
    field_mask_pb2.FieldMask(paths=chosen).MergeMessage(
        types.Service.pb(asked), types.Service.pb(service), replace_message_field=True, replace_repeated_field=True
    )
    # What comes back from a get is not the client's: facts of a sandbox that may be gone by now.
    for fact in ("isolation", "egress", "limits"):
        service.annotations.pop(f"{FACTS}{fact}", None)
    return service


def updated_service(current: types.Service, wanted: types.Service, now: datetime.datetime) -> types.Service:
    """A next generation, unless nothing is different. `wanted` is `current` merged with a request, and valid."""
    wanted = _with_defaults(types.Service(wanted))
    return current if _settable(wanted) == _settable(current) else _modified(wanted, now)


def new_revision(service: types.Service, now: datetime.datetime) -> types.Revision:
    """What the service's template is now; named by the template or numbered by the service's generation."""
    template = service.template
    service_id = service.name.rsplit("/", 1)[-1]
    suffix = "".join(secrets.choice("bcdfghjklmnpqrstvwxz0123456789") for _ in range(3))
    revision_id = template.revision or f"{service_id}-{service.generation:05d}-{suffix}"
    revision = types.Revision(
        name=f"{service.name}/revisions/{revision_id}",
        uid=str(uuid.uuid4()),
        generation=1,
        observed_generation=1,
        labels=dict(template.labels),
        annotations=dict(template.annotations),
        create_time=now,
        update_time=now,
        launch_stage=service.launch_stage,
        service=service_id,
        creator=CREATOR,
        etag=_etag(service.uid, revision_id),
        reconciling=True,
    )
    source = types.RevisionTemplate.pb(template)
    target = types.Revision.pb(revision)
    for name in _OF_THE_TEMPLATE:
        _copy_field(source, target, name)
    return revision


_OF_THE_TEMPLATE = [
    "scaling",
    "vpc_access",
    "max_instance_request_concurrency",
    "timeout",
    "service_account",
    "containers",
    "volumes",
    "execution_environment",
    "encryption_key",
    "service_mesh",
    "encryption_key_revocation_action",
    "encryption_key_shutdown_duration",
    "session_affinity",
    "node_selector",
]


def reconciling(service: types.Service, message: str, reason: int, now: datetime.datetime) -> types.Service:
    return _with_conditions(service, State.CONDITION_RECONCILING, message, reason, now)


def failed(service: types.Service, message: str, now: datetime.datetime, *, trying_again: bool) -> types.Service:
    """Not ready, and not for a moment only. `trying_again` says whether the system still works at it."""
    service = _with_conditions(service, State.CONDITION_FAILED, message, Reason.REVISION_FAILED, now)
    service.reconciling = trying_again
    return service


def ready(service: types.Service, now: datetime.datetime) -> types.Service:
    """Its latest revision serves."""
    service = _with_conditions(service, State.CONDITION_SUCCEEDED, "", None, now)
    service.observed_generation = service.generation
    service.latest_ready_revision = service.latest_created_revision
    revision_id = service.latest_ready_revision.rsplit("/", 1)[-1]
    service.traffic_statuses = [
        types.TrafficTargetStatus(type_=target.type_, revision=revision_id, percent=target.percent, tag=target.tag)
        for target in service.traffic
    ]
    return service


def revision_condition(revision: types.Revision, state: int, message: str, now: datetime.datetime) -> types.Revision:
    copied = types.Revision(revision)
    condition = types.Condition(type_="Ready", state=state, message=message, last_transition_time=now)
    if state == State.CONDITION_FAILED:
        condition.severity = _Severity.ERROR
        condition.revision_reason = _RevisionReason.HEALTH_CHECK_CONTAINER_ERROR
    copied.conditions = [condition]
    copied.reconciling = state in {State.CONDITION_PENDING, State.CONDITION_RECONCILING}
    copied.update_time = now
    return copied


def being_deleted(service: types.Service, now: datetime.datetime) -> types.Service:
    """Gone for good when its container is; Cloud Run keeps no deleted services that could come back."""
    service = reconciling(service, "Deleting.", Reason.WAITING_FOR_OPERATION, now)
    service.delete_time = now
    service.expire_time = now
    return service


def with_facts(service: types.Service, facts: Mapping[str, str]) -> types.Service:
    """The service with what is true of its sandbox now as annotations."""
    if not facts:
        return service
    shown = types.Service(service)
    for key, value in facts.items():
        shown.annotations[f"{FACTS}{key}"] = value
    return shown


def same_template(one: types.Service, other: types.Service) -> bool:
    return bool(types.Service.pb(one).template == types.Service.pb(other).template)


def _with_defaults(service: types.Service) -> types.Service:
    if not service.ingress:
        service.ingress = _Ingress.INGRESS_TRAFFIC_ALL
    if not service.launch_stage:
        service.launch_stage = launch_stage_pb2.LaunchStage.GA
    if not service.traffic:
        latest = types.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
        service.traffic = [types.TrafficTarget(type_=latest, percent=100)]
    template = service.template
    if not template.timeout:
        template.timeout = datetime.timedelta(seconds=DEFAULT_TIMEOUT_S)
    if not template.scaling.max_instance_count:
        template.scaling.max_instance_count = max(DEFAULT_MAX_INSTANCES, template.scaling.min_instance_count)
    container = template.containers[0]
    if not template.max_instance_request_concurrency:
        template.max_instance_request_concurrency = DEFAULT_CONCURRENCY if cpu_of(container) >= 1 else 1
    if not container.ports:
        container.ports = [types.ContainerPort(name="http1", container_port=DEFAULT_PORT)]
    if "resources" not in container:
        container.resources = types.ResourceRequirements(cpu_idle=True)
    container.resources.limits.setdefault("cpu", "1000m")
    container.resources.limits.setdefault("memory", "512Mi")
    return service


def _modified(service: types.Service, now: datetime.datetime) -> types.Service:
    service.generation += 1
    service.update_time = now
    service.last_modifier = CREATOR
    service.etag = _etag(service.uid, str(service.generation))
    return service


def _etag(*parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f'"{base64.urlsafe_b64encode(digest[:18]).decode()}"'


def _with_conditions(
    service: types.Service, state: int, message: str, reason: int | None, now: datetime.datetime
) -> types.Service:
    changed = types.Service(service)
    since = now
    if changed.terminal_condition.state == state and changed.terminal_condition.last_transition_time:
        since = changed.terminal_condition.last_transition_time
    condition = types.Condition(type_="Ready", state=state, message=message, last_transition_time=since)
    if reason is not None:
        condition.reason = types.Condition.CommonReason(reason)
    if state == State.CONDITION_FAILED:
        condition.severity = _Severity.ERROR
    changed.terminal_condition = condition
    changed.conditions = []
    for kind in ("RoutesReady", "ConfigurationsReady"):
        part = types.Condition(condition)
        part.type_ = kind
        changed.conditions.append(part)
    changed.reconciling = state == State.CONDITION_RECONCILING
    return changed


def _settable(service: types.Service) -> bytes:
    kept = types.Service()
    for name in _SETTABLE:
        _copy_field(types.Service.pb(service), types.Service.pb(kept), name)
    return bytes(types.Service.pb(kept).SerializeToString(deterministic=True))


def _copy_field(source: object, target: object, name: str) -> None:
    field_mask_pb2.FieldMask(paths=[name]).MergeMessage(
        source, target, replace_message_field=True, replace_repeated_field=True
    )
