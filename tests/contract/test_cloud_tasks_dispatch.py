"""How the Cloud Tasks emulator delivers: what arrives, when, how often, and who is told what about it."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import jwt
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.rpc import code_pb2

from infra.emulators.tasks.clock import SystemClock
from tests.contract.cloud_tasks_stack import (
    QUEUE,
    FakeClock,
    Reply,
    Request,
    Stack,
    after,
    seconds,
    serving,
    stack,
)

EMAIL = "tasks@p.iam.gserviceaccount.com"
TASK = f"{QUEUE}/tasks/t"
Method = tasks_v2.HttpMethod
SLOW = {"min_backoff": seconds(10), "max_backoff": seconds(300), "max_doublings": 3}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def cloud(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stack]:
    async with serving() as target, stack(tmp_path, target, clock) as opened:
        yield opened


class Gate:
    """An answer that waits until it is opened; counts how many requests wait at once."""

    def __init__(self, status: int = 200) -> None:
        self.waiting = self.most = 0
        self._status = status
        self._open = asyncio.Event()

    async def __call__(self, request: Request) -> Reply:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self._open.wait()
        self.waiting -= 1
        return Reply(self._status)

    def open(self) -> None:
        self._open.set()


async def gone(cloud: Stack, name: str = TASK) -> bool:
    try:
        await cloud.client.get_task(name=name)
    except exceptions.NotFound:
        return True
    return False


async def test_a_task_arrives_as_it_was_created(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue()
    request = {"body": b'{"a": 1}', "headers": {"Content-Type": "application/json", "X-Own": "kept ä"}}
    await cloud.task("t", path="/run/it?x=1", http_request=request)
    (arrived,) = await cloud.target.received(1)
    assert (arrived.method, arrived.path, arrived.body) == ("POST", "/run/it", b'{"a": 1}')
    ours = {name: value for name, value in arrived.headers.items() if name.startswith(("x-", "user-", "content-"))}
    assert ours == {
        "content-type": "application/json",
        "content-length": "8",
        "x-own": "kept ä",
        "user-agent": "Google-Cloud-Tasks",
        "x-cloudtasks-queuename": "q",
        "x-cloudtasks-taskname": "t",
        "x-cloudtasks-taskretrycount": "0",
        "x-cloudtasks-taskexecutioncount": "0",
        "x-cloudtasks-tasketa": f"{clock.now_us() // 1_000_000}.000000",
    }
    assert arrived.headers["host"] == cloud.target.url.removeprefix("http://")
    assert "authorization" not in arrived.headers


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_every_method_is_delivered(cloud: Stack, method: str) -> None:
    await cloud.queue()
    await cloud.task("t", http_request={"http_method": getattr(Method, method)})
    (arrived,) = await cloud.target.received(1)
    assert arrived.method == method
    await cloud.settled()
    assert await gone(cloud)


async def test_the_identity_token_can_be_checked_with_the_published_keys(cloud: Stack) -> None:
    await cloud.queue()
    for name, audience in (("default", ""), ("chosen", "https://chosen")):
        oidc = {"service_account_email": EMAIL, "audience": audience}
        await cloud.task(name, http_request={"oidc_token": oidc, "headers": {"authorization": "Basic mine"}})
    keys = jwt.PyJWKSet.from_dict(cloud.tokens.jwks())
    for request in await cloud.target.received(2):
        token = request.headers["authorization"].removeprefix("Bearer ")
        audience = "https://chosen" if request.task == "chosen" else f"{cloud.target.url}/work"
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, ["RS256"], audience=audience, issuer="https://accounts.google.com")
        assert (claims["email"], claims["email_verified"]) == (EMAIL, True)


async def test_an_access_token_is_sent_where_one_is_asked_for(cloud: Stack) -> None:
    await cloud.queue()
    await cloud.task("t", http_request={"oauth_token": {"service_account_email": EMAIL}})
    (request,) = await cloud.target.received(1)
    assert request.headers["authorization"].startswith("Bearer ya29.")


async def test_a_task_is_delivered_at_its_time_and_not_before(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue()
    await cloud.task("later", schedule_time=after(clock, 3600))
    await cloud.task("sooner", schedule_time=after(clock, 60.000001))
    clock.advance(60)
    await cloud.settled()
    assert cloud.target.requests == []
    clock.advance(0.000001)
    assert [request.task for request in await cloud.target.received(1)] == ["sooner"]
    clock.advance(3600)
    assert [request.task for request in await cloud.target.received(2)] == ["sooner", "later"]


async def test_each_attempt_is_told_about_the_ones_before(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue(retry_config=SLOW)
    cloud.target.answers(503, 404, 429, 500, 302, 200)
    await cloud.task("t")
    for attempt in range(1, 6):
        await cloud.target.received(attempt)
        await cloud.settled()
        clock.advance(300)
    names = ("retrycount", "executioncount", "previousresponse", "retryreason")
    told = [
        tuple(request.headers.get(f"x-cloudtasks-task{name}") for name in names)
        for request in await cloud.target.received(6)
    ]
    # As recorded from the service: responses of 5xx do not count as executions.
    assert told == [
        ("0", "0", None, None),
        ("1", "0", "503", ""),
        ("2", "1", "404", ""),
        ("3", "2", "429", ""),
        ("4", "2", "500", ""),
        ("5", "3", "302", ""),
    ]
    await cloud.settled()
    assert await gone(cloud)


async def test_a_failed_task_waits_the_published_intervals(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue(retry_config=SLOW)
    cloud.target.answers(500)
    await cloud.task("t")
    waits = []
    for attempt in range(1, 9):
        await cloud.target.received(attempt)
        await cloud.settled()
        task = await cloud.client.get_task(name=TASK)
        waits.append(task.schedule_time.timestamp() - clock.now_us() / 1_000_000)
        clock.advance(waits[-1] - 0.001)
        await cloud.settled()
        assert len(cloud.target.requests) == attempt
        clock.advance(0.001)
    assert waits == [10, 20, 40, 80, 160, 240, 300, 300]


async def test_the_attempts_can_be_read_from_the_task(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue(retry_config=SLOW)
    cloud.target.answers(404)
    created = await cloud.task("t")
    await cloud.settled()
    clock.advance(10)
    await cloud.target.received(2)
    await cloud.settled()
    task = await cloud.client.get_task(name=TASK)
    assert (task.dispatch_count, task.response_count) == (2, 2)
    assert task.first_attempt.dispatch_time == created.schedule_time
    assert not task.first_attempt.response_time
    last = task.last_attempt
    assert last.schedule_time == last.dispatch_time == last.response_time
    assert last.dispatch_time.timestamp() == clock.now_us() / 1_000_000
    assert last.response_status.code == code_pb2.NOT_FOUND
    assert last.response_status.message == "NOT_FOUND(5): HTTP status code 404"


async def test_a_task_is_given_up_after_its_last_attempt(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue(retry_config={**SLOW, "max_attempts": 2})
    cloud.target.answers(500)
    await cloud.task("t")
    await cloud.settled()
    assert not await gone(cloud)
    clock.advance(10)
    await cloud.target.received(2)
    await cloud.settled()
    assert await gone(cloud)
    with pytest.raises(exceptions.AlreadyExists):
        await cloud.task("t")


async def test_with_two_limits_both_must_be_met(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue(retry_config={**SLOW, "max_attempts": 2, "max_retry_duration": seconds(60)})
    cloud.target.answers(500)
    await cloud.task("t")
    for attempt, wait_s in enumerate((10, 20, 40), 1):
        await cloud.target.received(attempt)
        await cloud.settled()
        assert not await gone(cloud)
        clock.advance(wait_s)
    await cloud.target.received(4)  # 70 seconds after the first
    await cloud.settled()
    assert await gone(cloud)


async def test_a_tasks_own_retry_settings_go_before_its_queues(cloud: Stack) -> None:
    await cloud.queue(retry_config={"max_attempts": 50})
    cloud.target.answers(500)
    await cloud.task("t", retry_config={"max_attempts": 1})
    await cloud.target.received(1)
    await cloud.settled()
    assert await gone(cloud)


async def test_a_task_ends_when_it_is_a_month_old(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue(retry_config={"max_attempts": -1, "max_backoff": seconds(86400), "min_backoff": seconds(86400)})
    cloud.target.answers(500)
    await cloud.task("t", schedule_time=after(clock, 30 * 86400))
    clock.advance(30 * 86400)
    await cloud.target.received(1)
    await cloud.settled()
    assert not await gone(cloud)
    clock.advance(86400)
    await cloud.target.received(2)
    await cloud.settled()
    assert await gone(cloud)


async def test_an_answer_that_misses_the_deadline_is_a_failure(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue(retry_config=SLOW)
    gate = Gate()
    cloud.target.answer = gate
    await cloud.task("t", dispatch_deadline=seconds(15))
    await cloud.target.received(1)
    clock.advance(14.999)
    await asyncio.sleep(0)
    running = await cloud.client.get_task(name=TASK)
    assert (running.dispatch_count, running.response_count) == (1, 0)
    assert not running.last_attempt.response_time
    clock.advance(0.001)
    await cloud.settled()
    task = await cloud.client.get_task(name=TASK)
    assert task.last_attempt.response_status.code == code_pb2.DEADLINE_EXCEEDED
    assert (task.dispatch_count, task.response_count) == (1, 0)
    gate.open()
    clock.advance(10)
    second = (await cloud.target.received(2))[1]
    assert second.headers["x-cloudtasks-taskpreviousresponse"] == "504"
    assert second.headers["x-cloudtasks-taskexecutioncount"] == "0"
    await cloud.settled()
    assert await gone(cloud)


async def test_a_target_that_cannot_be_reached_is_tried_again(cloud: Stack, clock: FakeClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    await cloud.queue(retry_config=SLOW)
    await cloud.task("t", http_request={"url": f"http://127.0.0.1:{port}/"})
    await cloud.settled()
    task = await cloud.client.get_task(name=TASK)
    assert task.last_attempt.response_status.code == code_pb2.UNAVAILABLE
    assert (task.dispatch_count, task.response_count) == (1, 0)
    assert task.schedule_time.timestamp() == clock.now_us() / 1_000_000 + 10


@pytest.mark.parametrize(
    "url", ["http://", "http://h:99999999/", "http://exa mple/", "http://[::1", "https://127.0.0.1:1/"]
)
async def test_a_url_that_leads_nowhere_fails_when_it_is_dispatched(cloud: Stack, url: str) -> None:
    await cloud.queue(retry_config={"max_attempts": 1})
    await cloud.task("t", http_request={"url": url})
    await cloud.settled()
    assert await gone(cloud)


async def test_a_redirect_is_not_followed(cloud: Stack) -> None:
    await cloud.queue(retry_config=SLOW)
    cloud.target.answer = lambda _: Reply(302, {"location": "/elsewhere"})
    await cloud.task("t")
    await cloud.settled()
    assert [request.path for request in cloud.target.requests] == ["/work"]
    assert not await gone(cloud)


@pytest.mark.parametrize(
    ("status", "retry_after", "wait_s"),
    [(429, "77", 77), (503, "77", 77), (503, "date", 90), (429, "3", 10), (500, "77", 10), (503, "soon", 10)],
)
async def test_a_target_that_is_busy_says_when_to_come_back(
    cloud: Stack, clock: FakeClock, status: int, retry_after: str, wait_s: int
) -> None:
    if retry_after == "date":
        retry_after = format_datetime(datetime.fromtimestamp(clock.now_us() / 1_000_000 + 90, UTC), usegmt=True)
    await cloud.queue(retry_config=SLOW)
    cloud.target.answer = lambda _: Reply(status, {"retry-after": retry_after})
    await cloud.task("t")
    await cloud.settled()
    task = await cloud.client.get_task(name=TASK)
    assert task.schedule_time.timestamp() - clock.now_us() / 1_000_000 == wait_s


async def test_run_delivers_at_once_whatever_the_schedule_and_the_queue(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue()
    await cloud.task("t", schedule_time=after(clock, 3600))
    await cloud.client.pause_queue(name=QUEUE)
    task = await cloud.client.run_task(name=TASK)
    assert (task.dispatch_count, task.response_count) == (1, 0)
    await cloud.target.received(1)
    await cloud.settled()
    assert await gone(cloud)
    await cloud.client.resume_queue(name=QUEUE)
    clock.advance(3600)
    await cloud.settled()
    assert len(cloud.target.requests) == 1


async def test_a_failed_run_is_retried_from_when_it_was_asked_for(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue(retry_config=SLOW)
    gate = Gate(status=500)
    cloud.target.answer = gate
    await cloud.task("t", schedule_time=after(clock, 3600))
    asked_s = clock.now_us() / 1_000_000
    await cloud.client.run_task(name=TASK)
    await cloud.target.received(1)
    clock.advance(4)
    gate.open()
    await cloud.settled()
    assert (await cloud.client.get_task(name=TASK)).schedule_time.timestamp() == asked_s + 10
    clock.advance(6)
    await cloud.target.received(2)


async def test_run_delivers_again_what_is_in_flight(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue(retry_config=SLOW)
    gate = Gate(status=500)
    cloud.target.answer = gate
    await cloud.task("t")
    await cloud.target.received(1)
    assert (await cloud.client.run_task(name=TASK)).dispatch_count == 2
    await cloud.target.received(2)
    gate.open()
    await cloud.settled()
    cloud.target.answers(200)
    clock.advance(300)
    await cloud.target.received(3)
    await cloud.settled()
    assert len(cloud.target.requests) == 3
    assert await gone(cloud)


async def test_a_task_that_is_being_run_is_not_delivered_a_second_time_when_it_is_due(
    cloud: Stack, clock: FakeClock
) -> None:
    await cloud.queue(retry_config=SLOW)
    gate = Gate()
    cloud.target.answer = gate
    await cloud.task("t", schedule_time=after(clock, 60))
    await cloud.client.run_task(name=TASK)
    await cloud.target.received(1)
    clock.advance(60)
    await cloud.task("next")
    await cloud.target.received(2)
    gate.open()
    await cloud.settled()
    assert [request.task for request in cloud.target.requests] == ["t", "next"]


async def test_a_task_deleted_in_flight_is_not_tried_again(cloud: Stack, clock: FakeClock) -> None:
    await cloud.queue(retry_config=SLOW)
    for number, end in enumerate((cloud.client.delete_task, cloud.client.purge_queue, cloud.client.delete_queue)):
        gate = Gate(status=500)
        cloud.target.answer = gate
        await cloud.task(f"t{number}")
        await cloud.target.received(number + 1)
        await end(name=f"{QUEUE}/tasks/t{number}" if end == cloud.client.delete_task else QUEUE)
        gate.open()
        await cloud.settled()
        clock.advance(3600)
        await cloud.settled()
        assert len(cloud.target.requests) == number + 1


async def test_no_more_than_the_allowed_number_is_in_flight(cloud: Stack) -> None:
    await cloud.queue(rate_limits={"max_concurrent_dispatches": 3})
    gate = Gate()
    cloud.target.answer = gate
    await asyncio.gather(*(cloud.task(f"t{number}") for number in range(20)))
    await cloud.target.received(3)
    assert gate.most == 3
    gate.open()
    await cloud.target.received(20)
    await cloud.settled()
    assert gate.most == 3
    assert await cloud.tasks() == []


async def test_a_queue_that_may_do_more_begins_at_once(cloud: Stack) -> None:
    await cloud.queue(rate_limits={"max_concurrent_dispatches": 1})
    gate = Gate()
    cloud.target.answer = gate
    await cloud.task("one")
    await cloud.task("two")
    await cloud.target.received(1)
    await cloud.client.update_queue(
        queue=tasks_v2.Queue({"name": QUEUE, "rate_limits": {"max_concurrent_dispatches": 2}})
    )
    await cloud.target.received(2)
    assert gate.waiting == 2
    gate.open()
    await cloud.settled()


async def test_the_rate_is_held_after_the_burst(cloud: Stack, clock: FakeClock) -> None:
    queue = await cloud.queue(rate_limits={"max_dispatches_per_second": 2})
    burst = queue.rate_limits.max_burst_size
    for number in range(burst + 3):
        await cloud.task(f"t{number}")
    await cloud.target.received(burst)
    await cloud.settled()
    for more in range(1, 4):
        clock.advance(0.499)
        await cloud.settled()
        assert len(cloud.target.requests) == burst + more - 1
        clock.advance(0.001)
        await cloud.target.received(burst + more)
        await cloud.settled()


async def test_tasks_that_were_deleted_use_up_no_rate(cloud: Stack) -> None:
    await cloud.queue(rate_limits={"max_dispatches_per_second": 1})
    await cloud.client.pause_queue(name=QUEUE)
    for number in range(20):
        await cloud.task(f"t{number:02}")
    for number in range(15):
        await cloud.client.delete_task(name=f"{QUEUE}/tasks/t{number:02}")
    await cloud.client.resume_queue(name=QUEUE)
    await cloud.target.received(5)


async def test_a_call_that_its_client_gives_up_still_comes_to_its_end(cloud: Stack) -> None:
    await cloud.queue()
    create = cloud.emulator._method(cloud.emulator._create_task, tasks_v2.CreateTaskRequest, tasks_v2.Task)
    request = tasks_v2.CreateTaskRequest(parent=QUEUE, task={"http_request": {"url": cloud.target.url}})
    calling = asyncio.create_task(create.call(tasks_v2.CreateTaskRequest.pb(request)))
    await asyncio.sleep(0)
    calling.cancel()
    await cloud.target.received(1)
    assert calling.cancelled()


async def test_two_hundred_tasks_at_once_arrive_once_each(tmp_path: Path) -> None:
    async with serving() as target, stack(tmp_path, target, SystemClock()) as cloud:
        await cloud.queue()
        await asyncio.gather(*(cloud.task(f"t{number}") for number in range(200)))
        await target.received(200)
        await cloud.settled()
        assert Counter(request.task for request in target.requests) == {f"t{number}": 1 for number in range(200)}
        assert await cloud.tasks() == []


async def test_under_the_real_clock_failures_are_retried_in_milliseconds(tmp_path: Path) -> None:
    async with serving() as target, stack(tmp_path, target, SystemClock()) as cloud:
        await cloud.queue(retry_config={"min_backoff": seconds(0.002), "max_backoff": seconds(0.01)})
        seen: Counter[str] = Counter()

        def answer(request: Request) -> Reply:
            seen[request.task] += 1
            return Reply(200 if seen[request.task] == 3 else 500)

        target.answer = answer
        await asyncio.gather(*(cloud.task(f"t{number}") for number in range(10)))
        await target.received(30)
        await cloud.settled()
        assert set(seen.values()) == {3}
        assert await cloud.tasks() == []


async def test_a_task_scheduled_a_moment_ahead_is_neither_early_nor_lost(tmp_path: Path) -> None:
    clock = SystemClock()
    async with serving() as target, stack(tmp_path, target, clock) as cloud:
        await cloud.queue()
        early_us = []

        def answer(request: Request) -> Reply:
            early_us.append(float(request.headers["x-cloudtasks-tasketa"]) * 1_000_000 - clock.now_us())
            return Reply()

        target.answer = answer
        for ahead_s in (0.0005, 0.001, 0.0015, 0.01, 0.02):
            await cloud.task(schedule_time=after(clock, ahead_s))
        await target.received(5)
        assert max(early_us) <= 0
