"""What Cloud Run refuses about an instance. Pure."""

from decimal import Decimal
from typing import Any

from google.api import launch_stage_pb2
from google.cloud.run_v2 import types

from infra.emulators.run.container_rules import GIB, SERVICE_ENV, Surroundings
from infra.emulators.run.rules import (
    check_account,
    check_annotations,
    check_description,
    check_id,
    check_labels,
    check_only_container,
    violation,
)
from infra.emulators.run.volume_rules import check_volumes

INSTANCE_ID_LIMIT = 49  # CreateInstanceRequest.instance_id
# cloud.google.com/run/docs/configuring/instances/cpu
DEFAULT_CPU = Decimal(2)
DEFAULT_MEMORY_BYTES = 2 * GIB

_Stage: Any = launch_stage_pb2.LaunchStage
_PREVIEW = (_Stage.ALPHA, _Stage.BETA)


def check_instance_id(instance_id: str, field: str) -> None:
    check_id(instance_id, INSTANCE_ID_LIMIT, field)


def check_instance(instance: types.Instance, field: str) -> None:
    """`field` is the path of `instance` in its request."""
    check_description(instance.description, f"{field}.description")
    check_labels(instance.labels, f"{field}.labels")
    check_annotations(instance.annotations, f"{field}.annotations")
    if instance.launch_stage not in _PREVIEW:
        seen = _Stage.Name(instance.launch_stage or _Stage.GA)
        raise violation(f"{field}.launch_stage", f"instances are in preview: must be BETA or ALPHA, got {seen}")
    check_account(instance.service_account, f"{field}.service_account")
    check_volumes(instance.volumes, f"{field}.volumes")
    around = Surroundings(
        volumes=instance.volumes,
        gen2=True,
        reserved_env=SERVICE_ENV,
        whole_cpus="The containers of an instance must have at least 1 cpu.",
        default_cpu=DEFAULT_CPU,
        default_memory_bytes=DEFAULT_MEMORY_BYTES,
    )
    check_only_container(instance.containers, around, f"{field}.containers")
