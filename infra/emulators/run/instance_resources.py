"""Instances as Cloud Run shows them: defaults, and the conditions of one that runs, stops and is stopped. Pure.

A stopped instance is not ready, which is no error: its condition says so with the severity INFO.
"""

import datetime
import uuid
from typing import Any

from google.cloud.run_v2 import types

from infra.emulators.run.container_rules import DEFAULT_PORT
from infra.emulators.run.names import InstanceName
from infra.emulators.run.resources import (
    CREATOR,
    Reason,
    Severity,
    State,
    merged,
    modified,
    reconciling,
    with_conditions,
)

_Ingress: Any = types.IngressTraffic

# What a client may set; everything else of an Instance is the server's.
_SETTABLE = [
    "description",
    "labels",
    "annotations",
    "client",
    "client_version",
    "launch_stage",
    "binary_authorization",
    "vpc_access",
    "service_account",
    "containers",
    "volumes",
    "encryption_key",
    "encryption_key_revocation_action",
    "encryption_key_shutdown_duration",
    "node_selector",
    "ingress",
    "invoker_iam_disabled",
    "iap_enabled",
]


def new_instance(name: InstanceName, asked: types.Instance, url: str, now: datetime.datetime) -> types.Instance:
    """The instance as it is while its container is on its way. `asked` was found valid."""
    instance = types.Instance(name=str(name), uid=str(uuid.uuid4()), create_time=now, creator=CREATOR, urls=[url])
    made = modified(_with_defaults(merged(instance, asked, _SETTABLE)), now)
    return reconciling(made, "Creating the instance.", Reason.WAITING_FOR_OPERATION, now)


def stopping(instance: types.Instance, now: datetime.datetime) -> types.Instance:
    """It is the client's wish that it does not run, from now on."""
    changed = _unwanted(instance, State.CONDITION_RECONCILING, "Stopping the instance.", now)
    changed.reconciling = True
    return changed


def stopped(instance: types.Instance, message: str, now: datetime.datetime) -> types.Instance:
    changed = _unwanted(instance, State.CONDITION_FAILED, message, now)
    changed.observed_generation = changed.generation
    return changed


def is_stopping(instance: types.Instance) -> bool:
    terminal = instance.terminal_condition
    return bool(terminal.severity == Severity.INFO and terminal.state == State.CONDITION_RECONCILING)


def is_stopped(instance: types.Instance) -> bool:
    terminal = instance.terminal_condition
    return bool(terminal.severity == Severity.INFO and terminal.state == State.CONDITION_FAILED)


def _unwanted(instance: types.Instance, state: int, message: str, now: datetime.datetime) -> types.Instance:
    return with_conditions(instance, state, message, None, now, Severity.INFO)


def _with_defaults(instance: types.Instance) -> types.Instance:
    if not instance.ingress:
        instance.ingress = _Ingress.INGRESS_TRAFFIC_ALL
    container = instance.containers[0]
    if not container.ports:
        container.ports = [types.ContainerPort(name="http1", container_port=DEFAULT_PORT)]
    container.resources.limits.setdefault("cpu", "2000m")
    container.resources.limits.setdefault("memory", "2Gi")
    return instance
