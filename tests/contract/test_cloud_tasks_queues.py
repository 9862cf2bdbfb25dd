"""Queues of the Cloud Tasks emulator, through Google's own client."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.protobuf import field_mask_pb2

from tests.contract.cloud_tasks_stack import LOCATION, QUEUE, FakeClock, Stack, seconds, serving, stack

DAY_S = 24 * 3600
State = tasks_v2.Queue.State


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def cloud(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stack]:
    async with serving() as target, stack(tmp_path, target, clock) as opened:
        yield opened


async def update(cloud: Stack, *paths: str, **fields: Any) -> tasks_v2.Queue:
    mask = field_mask_pb2.FieldMask(paths=paths)
    return await cloud.client.update_queue(queue=tasks_v2.Queue(name=QUEUE, **fields), update_mask=mask)


async def test_a_new_queue_has_the_services_defaults(cloud: Stack) -> None:
    queue = await cloud.queue()
    assert queue == await cloud.client.get_queue(name=QUEUE)
    assert (queue.name, queue.state) == (QUEUE, State.RUNNING)
    limits, retry = queue.rate_limits, queue.retry_config
    assert (limits.max_dispatches_per_second, limits.max_burst_size) == (500, 100)
    assert limits.max_concurrent_dispatches == 1000
    assert (retry.max_attempts, retry.max_doublings) == (100, 16)
    assert (retry.min_backoff.total_seconds(), retry.max_backoff.total_seconds()) == (0.1, 3600)
    assert not queue.purge_time


async def test_a_queue_keeps_what_it_was_created_with(cloud: Stack) -> None:
    queue = await cloud.queue(
        rate_limits={"max_dispatches_per_second": 1.5, "max_concurrent_dispatches": 7, "max_burst_size": 77},
        retry_config={"max_attempts": -1, "min_backoff": seconds(0.25), "max_doublings": 3},
        stackdriver_logging_config={"sampling_ratio": 0.5},
        state=State.PAUSED,
    )
    assert queue.rate_limits.max_dispatches_per_second == 1.5
    assert queue.rate_limits.max_concurrent_dispatches == 7
    assert queue.rate_limits.max_burst_size == 10  # output only
    assert queue.state == State.RUNNING  # output only
    assert (queue.retry_config.max_attempts, queue.retry_config.max_doublings) == (-1, 3)
    assert queue.retry_config.min_backoff.total_seconds() == 0.25
    assert queue.stackdriver_logging_config.sampling_ratio == 0.5


async def test_a_queue_is_created_once(cloud: Stack) -> None:
    await cloud.queue()
    with pytest.raises(exceptions.AlreadyExists, match="Queue already exists"):
        await cloud.queue()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rate_limits": {"max_dispatches_per_second": 500.1}}, "max_dispatches_per_second"),
        ({"rate_limits": {"max_dispatches_per_second": -1}}, "max_dispatches_per_second"),
        ({"rate_limits": {"max_concurrent_dispatches": 5001}}, "max_concurrent_dispatches"),
        ({"rate_limits": {"max_concurrent_dispatches": -1}}, "max_concurrent_dispatches"),
        ({"retry_config": {"max_attempts": -2}}, "max_attempts"),
        ({"retry_config": {"max_doublings": -1}}, "max_doublings"),
        ({"retry_config": {"min_backoff": seconds(-1)}}, "min_backoff"),
        ({"retry_config": {"max_retry_duration": seconds(-1)}}, "max_retry_duration"),
        ({"retry_config": {"min_backoff": seconds(9), "max_backoff": seconds(8)}}, "min_backoff"),
        ({"stackdriver_logging_config": {"sampling_ratio": 1.5}}, "sampling_ratio"),
    ],
)
async def test_settings_out_of_range_are_invalid(cloud: Stack, settings: Any, says: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=says):
        await cloud.queue(**settings)


@pytest.mark.parametrize(
    "name", ["", "q", f"{LOCATION}/queues/", f"{LOCATION}/queues/a_b", f"{LOCATION}/queues/{'q' * 101}"]
)
async def test_a_bad_queue_name_is_invalid(cloud: Stack, name: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        await cloud.client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": name}))


async def test_a_queue_belongs_to_the_parent_it_is_created_in(cloud: Stack) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="does not belong to the parent"):
        await cloud.client.create_queue(
            parent="projects/other/locations/us-central1", queue=tasks_v2.Queue({"name": QUEUE})
        )
    with pytest.raises(exceptions.InvalidArgument):
        await cloud.client.create_queue(parent="nowhere", queue=tasks_v2.Queue({"name": QUEUE}))


async def test_an_unknown_queue_is_not_found(cloud: Stack) -> None:
    client = cloud.client
    for call in (client.get_queue, client.purge_queue, client.pause_queue, client.resume_queue):
        with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
            await call(name=QUEUE)
    with pytest.raises(exceptions.NotFound, match="Requested entity was not found"):
        await client.delete_queue(name=QUEUE)
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        await client.list_tasks(parent=QUEUE)


async def test_an_update_changes_only_what_its_mask_names(cloud: Stack) -> None:
    await cloud.queue(retry_config={"max_attempts": 7, "max_doublings": 5})
    changed = await update(
        cloud,
        "retry_config.max_attempts",
        "rate_limits",
        retry_config={"max_attempts": 9, "max_doublings": 1},
        rate_limits={"max_dispatches_per_second": 50},
    )
    assert (changed.retry_config.max_attempts, changed.retry_config.max_doublings) == (9, 5)
    assert (changed.rate_limits.max_dispatches_per_second, changed.rate_limits.max_burst_size) == (50, 50)
    assert changed == await cloud.client.get_queue(name=QUEUE)


async def test_an_update_without_a_mask_changes_everything(cloud: Stack) -> None:
    await cloud.queue(retry_config={"max_attempts": 7}, rate_limits={"max_concurrent_dispatches": 3})
    changed = await update(cloud, retry_config={"max_doublings": 2})
    assert (changed.retry_config.max_attempts, changed.retry_config.max_doublings) == (100, 2)
    assert changed.rate_limits.max_concurrent_dispatches == 1000


async def test_doublings_can_be_switched_off_by_naming_them(cloud: Stack) -> None:
    await cloud.queue()
    await update(cloud, "retry_config.max_doublings")
    changed = await update(cloud, "retry_config.max_attempts", retry_config={"max_attempts": 3})
    assert changed.retry_config.max_doublings == 0


async def test_an_update_creates_the_queue_that_is_not_there(cloud: Stack) -> None:
    created = await update(cloud, retry_config={"max_attempts": 3})
    assert created.retry_config.max_attempts == 3
    assert created.rate_limits.max_dispatches_per_second == 500
    await cloud.task("t")
    await cloud.target.received(1)


async def test_an_update_changes_nothing_that_is_output_only(cloud: Stack) -> None:
    await cloud.queue()
    await cloud.client.pause_queue(name=QUEUE)
    changed = await update(cloud, "state", "purge_time", state=State.RUNNING)
    assert changed.state == State.PAUSED
    assert (await update(cloud, retry_config={"max_attempts": 3})).state == State.PAUSED


@pytest.mark.parametrize("path", ["nonsense", "retry_config.nonsense"])
async def test_an_update_mask_must_name_fields(cloud: Stack, path: str) -> None:
    await cloud.queue()
    with pytest.raises(exceptions.InvalidArgument, match="update_mask"):
        await update(cloud, path)


async def test_what_the_emulator_cannot_do_it_says(cloud: Stack) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match="http_target"):
        await cloud.queue(http_target={"http_method": tasks_v2.HttpMethod.GET})
    with pytest.raises(exceptions.MethodNotImplemented, match="filter"):
        await cloud.client.list_queues(request={"parent": LOCATION, "filter": "state: PAUSED"})
    with pytest.raises(exceptions.MethodNotImplemented, match="GetIamPolicy is not emulated"):
        await cloud.client.get_iam_policy(request={"resource": QUEUE})
    with pytest.raises(exceptions.MethodNotImplemented, match="SetIamPolicy"):
        await cloud.client.set_iam_policy(request={"resource": QUEUE})
    with pytest.raises(exceptions.MethodNotImplemented, match="TestIamPermissions"):
        await cloud.client.test_iam_permissions(resource=QUEUE, permissions=["cloudtasks.tasks.create"])


async def test_queues_are_listed_by_location_and_page(cloud: Stack) -> None:
    wanted = [f"{LOCATION}/queues/q{number}" for number in range(5)]
    elsewhere = "projects/p/locations/us-central10"
    for name in reversed(wanted):
        await cloud.client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": name}))
    await cloud.client.create_queue(parent=elsewhere, queue=tasks_v2.Queue({"name": f"{elsewhere}/queues/other"}))
    pager = await cloud.client.list_queues(request={"parent": LOCATION, "page_size": 2})
    pages = [[queue.name for queue in page.queues] async for page in pager.pages]
    assert pages == [wanted[:2], wanted[2:4], wanted[4:]]
    with pytest.raises(exceptions.InvalidArgument, match="page_size"):
        await cloud.client.list_queues(request={"parent": LOCATION, "page_size": -1})
    with pytest.raises(exceptions.InvalidArgument, match="page_token"):
        await cloud.client.list_queues(request={"parent": LOCATION, "page_token": "?"})


async def test_a_deleted_queue_takes_its_tasks_along(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue()
    await cloud.task("t", schedule_time={"seconds": clock.now_us() // 1_000_000 + 60})
    await cloud.client.delete_queue(name=QUEUE)
    with pytest.raises(exceptions.NotFound):
        await cloud.client.get_queue(name=QUEUE)
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        await cloud.task("u")
    clock.advance(3600)
    await cloud.settled()
    assert cloud.target.requests == []


async def test_the_name_of_a_deleted_queue_is_blocked_for_three_days(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue()
    await cloud.client.delete_queue(name=QUEUE)
    clock.advance(3 * DAY_S - 1)
    with pytest.raises(exceptions.FailedPrecondition, match="existed too recently"):
        await cloud.queue()
    with pytest.raises(exceptions.FailedPrecondition, match="existed too recently"):
        await update(cloud)
    clock.advance(1)
    await cloud.queue()
    await cloud.task("t")
    await cloud.target.received(1)


async def test_a_paused_queue_takes_tasks_and_delivers_them_when_it_is_resumed(cloud: Stack) -> None:
    await cloud.queue()
    assert (await cloud.client.pause_queue(name=QUEUE)).state == State.PAUSED
    await cloud.task("t")
    await cloud.settled()
    assert cloud.target.requests == []
    assert (await cloud.client.resume_queue(name=QUEUE)).state == State.RUNNING
    (request,) = await cloud.target.received(1)
    assert request.task == "t"


async def test_a_purge_deletes_every_task_and_keeps_the_queue(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue()
    await cloud.client.pause_queue(name=QUEUE)
    for number in range(3):
        await cloud.task(f"t{number}")
    purged = await cloud.client.purge_queue(name=QUEUE)
    assert int(purged.purge_time.timestamp()) == clock.now_us() // 1_000_000
    assert await cloud.tasks() == []
    await cloud.client.resume_queue(name=QUEUE)
    await cloud.task("new")
    assert [request.task for request in await cloud.target.received(1)] == ["new"]
    with pytest.raises(exceptions.AlreadyExists):
        await cloud.task("t0")
