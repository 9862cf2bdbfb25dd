"""What Cloud Run refuses about a job, and about what a run of it overrides. Pure."""

from google.cloud.run_v2 import types

from infra.emulators.run.container_rules import JOB_ENV, SERVICE_ENV, Surroundings, check_env
from infra.emulators.run.rules import (
    DNS_LABEL,
    check_account,
    check_annotations,
    check_duration,
    check_id,
    check_labels,
    check_only_container,
    violation,
)
from infra.emulators.run.volume_rules import check_volumes

NAME_LIMIT = 63  # of a job's id, and of a job's id with the token of an execution: Job.start_execution_token
TASKS_LIMIT = 10_000  # cloud.google.com/run/docs/create-jobs
RETRIES_LIMIT = 10  # cloud.google.com/run/docs/configuring/max-retries
TASK_TIMEOUT_LIMIT_S = 168 * 3600  # cloud.google.com/run/docs/configuring/task-timeout
RESERVED_ENV = JOB_ENV | SERVICE_ENV


def check_job_id(job_id: str, field: str) -> None:
    check_id(job_id, NAME_LIMIT, field)


def check_job(job: types.Job, job_id: str, field: str) -> None:
    """`field` is the path of `job` in its request, such as CreateJobRequest.job."""
    check_labels(job.labels, f"{field}.labels")
    check_annotations(job.annotations, f"{field}.annotations")
    for name in ("start_execution_token", "run_execution_token"):
        token = getattr(job, name)
        if token and (len(job_id) + len(token) >= NAME_LIMIT or DNS_LABEL.fullmatch(f"{job_id}-{token}") is None):
            raise violation(
                f"{field}.{name}",
                f"must be lowercase letters, digits and hyphens, with the job's name fewer than {NAME_LIMIT} "
                f"characters; got {token!r}",
            )
    if "template" not in job:
        raise violation(f"{field}.template", "required field not present")
    check_execution_template(job.template, f"{field}.template")


def check_execution_template(template: types.ExecutionTemplate, field: str) -> None:
    check_labels(template.labels, f"{field}.labels")
    check_annotations(template.annotations, f"{field}.annotations")
    check_task_count(template.task_count, f"{field}.task_count")
    tasks = template.task_count or 1
    if not 0 <= template.parallelism <= tasks:
        raise violation(
            f"{field}.parallelism", f"must be between 0 and task_count ({tasks}), got {template.parallelism}"
        )
    if "template" not in template:
        raise violation(f"{field}.template", "required field not present")
    _check_task_template(template.template, f"{field}.template")


def check_task_count(count: int, field: str) -> None:
    """0 stands for the default."""
    if not 0 <= count <= TASKS_LIMIT:
        raise violation(field, f"must be between 1 and {TASKS_LIMIT}, got {count}")


def check_overrides(overrides: types.RunJobRequest.Overrides, container: types.Container, field: str) -> None:
    """`container` is the job's. `field` is the path of `overrides`."""
    check_task_count(overrides.task_count, f"{field}.task_count")
    _check_timeout(overrides, f"{field}.timeout")
    if len(overrides.container_overrides) > 1:
        raise violation(
            f"{field}.container_overrides", f"at most one for each container, got {len(overrides.container_overrides)}"
        )
    for index, override in enumerate(overrides.container_overrides):
        path = f"{field}.container_overrides[{index}]"
        if override.name and override.name != container.name:
            raise violation(f"{path}.name", f"the job has no container named {override.name!r}")
        if override.clear_args and override.args:
            raise violation(f"{path}.clear_args", "cannot be set together with args")
        check_env(override.env, RESERVED_ENV, f"{path}.env")


def _check_task_template(template: types.TaskTemplate, field: str) -> None:
    if not 0 <= template.max_retries <= RETRIES_LIMIT:
        raise violation(f"{field}.max_retries", f"must be between 0 and {RETRIES_LIMIT}, got {template.max_retries}")
    _check_timeout(template, f"{field}.timeout")
    if template.execution_environment == types.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN1:
        raise violation(f"{field}.execution_environment", "jobs run in the second generation execution environment")
    check_account(template.service_account, f"{field}.service_account")
    check_volumes(template.volumes, f"{field}.volumes")
    around = Surroundings(
        volumes=template.volumes,
        gen2=True,
        reserved_env=RESERVED_ENV,
        # cloud.google.com/run/docs/configuring/jobs/cpu
        whole_cpus="The container of a task must have at least 1 cpu.",
        serves=False,
    )
    check_only_container(template.containers, around, f"{field}.containers")


def _check_timeout(holder: types.TaskTemplate | types.RunJobRequest.Overrides, field: str) -> None:
    seconds = holder.timeout.total_seconds() if "timeout" in holder else 0
    check_duration(seconds, TASK_TIMEOUT_LIMIT_S, field)
