"""Creating, reading and deleting tasks in the Cloud Tasks emulator, through Google's own client."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2

from tests.contract.cloud_tasks_stack import QUEUE, FakeClock, Stack, after, seconds, serving, stack

DAY_S = 24 * 3600
View = tasks_v2.Task.View
Method = tasks_v2.HttpMethod


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def cloud(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stack]:
    """With a queue that is paused: what is created stays."""
    async with serving() as target, stack(tmp_path, target, clock) as opened:
        await opened.queue()
        await opened.client.pause_queue(name=QUEUE)
        yield opened


async def finish(cloud: Stack, name: str) -> None:
    """Run a task to its success."""
    await cloud.client.run_task(name=f"{QUEUE}/tasks/{name}")
    await cloud.settled()


async def test_a_new_task_is_answered_with_its_defaults(cloud: Stack, clock: FakeClock) -> None:
    task = await cloud.task("t", http_request={"headers": {"X-Mixed-Case": "kept", "content-type": "text/plain"}})
    assert task.name == f"{QUEUE}/tasks/t"
    assert task.http_request.http_method == Method.POST
    assert task.http_request.headers == {
        "X-Mixed-Case": "kept",
        "content-type": "text/plain",
        "User-Agent": "Google-Cloud-Tasks",
    }
    assert task.dispatch_deadline.total_seconds() == 600
    assert task.schedule_time.timestamp() == task.create_time.timestamp() == clock.now_us() / 1_000_000
    assert (task.dispatch_count, task.response_count, task.view) == (0, 0, View.BASIC)
    assert not task.first_attempt
    assert not task.last_attempt


async def test_a_task_without_a_name_gets_one(cloud: Stack) -> None:
    first, second = await cloud.task(), await cloud.task()
    assert first.name != second.name
    assert (await cloud.client.get_task(name=first.name)).name == first.name


async def test_only_the_full_view_holds_the_body(cloud: Stack) -> None:
    task = await cloud.task("t", http_request={"body": b"payload"})
    assert task.http_request.body == b""
    basic = await cloud.client.get_task(name=task.name)
    full = await cloud.client.get_task(request={"name": task.name, "response_view": View.FULL})
    assert (basic.http_request.body, basic.view) == (b"", View.BASIC)
    assert (full.http_request.body, full.view) == (b"payload", View.FULL)
    listed = await cloud.client.list_tasks(request={"parent": QUEUE, "response_view": View.FULL})
    assert [task.http_request.body async for task in listed] == [b"payload"]


async def test_tasks_are_listed_by_queue_and_page(cloud: Stack) -> None:
    await cloud.client.create_queue(parent=QUEUE.rpartition("/queues/")[0], queue=tasks_v2.Queue({"name": f"{QUEUE}2"}))
    for number in range(5):
        await cloud.task(f"t{number}")
    pager = await cloud.client.list_tasks(request={"parent": QUEUE, "page_size": 2})
    pages = [[task.name.rpartition("/")[2] for task in page.tasks] async for page in pager.pages]
    assert pages == [["t0", "t1"], ["t2", "t3"], ["t4"]]
    assert [task async for task in await cloud.client.list_tasks(parent=f"{QUEUE}2")] == []


async def test_a_page_of_large_tasks_is_cut_to_what_a_client_takes(cloud: Stack) -> None:
    for number in range(7):
        await cloud.task(f"t{number}", http_request={"body": b"x" * 1_000_000})
    pager = await cloud.client.list_tasks(request={"parent": QUEUE, "response_view": View.FULL})
    assert [task.name[-2:] async for task in pager] == [f"t{number}" for number in range(7)]


async def test_a_name_exists_once(cloud: Stack) -> None:
    await cloud.task("t")
    with pytest.raises(exceptions.AlreadyExists, match="Requested entity already exists"):
        await cloud.task("t")


async def test_the_name_of_a_deleted_task_is_blocked_for_a_day(cloud: Stack, clock: FakeClock) -> None:
    task = await cloud.task("t")
    await cloud.client.delete_task(name=task.name)
    clock.advance(DAY_S - 1)
    with pytest.raises(exceptions.AlreadyExists, match="existed too recently"):
        await cloud.task("t")
    clock.advance(1)
    await cloud.task("t")


async def test_the_name_of_a_task_that_succeeded_is_blocked_for_a_day(cloud: Stack, clock: FakeClock) -> None:
    await cloud.task("t")
    await finish(cloud, "t")
    with pytest.raises(exceptions.AlreadyExists, match="existed too recently"):
        await cloud.task("t")
    clock.advance(DAY_S)
    await cloud.task("t")


async def test_how_long_names_stay_blocked_is_a_setting(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        serving() as target,
        stack(tmp_path / "short", target, clock, tombstone_s=60, queue_tombstone_s=0) as cloud,
    ):
        await cloud.queue()
        await cloud.task("t")
        await cloud.target.received(1)
        await cloud.settled()
        clock.advance(60)
        await cloud.task("t")
        await cloud.target.received(2)
        await cloud.client.delete_queue(name=QUEUE)
        await cloud.queue()


async def test_a_task_that_has_ended_says_so(cloud: Stack) -> None:
    await cloud.task("deleted")
    await cloud.client.delete_task(name=f"{QUEUE}/tasks/deleted")
    await cloud.task("done")
    await finish(cloud, "done")
    for name in ("deleted", "done"):
        for call in (cloud.client.get_task, cloud.client.delete_task, cloud.client.run_task):
            with pytest.raises(exceptions.NotFound, match="either successfully completed or was deleted"):
                await call(name=f"{QUEUE}/tasks/{name}")


async def test_a_task_that_never_was_is_not_found(cloud: Stack) -> None:
    for call in (cloud.client.get_task, cloud.client.delete_task, cloud.client.run_task):
        with pytest.raises(exceptions.NotFound, match="Requested entity was not found"):
            await call(name=f"{QUEUE}/tasks/t")
        with pytest.raises(exceptions.InvalidArgument):
            await call(name=f"{QUEUE}/tasks/not a task")


async def test_a_task_belongs_to_the_queue_it_is_created_in(cloud: Stack) -> None:
    task = tasks_v2.Task(name=f"{QUEUE}-other/tasks/t", http_request={"url": "http://target"})
    with pytest.raises(exceptions.InvalidArgument, match="must be the same as the queue name in the named task"):
        await cloud.client.create_task(parent=QUEUE, task=task)
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        await cloud.client.create_task(parent=f"{QUEUE}-other", task=task)
    with pytest.raises(exceptions.InvalidArgument, match="Queue name must be formatted"):
        await cloud.client.create_task(parent="q", task=task)


@pytest.mark.parametrize("name", ["a b", "x" * 501, "ä", "a.b"])
async def test_a_bad_task_id_is_invalid(cloud: Stack, name: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="can contain only letters"):
        await cloud.task(name)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"url": ""}, "url is required"),
        ({"url": "example.com/path"}, "must start with 'http://' or 'https://'"),
        ({"url": "ftp://example.com"}, "must start with 'http://' or 'https://'"),
        ({"url": "file:///etc/passwd"}, "must start with 'http://' or 'https://'"),
        ({"url": "http://h/" + "x" * 2083}, "2083"),
        ({"http_method": Method.GET, "body": b"x"}, "POST, PUT, or PATCH"),
        ({"http_method": Method.DELETE, "body": b"x"}, "POST, PUT, or PATCH"),
        ({"http_method": 99}, "http_method 99 is unknown"),
        ({"headers": {"X-Large": "x" * 80 * 1024}}, "headers have"),
        ({"headers": {"Not A Name": "x"}}, "not a legal HTTP header"),
        ({"headers": {"X-Split": "a\r\nb"}}, "not a legal HTTP header"),
        ({"body": b"x" * 1_048_600}, "Task size too large"),
        ({"oidc_token": {}}, "oidc_token.service_account_email"),
        ({"oauth_token": {"service_account_email": "nobody"}}, "oauth_token.service_account_email"),
    ],
)
async def test_a_request_out_of_limits_is_invalid(cloud: Stack, request_: Any, says: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=says):
        await cloud.task("t", http_request=request_)
    assert await cloud.tasks() == []


async def test_a_task_may_be_as_large_as_the_service_allows(cloud: Stack) -> None:
    await cloud.task("t", http_request={"body": b"x" * 1_048_000})


async def test_a_task_needs_a_request(cloud: Stack) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="http_request is required"):
        await cloud.client.create_task(parent=QUEUE, task=tasks_v2.Task({}))
    with pytest.raises(exceptions.MethodNotImplemented, match="App Engine"):
        await cloud.client.create_task(
            parent=QUEUE, task=tasks_v2.Task({"app_engine_http_request": {"relative_uri": "/"}})
        )


async def test_a_task_is_scheduled_thirty_days_ahead_at_most(cloud: Stack, clock: FakeClock) -> None:
    await cloud.task("t", schedule_time=after(clock, 30 * DAY_S))
    with pytest.raises(exceptions.InvalidArgument, match="too far in the future"):
        await cloud.task("u", schedule_time=after(clock, 30 * DAY_S + 1))


async def test_a_time_that_has_passed_means_now(cloud: Stack, clock: FakeClock) -> None:
    task = await cloud.task("t", schedule_time=after(clock, -3600))
    assert task.schedule_time.timestamp() == clock.now_us() / 1_000_000


@pytest.mark.parametrize("deadline_s", [0, 14.999, 1800.001, -1])
async def test_the_dispatch_deadline_has_bounds(cloud: Stack, deadline_s: float) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="dispatchDeadline must be between"):
        await cloud.task("t", dispatch_deadline=seconds(deadline_s))


@pytest.mark.parametrize("deadline_s", [15, 1800])
async def test_the_dispatch_deadlines_bounds_are_within(cloud: Stack, deadline_s: float) -> None:
    task = await cloud.task("t", dispatch_deadline=seconds(deadline_s))
    assert task.dispatch_deadline.total_seconds() == deadline_s


async def test_what_is_output_only_starts_anew(cloud: Stack) -> None:
    task = await cloud.task("t", dispatch_count=7, response_count=7, create_time={"seconds": 1}, last_attempt={})
    assert (task.dispatch_count, task.response_count) == (0, 0)
    assert task.create_time.timestamp() > 1
    assert not task.last_attempt


async def test_headers_that_belong_to_the_service_are_not_taken(cloud: Stack) -> None:
    headers = {
        "Host": "h",
        "content-length": "3",
        "X-Google-A": "a",
        "X-AppEngine-B": "b",
        "X-CloudTasks-TaskName": "c",
    }
    task = await cloud.task("t", http_request={"headers": {**headers, "user-agent": "mine", "X-Own": "kept"}})
    assert task.http_request.headers == {"X-Own": "kept", "User-Agent": "Google-Cloud-Tasks"}
