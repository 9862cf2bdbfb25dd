"""What the Cloud Tasks emulator still knows after its process has ended, in good order or not."""

import asyncio
import signal
import sys
from pathlib import Path

import grpc.aio
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from infra.emulators.tasks.clock import SystemClock
from tests.contract.cloud_tasks_stack import (
    LOCATION,
    PATIENCE_S,
    QUEUE,
    FakeClock,
    Reply,
    Request,
    after,
    seconds,
    serving,
    stack,
)

TASK = f"{QUEUE}/tasks/t"
PROCESS = """
import asyncio, sys
from pathlib import Path
import grpc.aio
from infra.emulators.oidc import OidcTokens
from infra.emulators.tasks import CloudTasks

async def main(folder):
    async with CloudTasks(folder / "tasks.sqlite", OidcTokens(folder / "oidc.pem")) as emulator:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(emulator.handlers())
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        await server.start()
        await server.wait_for_termination()

asyncio.run(main(Path(sys.argv[1])))
"""


async def never(request: Request) -> Reply:
    await asyncio.Event().wait()
    return Reply()


async def test_queues_tasks_and_attempts_are_still_there(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving() as target:
        target.answers(404)
        async with stack(tmp_path, target, clock) as cloud:
            queue = await cloud.queue(
                retry_config={"min_backoff": seconds(30)}, rate_limits={"max_concurrent_dispatches": 7}
            )
            await cloud.task("t", http_request={"body": b"payload"})
            await target.received(1)
            await cloud.settled()
            before = await cloud.client.get_task(name=TASK)
        async with stack(tmp_path, target, clock) as cloud:
            assert await cloud.client.get_queue(name=QUEUE) == queue
            assert await cloud.client.get_task(name=TASK) == before
            await cloud.settled()
            assert len(target.requests) == 1
            target.answers(200)
            clock.advance(30)
            second = (await target.received(2))[1]
            assert (second.body, second.headers["x-cloudtasks-taskretrycount"]) == (b"payload", "1")
            assert second.headers["x-cloudtasks-taskpreviousresponse"] == "404"
            await cloud.settled()
            assert await cloud.tasks() == []


async def test_names_stay_blocked(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving() as target:
        async with stack(tmp_path, target, clock) as cloud:
            await cloud.queue()
            await cloud.task("t")
            await target.received(1)
            await cloud.settled()
            gone = f"{LOCATION}/queues/gone"
            await cloud.client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": gone}))
            await cloud.client.delete_queue(name=gone)
        async with stack(tmp_path, target, clock) as cloud:
            with pytest.raises(exceptions.AlreadyExists):
                await cloud.task("t")
            with pytest.raises(exceptions.FailedPrecondition):
                await cloud.client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": gone}))


async def test_what_came_due_meanwhile_is_delivered_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving() as target:
        async with stack(tmp_path, target, clock) as cloud:
            await cloud.queue()
            await cloud.task("t", schedule_time=after(clock, 3600))
            await cloud.task("u", schedule_time=after(clock, 7200))
        clock.advance(5000)
        async with stack(tmp_path, target, clock) as cloud:
            assert [request.task for request in await target.received(1)] == ["t"]
            clock.advance(2200)
            assert [request.task for request in await target.received(2)] == ["t", "u"]


async def test_a_paused_queue_stays_paused(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving() as target:
        async with stack(tmp_path, target, clock) as cloud:
            await cloud.queue()
            await cloud.client.pause_queue(name=QUEUE)
            await cloud.task("t")
        async with stack(tmp_path, target, clock) as cloud:
            await cloud.settled()
            assert target.requests == []
            await cloud.client.resume_queue(name=QUEUE)
            await target.received(1)


async def test_a_stop_does_not_wait_for_what_is_in_flight_and_the_next_start_delivers_it_again(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving() as target:
        target.answer = never
        async with asyncio.timeout(PATIENCE_S), stack(tmp_path, target, clock) as cloud:
            await cloud.queue()
            await cloud.task("t")
            await target.received(1)
        target.answers(200)
        async with stack(tmp_path, target, clock) as cloud:
            await target.received(2)
            await cloud.settled()
            assert await cloud.tasks() == []
    assert [request.headers["x-cloudtasks-taskretrycount"] for request in target.requests] == ["0", "1"]


async def test_a_task_in_flight_when_the_process_is_killed_is_delivered_again(tmp_path: Path) -> None:
    async with serving() as target:
        target.answer = never
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE_S):
                port = int(await process.stdout.readline())
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                client = tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
                await client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": QUEUE}))
                await client.create_task(
                    parent=QUEUE, task=tasks_v2.Task({"name": TASK, "http_request": {"url": target.url}})
                )
                await target.received(1)
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        target.answers(200)
        async with stack(tmp_path, target, SystemClock()) as cloud:
            second = (await target.received(2))[1]
            assert second.task == "t"
            await cloud.settled()
            assert await cloud.tasks() == []
            with pytest.raises(exceptions.AlreadyExists):
                await cloud.task("t")
