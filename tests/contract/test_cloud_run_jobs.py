"""Cloud Run's emulator through google-cloud-run's own clients: what jobs, executions and tasks go through."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.rpc import code_pb2

from tests.contract.cloud_run_rig import PARENT, Rig, SocketContainer, a_job, cloud_run

State = run_v2.Condition.State
Reason = run_v2.Condition.ExecutionReason
Status = run_v2.ExecutionReference.CompletionStatus
NAME = f"{PARENT}/jobs/one"


@pytest.fixture
def sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        yield Path(folder)


@pytest.fixture
async def rig(tmp_path: Path, sockets: Path) -> AsyncIterator[Rig]:
    async with cloud_run(tmp_path, sockets) as rig:
        yield rig


async def tasks_of(rig: Rig, execution: str) -> list[run_v2.Task]:
    return [task async for task in await rig.tasks.list_tasks(parent=execution)]


async def running(rig: Rig, count: int) -> list[SocketContainer]:
    """The containers that run, once there were so many starts."""
    await rig.runtime.have_started(count)
    return rig.runtime.running()


async def test_a_created_job_is_ready_and_has_the_defaults(rig: Rig) -> None:
    job = await rig.create_job("one", run_v2.Job(template={"template": {"containers": [{"image": "python"}]}}))
    assert job.name == NAME
    assert job.terminal_condition.state == State.CONDITION_SUCCEEDED
    assert (job.generation, job.observed_generation, job.execution_count) == (1, 1, 0)
    template = job.template.template
    assert (job.template.task_count, template.max_retries, template.timeout.total_seconds()) == (1, 3, 600)
    assert dict(template.containers[0].resources.limits) == {"cpu": "1000m", "memory": "512Mi"}
    assert await rig.jobs.get_job(name=NAME) == job
    with pytest.raises(exceptions.AlreadyExists, match="'one' already exists"):
        await rig.create_job("one")


async def test_a_run_is_answered_at_once_and_done_when_its_execution_is_complete(rig: Rig) -> None:
    await rig.create_job("one", a_job("silent"))
    operation = await rig.jobs.run_job(name=NAME)
    assert not operation.operation.done
    assert operation.metadata.name.startswith(f"{NAME}/executions/one-")
    (container,) = await running(rig, 1)
    execution = await rig.executions.get_execution(name=operation.metadata.name)
    assert (execution.running_count, execution.task_count, execution.reconciling) == (1, 1, True)
    assert execution.start_time >= execution.create_time
    assert not execution.completion_time
    assert (await rig.jobs.get_job(name=NAME)).latest_created_execution.completion_status == Status.EXECUTION_RUNNING

    container.crash(0)

    done = await rig.completed(execution.name)
    assert (done.running_count, done.succeeded_count, done.failed_count) == (0, 1, 0)
    assert done.conditions[0].type_ == "Completed"
    assert done.conditions[0].state == State.CONDITION_SUCCEEDED
    assert not done.reconciling
    assert done.completion_time >= done.start_time
    await rig.jobs.wait_operation({"name": operation.operation.name, "timeout": {"seconds": 5}})
    assert (await operation.result()).name == execution.name
    job = await rig.jobs.get_job(name=NAME)
    assert job.execution_count == 1
    assert job.latest_created_execution.name == execution.name
    assert job.latest_created_execution.completion_status == Status.EXECUTION_SUCCEEDED


async def test_a_task_gets_its_command_variables_volumes_and_limits(rig: Rig) -> None:
    (rig.buckets / "bucket-one").mkdir()
    job = a_job(
        "exit",
        container={
            "args": ["0"],
            "env": [{"name": "COLOR", "value": "red"}],
            "volume_mounts": [{"name": "files", "mount_path": "/data"}, {"name": "tmp", "mount_path": "/scratch"}],
        },
        task={
            "volumes": [{"name": "files", "gcs": {"bucket": "bucket-one"}}, {"name": "tmp", "empty_dir": {}}],
            "vpc_access": {"egress": "ALL_TRAFFIC"},
        },
        template={"task_count": 2, "parallelism": 1},
    )
    await rig.create_job("one", job)
    name = await rig.run_job("one")
    await rig.completed(name)
    first, second = (container.spec for container in rig.runtime.started)
    assert first.command == ("exit", "0")
    assert first.image == job.template.template.containers[0].image
    assert dict(first.env) == {
        "COLOR": "red",
        "CLOUD_RUN_JOB": "one",
        "CLOUD_RUN_EXECUTION": name.rsplit("/", 1)[-1],
        "CLOUD_RUN_TASK_INDEX": "0",
        "CLOUD_RUN_TASK_ATTEMPT": "0",
        "CLOUD_RUN_TASK_COUNT": "2",
    }
    assert second.env["CLOUD_RUN_TASK_INDEX"] == "1"
    assert first.name != second.name
    assert all(spec.name.startswith("job-") and len(spec.name) == 16 for spec in (first, second))
    assert first.limits.memory_bytes == 2**30
    assert not first.egress
    assert first.mounts[0].source == rig.buckets / "bucket-one"
    assert not first.mounts[1].source.exists()  # an empty_dir ends with its container
    assert {first.name, second.name} <= set(rig.runtime.removed)


async def test_overrides_hold_for_one_execution(rig: Rig) -> None:
    container = {"name": "main", "args": ["7"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}
    await rig.create_job("one", a_job("exit", container=container))
    override = {"name": "main", "args": ["0"], "env": [{"name": "B", "value": "2"}, {"name": "C", "value": "2"}]}
    changed = await rig.run_job("one", container_overrides=[override], task_count=2, timeout={"seconds": 60})
    done = await rig.completed(changed)
    assert (done.task_count, done.succeeded_count, done.template.timeout.total_seconds()) == (2, 2, 60)
    spec = rig.runtime.started[0].spec
    assert spec.command == ("exit", "0")
    assert {name: value for name, value in spec.env.items() if len(name) == 1} == {"A": "1", "B": "2", "C": "2"}
    cleared = await rig.completed(await rig.run_job("one", container_overrides=[{"clear_args": True, "args": []}]))
    assert list(cleared.template.containers[0].args) == []
    assert list((await rig.jobs.get_job(name=NAME)).template.template.containers[0].args) == ["7"]


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"task_count": -1}, "task_count"),
        ({"task_count": 10_001}, "task_count"),
        ({"timeout": {"seconds": 168 * 3600 + 1}}, "timeout"),
        ({"container_overrides": [{"name": "other"}]}, "name"),
        ({"container_overrides": [{"clear_args": True, "args": ["x"]}]}, "clear_args"),
        ({"container_overrides": [{"env": [{"name": "CLOUD_RUN_JOB", "value": "x"}]}]}, "CLOUD_RUN_JOB"),
        ({"container_overrides": [{}, {}]}, "container_overrides"),
    ],
)
async def test_overrides_that_cannot_be_are_refused(rig: Rig, overrides: Any, field: str) -> None:
    await rig.create_job("one")
    with pytest.raises(exceptions.InvalidArgument, match=field):
        await rig.run_job("one", **overrides)
    assert not rig.runtime.started


async def test_a_task_that_fails_is_tried_again_as_often_as_it_may(rig: Rig) -> None:
    await rig.create_job("one", a_job("exit", "3", task={"max_retries": 2}))
    name = await rig.run_job("one")
    done = await rig.completed(name)
    assert (done.failed_count, done.succeeded_count, done.retried_count) == (1, 0, 1)
    assert done.conditions[0].state == State.CONDITION_FAILED
    assert done.conditions[0].execution_reason == Reason.NON_ZERO_EXIT_CODE
    assert "exited with code 3" in done.conditions[0].message
    assert [c.spec.env["CLOUD_RUN_TASK_ATTEMPT"] for c in rig.runtime.started] == ["0", "1", "2"]
    (task,) = await tasks_of(rig, name)
    assert task.name == f"{name}/tasks/{name.rsplit('/', 1)[-1]}-task0"
    assert (task.retried, task.last_attempt_result.exit_code, task.index) == (2, 3, 0)
    assert "no such module" in task.last_attempt_result.status.message
    assert task.completion_time
    assert await rig.tasks.get_task(name=task.name) == task
    status = (await rig.jobs.get_job(name=NAME)).latest_created_execution.completion_status
    assert status == Status.EXECUTION_FAILED


async def test_a_retry_that_succeeds_is_a_success(rig: Rig) -> None:
    await rig.create_job("one", a_job("silent", task={"max_retries": 1}))
    name = await rig.run_job("one")
    (await running(rig, 1))[0].crash(1)
    (await running(rig, 2))[0].crash(0)
    done = await rig.completed(name)
    assert (done.succeeded_count, done.failed_count, done.retried_count) == (1, 0, 1)
    assert done.conditions[0].state == State.CONDITION_SUCCEEDED


async def test_no_more_tasks_run_at_once_than_parallelism_allows(rig: Rig) -> None:
    await rig.create_job("one", a_job("silent", template={"task_count": 3, "parallelism": 2}))
    name = await rig.run_job("one")
    assert len(await running(rig, 2)) == 2
    assert (await rig.executions.get_execution(name=name)).running_count == 2
    rig.runtime.running()[0].crash(0)
    assert len(await running(rig, 3)) == 2
    for container in rig.runtime.running():
        container.crash(0)
    assert (await rig.completed(name)).succeeded_count == 3


async def test_a_task_that_reaches_its_timeout_is_ended(rig: Rig) -> None:
    await rig.create_job("one", a_job("silent", task={"timeout": {"nanos": 50_000_000}}))
    name = await rig.run_job("one")
    done = await rig.completed(name)
    assert done.failed_count == 1
    assert "reached its timeout of 0.05 seconds" in done.conditions[0].message
    (task,) = await tasks_of(rig, name)
    assert task.last_attempt_result.status.code == code_pb2.DEADLINE_EXCEEDED
    assert task.last_attempt_result.term_signal == 15
    assert not rig.runtime.running()


async def test_a_cancelled_execution_ends_what_runs_and_what_waits(rig: Rig) -> None:
    await rig.create_job("one", a_job("silent", task={"max_retries": 3}, template={"task_count": 3, "parallelism": 1}))
    name = await rig.run_job("one")
    (await running(rig, 1))[0].crash(0)
    await running(rig, 2)
    cancelled = await (await rig.executions.cancel_execution(name=name)).result()
    assert (cancelled.succeeded_count, cancelled.cancelled_count, cancelled.running_count) == (1, 2, 0)
    assert cancelled.conditions[0].execution_reason == Reason.CANCELLED
    assert cancelled.completion_time
    assert not rig.runtime.running()
    assert len(rig.runtime.started) == 2
    with pytest.raises(exceptions.FailedPrecondition, match="is complete"):
        await rig.executions.cancel_execution(name=name)
    status = (await rig.jobs.get_job(name=NAME)).latest_created_execution.completion_status
    assert status == Status.EXECUTION_CANCELLED


async def test_a_cancellation_of_what_ends_by_itself_meanwhile_leaves_nothing_open(rig: Rig) -> None:
    await rig.create_job("one", a_job("silent"))
    for count in range(1, 11):
        name = await rig.run_job("one")
        (container,) = await running(rig, count)
        cancellation = asyncio.create_task(rig.executions.cancel_execution(name=name))
        container.crash(0)
        await asyncio.gather(cancellation, return_exceptions=True)
        assert not (await rig.completed(name)).reconciling


async def test_what_cannot_start_fails_the_execution_with_the_reason(rig: Rig) -> None:
    volumes = [{"name": "files", "gcs": {"bucket": "no-such-bucket"}}]
    mounts = [{"name": "files", "mount_path": "/data"}]
    await rig.create_job("one", a_job(container={"volume_mounts": mounts}, task={"volumes": volumes}))
    assert "'no-such-bucket' does not exist" in (await rig.completed(await rig.run_job("one"))).conditions[0].message
    await rig.create_job("two")
    rig.runtime.refuse = 1
    assert "no sandbox today" in (await rig.completed(await rig.run_job("two"))).conditions[0].message


async def test_executions_are_listed_below_a_job_and_below_all(rig: Rig) -> None:
    await rig.create_job("one")
    await rig.create_job("two")
    mine = sorted([await rig.run_job("one"), await rig.run_job("one")])
    other = await rig.run_job("two")
    for name in (*mine, other):
        await rig.completed(name)
    listed = [e.name async for e in await rig.executions.list_executions({"parent": NAME, "page_size": 1})]
    assert listed == mine
    everything = [e.name async for e in await rig.executions.list_executions(parent=f"{PARENT}/jobs/-")]
    assert everything == [*mine, other]
    assert len(await tasks_of(rig, f"{PARENT}/jobs/-/executions/-")) == 3
    assert [job.name async for job in await rig.jobs.list_jobs(parent=PARENT)] == [NAME, f"{PARENT}/jobs/two"]
    with pytest.raises(exceptions.NotFound, match="of job 'one' does not exist"):
        await rig.executions.get_execution(name=f"{NAME}/executions/one-none")


async def test_a_deleted_execution_is_gone_and_ends_first(rig: Rig) -> None:
    await rig.create_job("one", a_job("silent"))
    name = await rig.run_job("one")
    await running(rig, 1)
    gone = await (await rig.executions.delete_execution(name=name)).result()
    assert gone.delete_time
    assert not rig.runtime.running()
    with pytest.raises(exceptions.NotFound):
        await rig.executions.get_execution(name=name)
    with pytest.raises(exceptions.NotFound):
        await rig.executions.delete_execution(name=name)
    assert await tasks_of(rig, name) == []


async def test_deleting_a_job_ends_and_deletes_its_executions(rig: Rig) -> None:
    await rig.create_job("one", a_job("silent"))
    await rig.create_job("onetwo", a_job("silent"))
    name = await rig.run_job("one")
    other = await rig.run_job("onetwo")
    await running(rig, 2)
    gone = await (await rig.jobs.delete_job(name=NAME)).result()
    assert gone.delete_time
    assert [container.spec.env["CLOUD_RUN_JOB"] for container in rig.runtime.running()] == ["onetwo"]
    for call in (rig.jobs.get_job(name=NAME), rig.jobs.run_job(name=NAME), rig.jobs.delete_job(name=NAME)):
        with pytest.raises(exceptions.NotFound, match="'one' of kind 'JOB'"):
            await call
    with pytest.raises(exceptions.NotFound):
        await rig.executions.get_execution(name=name)
    assert (await rig.executions.get_execution(name=other)).running_count == 1
    await rig.create_job("one")


async def test_an_update_replaces_what_a_client_may_set_for_the_executions_to_come(rig: Rig) -> None:
    before = await rig.create_job("one", a_job("exit", "1", labels={"a": "b"}))
    changed = a_job("exit", "0", name=NAME)
    after = await (await rig.jobs.update_job(job=changed)).result()
    assert (after.generation, after.observed_generation, after.uid) == (2, 2, before.uid)
    assert dict(after.labels) == {}
    assert (await rig.completed(await rig.run_job("one"))).succeeded_count == 1
    with pytest.raises(exceptions.Aborted, match="etag"):
        await rig.jobs.update_job(job=before)
    with pytest.raises(exceptions.Aborted, match="etag"):
        await rig.jobs.run_job({"name": NAME, "etag": before.etag})
    with pytest.raises(exceptions.NotFound):
        await rig.jobs.update_job(job=a_job(name=f"{PARENT}/jobs/missing"))
    request = {"job": a_job(name=f"{PARENT}/jobs/missing"), "allow_missing": True}
    assert (await (await rig.jobs.update_job(request)).result()).generation == 1


async def test_a_token_makes_the_execution_with_the_job(rig: Rig) -> None:
    job = await rig.create_job("one", a_job("exit", "0", run_execution_token="first"))
    assert job.latest_created_execution.name == f"{NAME}/executions/one-first"
    assert job.latest_created_execution.completion_status == Status.EXECUTION_SUCCEEDED
    started = await rig.create_job("two", a_job("silent", start_execution_token="first"))
    assert started.latest_created_execution.completion_status == Status.EXECUTION_RUNNING
    with pytest.raises(exceptions.InvalidArgument, match="start_execution_token"):
        await rig.create_job("three", a_job(start_execution_token="No"))


async def test_validate_only_changes_nothing(rig: Rig) -> None:
    assert (await rig.create_job("one", validate_only=True)).name == NAME
    with pytest.raises(exceptions.NotFound):
        await rig.jobs.get_job(name=NAME)
    await rig.create_job("one")
    would_be = await (await rig.jobs.run_job({"name": NAME, "validate_only": True})).result()
    assert would_be.name.startswith(f"{NAME}/executions/one-")
    await rig.jobs.delete_job({"name": NAME, "validate_only": True})
    assert (await rig.jobs.get_job(name=NAME)).execution_count == 0
    assert not rig.runtime.started


async def test_the_quota_of_a_region_is_exhausted(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets, jobs_per_region=1) as rig:
        await rig.create_job("one")
        with pytest.raises(exceptions.ResourceExhausted, match="1 jobs of 1"):
            await rig.create_job("two")


async def test_what_ran_when_the_process_ended_is_tried_again_while_retries_are_left(
    tmp_path: Path, sockets: Path
) -> None:
    async with cloud_run(tmp_path, sockets) as rig:
        await rig.create_job("one", a_job("silent", task={"max_retries": 1}, template={"task_count": 2}))
        name = await rig.run_job("one")
        (await running(rig, 2))[0].crash(0)
        await rig.execution_until(name, lambda execution: execution.succeeded_count == 1)
    assert not rig.runtime.running()

    async with cloud_run(tmp_path, sockets) as rig:
        (container,) = await running(rig, 1)
        assert container.spec.env["CLOUD_RUN_TASK_ATTEMPT"] == "1"
        again = await rig.executions.get_execution(name=name)
        assert (again.running_count, again.succeeded_count, again.retried_count) == (1, 1, 1)

    async with cloud_run(tmp_path, sockets) as rig:
        done = await rig.completed(name)
        assert not rig.runtime.started
        assert (done.running_count, done.succeeded_count, done.failed_count) == (0, 1, 1)
        assert "The emulator ended while the task ran, and no retries are left" in done.conditions[0].message


async def test_what_waited_when_the_process_ended_runs_afterwards(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets) as rig:
        await rig.create_job("one", a_job("silent", template={"task_count": 2, "parallelism": 1}))
        name = await rig.run_job("one")
        await running(rig, 1)
    async with cloud_run(tmp_path, sockets) as rig:
        (container,) = await running(rig, 1)
        assert container.spec.env["CLOUD_RUN_TASK_INDEX"] == "1"
        assert container.spec.env["CLOUD_RUN_TASK_ATTEMPT"] == "0"
        container.crash(0)
        done = await rig.completed(name)
        assert (done.succeeded_count, done.failed_count) == (1, 1)


async def test_only_the_latest_executions_of_a_job_are_kept(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets, executions_kept=2) as rig:
        await rig.create_job("one")
        names = []
        for _ in range(4):
            names.append(await rig.run_job("one"))
            await rig.completed(names[-1])
        listed = {e.name async for e in await rig.executions.list_executions(parent=NAME)}
        assert listed == set(names[2:])
        assert (await rig.jobs.get_job(name=NAME)).execution_count == 4
