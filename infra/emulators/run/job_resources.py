"""Jobs as Cloud Run shows them: defaults, their latest execution, and what a run of one overrides. Pure."""

import datetime
import uuid
from typing import Any

from google.api import launch_stage_pb2
from google.cloud.run_v2 import types

from infra.emulators.run.execution_resources import ExecutionReason
from infra.emulators.run.names import JobName
from infra.emulators.run.resources import CREATOR, State, merged, modified, ready, same

_CompletionStatus: Any = types.ExecutionReference.CompletionStatus
_Environment: Any = types.ExecutionEnvironment

DEFAULT_RETRIES = 3  # TaskTemplate.max_retries
DEFAULT_TIMEOUT_S = 600  # TaskTemplate.timeout


# What a client may set; everything else of a Job is the server's.
_SETTABLE = [
    "labels",
    "annotations",
    "client",
    "client_version",
    "launch_stage",
    "binary_authorization",
    "template",
    "start_execution_token",
    "run_execution_token",
]


def new_job(name: JobName, asked: types.Job, now: datetime.datetime) -> types.Job:
    job = types.Job(name=str(name), uid=str(uuid.uuid4()), create_time=now, creator=CREATOR)
    return ready(modified(_with_defaults(merged(job, asked, _SETTABLE)), now), now)


def updated_job(current: types.Job, asked: types.Job, now: datetime.datetime) -> types.Job:
    """A next generation, unless nothing is different: an update replaces all that a client may set."""
    wanted = _with_defaults(merged(current, asked, _SETTABLE))
    return current if same(wanted, current, _SETTABLE) else ready(modified(wanted, now), now)


def job_with_execution(job: types.Job, execution: types.Execution) -> types.Job:
    """The job with one more execution, the latest."""
    changed = types.Job(job)
    changed.execution_count += 1
    changed.latest_created_execution = types.ExecutionReference(name=execution.name, create_time=execution.create_time)
    return changed


def job_shown(job: types.Job, latest: types.Execution | None) -> types.Job:
    """With what its latest execution is now; None: it was deleted."""
    if latest is None:
        return job
    shown = types.Job(job)
    reference = shown.latest_created_execution
    if latest.completion_time:
        reference.completion_time = latest.completion_time
    reference.completion_status = types.ExecutionReference.CompletionStatus(_completion_status(latest))
    return shown


def overridden(template: types.ExecutionTemplate, overrides: types.RunJobRequest.Overrides) -> types.ExecutionTemplate:
    """What one execution runs. `overrides` were found valid."""
    changed = types.ExecutionTemplate(template)
    if overrides.task_count:
        changed.task_count = overrides.task_count
        changed.parallelism = min(changed.parallelism, overrides.task_count)
    if overrides.timeout:
        changed.template.timeout = overrides.timeout
    for override in overrides.container_overrides:
        container = changed.template.containers[0]
        if override.args or override.clear_args:
            container.args = list(override.args)
        replaced = {variable.name for variable in override.env}
        container.env = [*(v for v in container.env if v.name not in replaced), *override.env]
    return changed


def _completion_status(execution: types.Execution) -> int:
    if not execution.completion_time:
        status = _CompletionStatus.EXECUTION_RUNNING if execution.start_time else _CompletionStatus.EXECUTION_PENDING
    elif execution.conditions[0].state == State.CONDITION_SUCCEEDED:
        status = _CompletionStatus.EXECUTION_SUCCEEDED
    elif execution.conditions[0].execution_reason == ExecutionReason.CANCELLED:
        status = _CompletionStatus.EXECUTION_CANCELLED
    else:
        status = _CompletionStatus.EXECUTION_FAILED
    return int(status)


def _with_defaults(job: types.Job) -> types.Job:
    if not job.launch_stage:
        job.launch_stage = launch_stage_pb2.LaunchStage.GA
    job.template.task_count = job.template.task_count or 1
    template = job.template.template
    if "max_retries" not in template:
        template.max_retries = DEFAULT_RETRIES
    if not template.timeout:
        template.timeout = datetime.timedelta(seconds=DEFAULT_TIMEOUT_S)
    template.execution_environment = _Environment.EXECUTION_ENVIRONMENT_GEN2
    container = template.containers[0]
    container.resources.limits.setdefault("cpu", "1000m")
    container.resources.limits.setdefault("memory", "512Mi")
    return job
