"""Executions and tasks as Cloud Run shows them: counts, phases, conditions. Pure; messages are copied."""

import datetime
import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from google.cloud.run_v2 import types
from google.rpc import code_pb2

from infra.emulators.run.resources import CREATOR, Severity, State, copy_fields, id_of, new_etag, new_suffix

ExecutionReason: Any = types.Condition.ExecutionReason

LONGEST_GENERATED = 57  # of what a generated name begins with: 63 characters with the suffix

_OF_THE_TEMPLATE = [
    "containers",
    "volumes",
    "max_retries",
    "timeout",
    "service_account",
    "execution_environment",
    "encryption_key",
    "vpc_access",
    "node_selector",
]

C = TypeVar("C", types.Execution, types.Task)


class Phase(StrEnum):
    """Of a task. One between two attempts is RUNNING."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


def new_execution(
    job: types.Job, template: types.ExecutionTemplate, token: str, now: datetime.datetime
) -> types.Execution:
    """`token` is the suffix of its id; "": a generated one."""
    job_id = id_of(job.name)
    execution_id = f"{job_id}-{token}" if token else f"{job_id[:LONGEST_GENERATED]}-{new_suffix(5)}"
    uid = str(uuid.uuid4())
    execution = types.Execution(
        name=f"{job.name}/executions/{execution_id}",
        uid=uid,
        creator=CREATOR,
        generation=1,
        observed_generation=1,
        labels=dict(template.labels),
        annotations=dict(template.annotations),
        create_time=now,
        update_time=now,
        launch_stage=job.launch_stage,
        job=job_id,
        parallelism=template.parallelism,
        task_count=template.task_count,
        template=template.template,
        etag=new_etag(uid, execution_id),
    )
    return _with_completed(execution, State.CONDITION_PENDING, "Waiting for its tasks to start.", 0, now)


def new_tasks(execution: types.Execution, now: datetime.datetime) -> list[types.Task]:
    """All of an execution's, by their index."""
    execution_id = id_of(execution.name)
    first = types.Task(
        generation=1,
        observed_generation=1,
        labels=dict(execution.labels),
        annotations=dict(execution.annotations),
        create_time=now,
        scheduled_time=now,
        update_time=now,
        job=execution.job,
        execution=execution_id,
    )
    copy_fields(execution.template, first, _OF_THE_TEMPLATE)
    first = _with_completed(first, State.CONDITION_PENDING, "Waiting to start.", 0, now)
    tasks = []
    for index in range(execution.task_count):
        task = types.Task(first)
        task.name = f"{execution.name}/tasks/{execution_id}-task{index}"
        task.uid = str(uuid.uuid4())
        task.index = index
        task.etag = new_etag(task.uid)
        tasks.append(task)
    return tasks


def phase_of(task: types.Task) -> Phase:
    if not task.completion_time:
        return Phase.RUNNING if task.start_time else Phase.WAITING
    completed = task.conditions[0]
    if completed.state == State.CONDITION_SUCCEEDED:
        return Phase.SUCCEEDED
    return Phase.CANCELLED if completed.execution_reason == ExecutionReason.CANCELLED else Phase.FAILED


def task_started(task: types.Task, attempt: int, now: datetime.datetime) -> types.Task:
    """`attempt` counts from 0; a task keeps the time when its first one began."""
    changed = _with_completed(task, State.CONDITION_RECONCILING, "Running.", 0, now)
    changed.start_time = task.start_time or now
    changed.retried = attempt
    return changed


def task_ended(task: types.Task, result: types.TaskAttemptResult, now: datetime.datetime) -> types.Task:
    """For good: its last attempt had that result."""
    if result.status.code == code_pb2.OK:
        changed = _with_completed(task, State.CONDITION_SUCCEEDED, "", 0, now)
    else:
        reason = ExecutionReason.CANCELLED if result.status.code == code_pb2.CANCELLED else _failure(result)
        changed = _with_completed(task, State.CONDITION_FAILED, result.status.message, reason, now)
    changed.last_attempt_result = result
    changed.completion_time = now
    return changed


