"""What Cloud Run refuses about a job, case by case, and what overrides make of one."""

import datetime
from typing import Any

import pytest
from google.api_core.exceptions import InvalidArgument, MethodNotImplemented
from google.cloud.run_v2 import types

from infra.emulators.run.execution_resources import Phase, new_execution, new_tasks, phase_of
from infra.emulators.run.job_resources import new_job, overridden, updated_job
from infra.emulators.run.job_rules import check_job, check_job_id
from infra.emulators.run.names import JobName

FIELD = "CreateJobRequest.job"
NAME = JobName.parse("projects/onmemos-local/locations/us-central1/jobs/one", "name")
NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
LIMITS = {"limits": {"cpu": "1", "memory": "1Gi"}}


def a_job(container: Any = None, task: Any = None, execution: Any = None, **fields: Any) -> types.Job:
    containers = [{"image": "python:3", "resources": LIMITS, **(container or {})}]
    return types.Job(
        {"template": {"template": {"containers": containers, **(task or {})}, **(execution or {})}, **fields}
    )


@pytest.mark.parametrize(
    "job",
    [
        a_job(),
        a_job(task={"max_retries": 10, "timeout": {"seconds": 168 * 3600}}),
        a_job(execution={"task_count": 10_000, "parallelism": 10_000}),
        a_job(container={"command": ["sh", "-c"], "args": ["true"], "env": [{"name": "A", "value": ""}]}),
        a_job(run_execution_token="first-1"),
        a_job(task={"execution_environment": "EXECUTION_ENVIRONMENT_GEN2"}),
    ],
)
def test_a_legal_job_is_accepted(job: types.Job) -> None:
    check_job(job, "one", FIELD)


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (types.Job(), r"job\.template: required"),
        (types.Job(template={}), r"template\.template: required"),
        (types.Job(template={"task_count": 1}), r"template\.template: required"),
        (types.Job(template={"template": {"max_retries": 1}}), r"containers: required"),
        (a_job(labels={"A": "b"}), r"job\.labels"),
        (a_job(annotations={"run.googleapis.com/x": "y"}), "reserved for the system"),
        (a_job(execution={"labels": {"A": "b"}}), r"template\.labels"),
        (a_job(execution={"task_count": 10_001}), "task_count: must be between 1 and 10000"),
        (a_job(execution={"task_count": 2, "parallelism": 3}), r"parallelism: must be between 0 and task_count \(2\)"),
        (a_job(execution={"parallelism": 2}), r"task_count \(1\), got 2"),
        (a_job(task={"max_retries": 11}), "max_retries: must be between 0 and 10, got 11"),
        (a_job(task={"timeout": {"seconds": 168 * 3600 + 1}}), "timeout: must be between 0 and 604800"),
        (a_job(task={"execution_environment": "EXECUTION_ENVIRONMENT_GEN1"}), "second generation"),
        (a_job(task={"service_account": "nobody"}), "service_account"),
        (a_job(task={"volumes": [{"name": "x"}]}), "a volume needs a type"),
        (a_job(container={"image": ""}), r"containers\[0\]\.image: required"),
        (a_job(container={"ports": [{"container_port": 80}]}), "have no ports"),
        (a_job(container={"resources": {"limits": {"cpu": "500m", "memory": "512Mi"}}}), "at least 1 cpu"),
        (a_job(container={"resources": {"limits": {"cpu": "1", "memory": "256Mi"}}}), "gen2"),
        (a_job(container={"env": [{"name": "CLOUD_RUN_TASK_INDEX", "value": "1"}]}), "CLOUD_RUN_TASK_INDEX"),
        (a_job(container={"env": [{"name": "PORT", "value": "1"}]}), "PORT"),
        (a_job(start_execution_token="x" * 60), "fewer than 63 characters"),
        (a_job(start_execution_token="ends-"), "start_execution_token"),
    ],
)
def test_what_a_job_cannot_be_is_refused(job: types.Job, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        check_job(job, "one", FIELD)


def test_what_only_the_cloud_has_is_not_implemented() -> None:
    for job in (
        a_job(container={"startup_probe": {"tcp_socket": {}}}),
        types.Job(template={"template": {"containers": [{"image": "a"}, {"image": "b"}]}}),
    ):
        with pytest.raises(MethodNotImplemented):
            check_job(job, "one", FIELD)


def test_names_of_jobs_have_63_characters_at_most() -> None:
    check_job_id("a" * 63, "job_id")
    for wrong in ("a" * 64, "", "A", "1a", "a-"):
        with pytest.raises(InvalidArgument, match="job_id"):
            check_job_id(wrong, "job_id")


def test_no_retries_are_not_the_default_of_three() -> None:
    assert new_job(NAME, a_job(), NOW).template.template.max_retries == 3
    assert new_job(NAME, a_job(task={"max_retries": 0}), NOW).template.template.max_retries == 0


def test_an_update_without_a_change_is_no_new_generation() -> None:
    job = new_job(NAME, a_job(), NOW)
    assert updated_job(job, a_job(), NOW) is job
    assert updated_job(job, a_job(labels={"a": "b"}), NOW).generation == 2


def test_fewer_tasks_than_parallelism_lower_that_too() -> None:
    job = new_job(NAME, a_job(execution={"task_count": 5, "parallelism": 4}), NOW)
    changed = overridden(job.template, types.RunJobRequest.Overrides(task_count=2))
    assert (changed.task_count, changed.parallelism) == (2, 2)
    assert (job.template.task_count, job.template.parallelism) == (5, 4)


def test_names_of_executions_and_tasks_stay_within_the_limits_of_a_name() -> None:
    job = new_job(NAME.parent.job("a" * 63), a_job(), NOW)
    execution = new_execution(job, job.template, "", NOW)
    assert len(execution.name.rsplit("/", 1)[-1]) == 63
    (task,) = new_tasks(execution, NOW)
    assert task.name.endswith("-task0")
    assert phase_of(task) is Phase.WAITING
