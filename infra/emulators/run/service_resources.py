"""Services and revisions as Cloud Run shows them: defaults, revisions, conditions. Pure; messages are copied."""

import datetime
import uuid
from typing import Any

from google.api import launch_stage_pb2
from google.cloud.run_v2 import types

from infra.emulators.run.container_rules import DEFAULT_CONCURRENCY, DEFAULT_PORT, cpu_of
from infra.emulators.run.names import ServiceName
from infra.emulators.run.resources import (
    CREATOR,
    Severity,
    State,
    copy_fields,
    id_of,
    merged,
    modified,
    new_etag,
    new_suffix,
    ready,
    same,
)

_RevisionReason: Any = types.Condition.RevisionReason
_Ingress: Any = types.IngressTraffic

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
    return modified(_with_defaults(merged(service, asked, _SETTABLE)), now)


def merged_service(current: types.Service, asked: types.Service, paths: list[str]) -> types.Service:
    """`current` with the fields of `asked` that `paths` name, all of them for none or "*"; not valid yet."""
    chosen = _SETTABLE if not paths or "*" in paths else [p for p in paths if p.split(".", 1)[0] in _SETTABLE]
    return merged(current, asked, chosen)


def updated_service(current: types.Service, wanted: types.Service, now: datetime.datetime) -> types.Service:
    """A next generation, unless nothing is different. `wanted` is `current` merged with a request, and valid."""
    wanted = _with_defaults(types.Service(wanted))
    return current if same(wanted, current, _SETTABLE) else modified(wanted, now)


def same_template(one: types.Service, other: types.Service) -> bool:
    return same(one, other, ["template"])


def new_revision(service: types.Service, now: datetime.datetime) -> types.Revision:
    """What the service's template is now; named by the template or numbered by the service's generation."""
    template = service.template
    service_id = id_of(service.name)
    revision_id = template.revision or f"{service_id}-{service.generation:05d}-{new_suffix(3)}"
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
        etag=new_etag(service.uid, revision_id),
        reconciling=True,
    )
    copy_fields(template, revision, _OF_THE_TEMPLATE)
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


def serving(service: types.Service, now: datetime.datetime) -> types.Service:
    """Ready: its latest revision serves."""
    service = ready(service, now)
    service.latest_ready_revision = service.latest_created_revision
    revision_id = id_of(service.latest_ready_revision)
    service.traffic_statuses = [
        types.TrafficTargetStatus(type_=target.type_, revision=revision_id, percent=target.percent, tag=target.tag)
        for target in service.traffic
    ]
    return service


def revision_condition(revision: types.Revision, state: int, message: str, now: datetime.datetime) -> types.Revision:
    copied = types.Revision(revision)
    condition = types.Condition(type_="Ready", state=state, message=message, last_transition_time=now)
    if state == State.CONDITION_FAILED:
        condition.severity = Severity.ERROR
        condition.revision_reason = _RevisionReason.HEALTH_CHECK_CONTAINER_ERROR
    copied.conditions = [condition]
    copied.reconciling = state in {State.CONDITION_PENDING, State.CONDITION_RECONCILING}
    copied.update_time = now
    return copied


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
