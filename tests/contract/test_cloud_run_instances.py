"""Cloud Run's emulator through google-cloud-run's own clients: what an instance goes through."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import run_v2

from tests.contract.cloud_run_rig import GATEWAY, PARENT, Rig, a_service, an_instance, cloud_run

State = run_v2.Condition.State
Severity = run_v2.Condition.Severity
NAME = f"{PARENT}/instances/ws-one"


@pytest.fixture
def sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        yield Path(folder)


@pytest.fixture
async def rig(tmp_path: Path, sockets: Path) -> AsyncIterator[Rig]:
    async with cloud_run(tmp_path, sockets) as rig:
        yield rig


async def stop(rig: Rig) -> run_v2.Instance:
    answer: run_v2.Instance = await (await rig.instances.stop_instance(name=NAME)).result(timeout=5)
    return answer


async def start(rig: Rig) -> run_v2.Instance:
    answer: run_v2.Instance = await (await rig.instances.start_instance(name=NAME)).result(timeout=5)
    return answer


async def test_a_created_instance_is_ready_when_the_call_returns(rig: Rig) -> None:
    request = {"parent": PARENT, "instance_id": "ws-one", "instance": an_instance()}
    operation = await rig.instances.create_instance(request)
    assert operation.operation.done
    instance = await operation.result()
    assert instance.name == NAME
    assert list(instance.urls) == [f"{GATEWAY}/run/ws-one"]
    assert instance.uid
    assert instance.etag
    assert (instance.generation, instance.observed_generation) == (1, 1)
    assert instance.terminal_condition.type_ == "Ready"
    assert instance.terminal_condition.state == State.CONDITION_SUCCEEDED
    assert not instance.reconciling
    assert instance.annotations["onmemos.dev/isolation"] == "none"
    assert await rig.get_instance("ws-one") == instance
    spec = rig.runtime.started[0].spec
    assert spec.env["PORT"] == "8080"
    assert spec.env["ONMEMOS_AGENT_SOCKET"] == "/run/onmemos/agent.sock"
    assert spec.limits.memory_bytes == 2**30
    with pytest.raises(exceptions.AlreadyExists, match="'ws-one' already exists"):
        await rig.create_instance("ws-one")


async def test_two_vcpus_and_two_gibibytes_are_the_default(rig: Rig) -> None:
    await rig.create_instance("ws-one", an_instance(container={"resources": {}}))
    limits = rig.runtime.started[0].spec.limits
    assert (limits.cpu, limits.memory_bytes) == (2, 2 * 2**30)


@pytest.mark.parametrize(
    ("instance_id", "fields", "said"),
    [
        ("WS", {}, "instance_id"),
        ("a" * 50, {}, "less than 50 characters"),
        ("ws-one", {"launch_stage": "GA"}, "launch_stage: instances are in preview: must be BETA or ALPHA, got GA"),
        ("ws-one", {"launch_stage": 0}, "must be BETA or ALPHA, got GA"),
        ("ws-one", {"containers": []}, "containers: required field"),
        ("ws-one", {"description": "x" * 513}, "description"),
        ("ws-one", {"labels": {"Upper": "x"}}, "labels"),
        ("ws-one", {"container": {"image": "No Image"}}, "image"),
        ("ws-one", {"container": {"resources": {"limits": {"cpu": "500m", "memory": "512Mi"}}}}, "at least 1 cpu"),
        ("ws-one", {"container": {"resources": {"limits": {"cpu": "1", "memory": "256Mi"}}}}, "memory"),
        ("ws-one", {"container": {"env": [{"name": "PORT", "value": "1"}]}}, "PORT"),
        ("ws-one", {"container": {"volume_mounts": [{"name": "x", "mount_path": "/x"}]}}, "no volume is named 'x'"),
        ("ws-one", {"volumes": [{"name": "x", "nfs": {"server": "s", "path": "x"}}]}, "absolute path"),
    ],
)
async def test_what_an_instance_cannot_be_is_refused(rig: Rig, instance_id: str, fields: Any, said: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=said):
        await rig.create_instance(instance_id, an_instance(**fields))
    assert not rig.runtime.started


async def test_a_stop_ends_the_container_and_a_start_is_a_fresh_one_at_the_same_url(rig: Rig) -> None:
    (rig.buckets / "bucket-one").mkdir()
    volumes = [{"name": "files", "gcs": {"bucket": "bucket-one"}}, {"name": "tmp", "empty_dir": {}}]
    mounts = [{"name": "files", "mount_path": "/data"}, {"name": "tmp", "mount_path": "/scratch"}]
    before = await rig.create_instance("ws-one", an_instance(volumes=volumes, container={"volume_mounts": mounts}))
    bucket, scratch = (mount.source for mount in rig.runtime.started[0].spec.mounts)
    for folder in (bucket, scratch):
        (folder / "note").write_text("x")

    stopped = await stop(rig)

    assert stopped.terminal_condition.state == State.CONDITION_FAILED
    assert stopped.terminal_condition.severity == Severity.INFO
    assert stopped.terminal_condition.message == "Instance stopped."
    assert not stopped.reconciling
    assert "onmemos.dev/isolation" not in stopped.annotations
    assert list(stopped.urls) == list(before.urls)
    assert not rig.runtime.running()
    assert "ws-one" in rig.runtime.removed  # with its file system
    assert await rig.get_instance("ws-one") == stopped
    assert await stop(rig) == stopped

    started = await start(rig)

    assert started.terminal_condition.state == State.CONDITION_SUCCEEDED
    assert (started.uid, list(started.urls), started.etag) == (before.uid, list(before.urls), before.etag)
    assert [container.name for container in rig.runtime.running()] == ["ws-one"]
    assert (bucket / "note").exists()
    assert scratch.is_dir()
    assert not (scratch / "note").exists()
    assert await start(rig) == started
    assert len(rig.runtime.started) == 2


async def test_a_container_that_does_not_start_fails_the_operation_and_can_be_started_again(rig: Rig) -> None:
    request = {"parent": PARENT, "instance_id": "ws-one", "instance": an_instance("exit", "3")}
    operation = await rig.instances.create_instance(request)
    assert operation.operation.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert "exited with code 3" in operation.operation.error.message
    failed = await rig.get_instance("ws-one")
    assert failed.terminal_condition.severity == Severity.ERROR
    assert "exited with code 3" in failed.terminal_condition.message
    assert not failed.reconciling
    with pytest.raises(exceptions.GoogleAPICallError, match="exited with code 3"):
        await start(rig)
    assert len(rig.runtime.started) == 2
    assert (await stop(rig)).terminal_condition.message == "Instance stopped."


async def test_a_container_that_fails_is_started_again_and_one_that_ends_well_is_not(rig: Rig) -> None:
    await rig.create_instance("ws-one")
    rig.runtime.refuse = 2
    rig.runtime.started[0].crash(137)
    down = await rig.instance_until("ws-one", State.CONDITION_RECONCILING)
    assert "exited with code 137" in down.terminal_condition.message
    failing = await rig.instance_until("ws-one", State.CONDITION_FAILED)
    assert failing.reconciling
    await rig.instance_until("ws-one", State.CONDITION_SUCCEEDED)

    rig.runtime.running()[0].crash(0)

    ended = await rig.instance_until("ws-one", State.CONDITION_FAILED)
    assert ended.terminal_condition.message.startswith("Instance stopped. The container exited with code 0.")
    assert not ended.reconciling
    assert len(rig.runtime.started) == 2
    assert (await start(rig)).terminal_condition.state == State.CONDITION_SUCCEEDED


async def test_a_stop_ends_a_start_that_is_under_way(rig: Rig) -> None:
    creation = asyncio.create_task(rig.create_instance("ws-one", an_instance("silent")))
    await rig.runtime.have_started(1)
    assert (await stop(rig)).terminal_condition.message == "Instance stopped."
    with pytest.raises(exceptions.GoogleAPICallError, match="while the operation was under way"):
        await creation
    assert not rig.runtime.running()


async def test_starts_at_once_are_one(rig: Rig) -> None:
    await rig.create_instance("ws-one")
    await stop(rig)
    outcomes = await asyncio.gather(*(start(rig) for _ in range(4)))
    assert all(outcome.terminal_condition.state == State.CONDITION_SUCCEEDED for outcome in outcomes)
    assert len(rig.runtime.started) == 2
    await stop(rig)
    rig.runtime.refuse = 3  # one that comes too late to join tries for itself
    refused = await asyncio.gather(*(start(rig) for _ in range(3)), return_exceptions=True)
    assert all("no sandbox today" in str(refusal) for refusal in refused)


async def test_stops_and_starts_at_once_end_in_one_of_both(rig: Rig) -> None:
    await rig.create_instance("ws-one")
    for _ in range(5):
        await asyncio.gather(*(call(rig) for call in (stop, start, stop, start)), return_exceptions=True)
        instance = await rig.get_instance("ws-one")
        assert not instance.reconciling
        runs = instance.terminal_condition.state == State.CONDITION_SUCCEEDED
        assert len(rig.runtime.running()) == int(runs)


async def test_deleting_removes_the_container_and_the_instance_stopped_or_not(rig: Rig) -> None:
    for is_stopped in (False, True):
        await rig.create_instance("ws-one")
        if is_stopped:
            await stop(rig)
        gone = await (await rig.instances.delete_instance(name=NAME)).result()
        assert gone.delete_time
        assert not rig.runtime.running()
        for call in (rig.instances.delete_instance, rig.instances.stop_instance, rig.instances.start_instance):
            with pytest.raises(exceptions.NotFound, match="'ws-one' of kind 'INSTANCE'"):
                await call(name=NAME)


async def test_deleting_an_instance_that_is_still_starting_aborts_its_creation(rig: Rig) -> None:
    creation = asyncio.create_task(rig.create_instance("ws-one", an_instance("silent")))
    await rig.runtime.have_started(1)
    await (await rig.instances.delete_instance(name=NAME)).result()
    with pytest.raises(exceptions.GoogleAPICallError, match="deleted while"):
        await creation
    assert not rig.runtime.running()
    assert [found async for found in await rig.instances.list_instances(parent=PARENT)] == []


async def test_an_instance_and_a_service_of_one_name_are_two_things(rig: Rig) -> None:
    service = await rig.create("ws-one", a_service())
    instance = await rig.create_instance("ws-one")
    assert service.uri != instance.urls[0]
    assert instance.urls[0].startswith(f"{GATEWAY}/run/ws-one-")
    await (await rig.instances.delete_instance(name=NAME)).result()
    assert [container.name for container in rig.runtime.running()] == ["ws-one"]
    assert [found.name async for found in await rig.services.list_services(parent=PARENT)] == [service.name]


async def test_an_etag_of_another_instance_is_refused(rig: Rig) -> None:
    instance = await rig.create_instance("ws-one")
    for call in (rig.instances.stop_instance, rig.instances.start_instance, rig.instances.delete_instance):
        with pytest.raises(exceptions.Aborted, match="etag"):
            await call({"name": NAME, "etag": '"other"'})
    await rig.instances.stop_instance({"name": NAME, "etag": instance.etag})


async def test_validate_only_changes_nothing(rig: Rig) -> None:
    request = {"parent": PARENT, "instance_id": "ws-one", "instance": an_instance(), "validate_only": True}
    assert (await (await rig.instances.create_instance(request)).result()).name == NAME
    with pytest.raises(exceptions.NotFound):
        await rig.get_instance("ws-one")
    instance = await rig.create_instance("ws-one")
    for call in (rig.instances.stop_instance, rig.instances.delete_instance):
        await call({"name": NAME, "validate_only": True})
    assert await rig.get_instance("ws-one") == instance


async def test_the_quota_of_a_region_is_exhausted(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets, instances_per_region=1) as rig:
        await rig.create_instance("ws-one")
        with pytest.raises(exceptions.ResourceExhausted, match="1 instances of 1"):
            await rig.create_instance("ws-two")


async def test_what_ran_runs_again_after_a_restart_and_what_was_stopped_does_not(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets) as rig:
        before = await rig.create_instance("ws-run")
        await rig.create_instance("ws-one")
        stopped = await stop(rig)
        with pytest.raises(exceptions.GoogleAPICallError):
            await rig.create_instance("ws-bad", an_instance("exit", "1"))
        await rig.create_instance("ws-gone")
        rig.runtime.refuse_removals = 1
        operation = await rig.instances.delete_instance(name=f"{PARENT}/instances/ws-gone")
        assert operation.operation.error.code == grpc.StatusCode.INTERNAL.value[0]

    async with cloud_run(tmp_path, sockets) as rig:
        after = await rig.instance_until("ws-run", State.CONDITION_SUCCEEDED)
        assert (after.uid, after.urls, after.etag) == (before.uid, before.urls, before.etag)
        assert await rig.get_instance("ws-one") == stopped
        assert (await rig.get_instance("ws-bad")).terminal_condition.severity == Severity.ERROR
        assert [container.name for container in rig.runtime.running()] == ["ws-run"]
        with pytest.raises(exceptions.NotFound):
            await rig.instances.delete_instance(name=f"{PARENT}/instances/ws-gone")
        assert (await start(rig)).terminal_condition.state == State.CONDITION_SUCCEEDED


async def test_a_stop_that_the_end_of_the_process_cut_short_is_a_stop(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets) as rig:
        await rig.create_instance("ws-one")
        rig.runtime.refuse_removals = 1
        with pytest.raises(exceptions.GoogleAPICallError, match="internal error"):
            await stop(rig)
        assert (await rig.get_instance("ws-one")).reconciling
    async with cloud_run(tmp_path, sockets) as rig:
        assert (await rig.get_instance("ws-one")).terminal_condition.message == "Instance stopped."
        assert not rig.runtime.started