def task_will_retry(task: types.Task, result: types.TaskAttemptResult, now: datetime.datetime) -> types.Task:
    """Its attempt failed, and another one follows."""
    changed = _with_completed(task, State.CONDITION_RECONCILING, f"Retrying. {result.status.message}", 0, now)
    changed.last_attempt_result = result
    return changed


def with_counts(
    execution: types.Execution, counts: Mapping[Phase, int], retried: int, now: datetime.datetime
) -> types.Execution:
    """What its tasks are; `retried` of them have been, at least once."""
    changed = types.Execution(execution)
    if not changed.start_time and any(count for phase, count in counts.items() if phase is not Phase.WAITING):
        if not is_cancelling(changed):
            changed = _with_completed(changed, State.CONDITION_RECONCILING, "Running.", 0, now)
        changed.start_time = now
    changed.running_count = counts.get(Phase.RUNNING, 0)
    changed.succeeded_count = counts.get(Phase.SUCCEEDED, 0)
    changed.failed_count = counts.get(Phase.FAILED, 0)
    changed.cancelled_count = counts.get(Phase.CANCELLED, 0)
    changed.retried_count = retried
    changed.update_time = now
    return changed


def cancelling(execution: types.Execution, now: datetime.datetime) -> types.Execution:
    message = "The execution is being cancelled."
    return _with_completed(execution, State.CONDITION_RECONCILING, message, ExecutionReason.CANCELLING, now)


def is_cancelling(execution: types.Execution) -> bool:
    return bool(execution.conditions[0].execution_reason == ExecutionReason.CANCELLING)


def execution_deleted(execution: types.Execution, now: datetime.datetime) -> types.Execution:
    changed = cancelling(execution, now) if not execution.completion_time else types.Execution(execution)
    changed.delete_time = now
    changed.expire_time = now
    return changed


def completed(execution: types.Execution, failure: types.Task | None, now: datetime.datetime) -> types.Execution:
    """All its tasks are; `failure` is the first one that failed."""
    if is_cancelling(execution):
        message, reason = "The execution was cancelled.", ExecutionReason.CANCELLED
    elif failure is not None:
        told = failure.conditions[0]
        message, reason = f"Task {id_of(failure.name)} failed with message: {told.message}", told.execution_reason
    else:
        took_s = (now - execution.create_time).total_seconds()
        message, reason = f"Execution completed successfully in {took_s:.2f}s.", None
    state = State.CONDITION_SUCCEEDED if reason is None else State.CONDITION_FAILED
    changed = _with_completed(execution, state, message, reason or 0, now)
    changed.completion_time = now
    return changed


def broken(execution: types.Execution, why: str, now: datetime.datetime) -> types.Execution:
    """Completed as a failure that is not its tasks'."""
    changed = _with_completed(execution, State.CONDITION_FAILED, why, 0, now)
    changed.running_count = 0
    changed.completion_time = now
    return changed


def _with_completed(resource: C, state: int, message: str, reason: int, now: datetime.datetime) -> C:
    """With the condition that tells whether it is complete; reconciling while that is open. `reason` 0: none."""
    changed = type(resource)(resource)
    condition = types.Condition(type_="Completed", state=state, message=message, last_transition_time=now)
    before = changed.conditions[0] if changed.conditions else None
    if before is not None and before.state == state:
        condition.last_transition_time = before.last_transition_time
    if reason:
        condition.execution_reason = types.Condition.ExecutionReason(reason)
    if state == State.CONDITION_FAILED:
        condition.severity = Severity.ERROR
    changed.conditions = [condition]
    changed.reconciling = state in {State.CONDITION_PENDING, State.CONDITION_RECONCILING}
    changed.update_time = now
    return changed


def _failure(result: types.TaskAttemptResult) -> int:
    return int(ExecutionReason.NON_ZERO_EXIT_CODE) if result.exit_code else 0
