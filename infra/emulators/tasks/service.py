"""google.cloud.tasks.v2.CloudTasks over gRPC: each RPC with the real service's limits, answers and refusals."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.api_core import exceptions
from google.cloud.tasks_v2 import types
from google.protobuf import empty_pb2

from infra.emulators import rpc
from infra.emulators.oidc import OidcTokens
from infra.emulators.tasks import admission, names
from infra.emulators.tasks.admission import Queue
from infra.emulators.tasks.clock import Clock, SystemClock
from infra.emulators.tasks.delivery import Delivery
from infra.emulators.tasks.dispatch import Dispatcher
from infra.emulators.tasks.storage import NameBlocked, NameTaken, NoQueue, StoredTask, TaskStore
from infra.emulators.tasks.thread import StoreThread
from infra.emulators.tasks.views import MAX_QUEUES_PAGE, MAX_TASKS_PAGE, PAGE_BYTES, after, page_size, token_of, view_of

SERVICE = "google.cloud.tasks.v2.CloudTasks"
TASK_TOMBSTONE_S = 24 * 3600  # CreateTaskRequest.task: up to 24 hours after it ran or was deleted
QUEUE_TOMBSTONE_S = 3 * 24 * 3600  # DeleteQueue: up to 3 days
NOT_EMULATED = (
    *("GetIamPolicy", "SetIamPolicy", "TestIamPermissions"),
    *("BatchCreateTasks", "BatchDeleteTasks", "UpdateCmekConfig", "GetCmekConfig"),
)

_NO_QUEUE = "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize."
_NO_TASK = "Requested entity was not found."
_TASK_ENDED = (
    "The task no longer exists, though a task with this name existed recently. "
    "The task either successfully completed or was deleted."
)
_QUEUE_NAME_BLOCKED = "The queue cannot be created because a queue with this name existed too recently."
_TASK_NAME_BLOCKED = "The task cannot be created because a task with this name existed too recently."


class CloudTasks:
    """The emulator; an async context manager, serving and dispatching between enter and exit.

    `path` is the SQLite file. `tombstone_s`, `queue_tombstone_s`: for how long the name of a task that ran or was
    deleted, and that of a deleted queue, cannot be used again.
    """

    def __init__(
        self,
        path: Path,
        tokens: OidcTokens,
        *,
        tombstone_s: float = TASK_TOMBSTONE_S,
        queue_tombstone_s: float = QUEUE_TOMBSTONE_S,
        clock: Clock | None = None,
    ) -> None:
        self._path = path
        self._tokens = tokens
        self._task_tombstone_us = int(tombstone_s * 1_000_000)
        self._queue_tombstone_us = int(queue_tombstone_s * 1_000_000)
        self._clock = clock or SystemClock()
        self._calls: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._thread = StoreThread()
        self._store = await self._thread.run(
            TaskStore,
            self._path,
            task_tombstone_us=self._task_tombstone_us,
            queue_tombstone_us=self._queue_tombstone_us,
        )
        self._delivery = Delivery(self._tokens, self._clock)
        self._dispatcher = Dispatcher(self._store, self._thread, self._delivery, self._clock)
        for queue, due_us, name in await self._thread.run(self._store.schedule):
            self._dispatcher.add(queue, due_us, name)
        for queue in await self._thread.run(self._store.queues):
            self._dispatcher.configure(queue)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._dispatcher.close()
        await self._delivery.close()
        await self._thread.run(self._store.close)
        self._thread.close()

    async def settled(self) -> None:
        """Wait until no task is being delivered."""
        await self._dispatcher.settled()

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """For `grpc.aio.Server.add_generic_rpc_handlers`."""
        methods = {
            "ListQueues": self._method(self._list_queues, types.ListQueuesRequest, types.ListQueuesResponse),
            "GetQueue": self._method(self._get_queue, types.GetQueueRequest, types.Queue),
            "CreateQueue": self._method(self._create_queue, types.CreateQueueRequest, types.Queue),
            "UpdateQueue": self._method(self._update_queue, types.UpdateQueueRequest, types.Queue),
            "DeleteQueue": self._method(self._delete_queue, types.DeleteQueueRequest, None),
            "PurgeQueue": self._method(self._purge_queue, types.PurgeQueueRequest, types.Queue),
            "PauseQueue": self._method(self._pause_queue, types.PauseQueueRequest, types.Queue),
            "ResumeQueue": self._method(self._resume_queue, types.ResumeQueueRequest, types.Queue),
            "ListTasks": self._method(self._list_tasks, types.ListTasksRequest, types.ListTasksResponse),
            "GetTask": self._method(self._get_task, types.GetTaskRequest, types.Task),
            "CreateTask": self._method(self._create_task, types.CreateTaskRequest, types.Task),
            "DeleteTask": self._method(self._delete_task, types.DeleteTaskRequest, None),
            "RunTask": self._method(self._run_task, types.RunTaskRequest, types.Task),
        }
        methods |= {name: rpc.Method(_refusal(name), empty_pb2.Empty, empty_pb2.Empty) for name in NOT_EMULATED}
        return [rpc.service(SERVICE, methods)]

    def _method(
        self, call: Callable[[Any], Coroutine[Any, Any, Any]], request: Any, response: Any | None
    ) -> rpc.Method:
        async def finished(message: Any) -> Any:
            # A call that its client gives up half-way still comes to its end: what is written must reach the worker.
            running = asyncio.get_running_loop().create_task(call(message))
            self._calls.add(running)
            running.add_done_callback(self._calls.discard)
            return await asyncio.shield(running)

        return rpc.Method(finished, request.pb(), empty_pb2.Empty if response is None else response.pb())

    # Queues

    async def _list_queues(self, request: Any) -> Any:
        location = names.location(request.parent)
        if request.filter:
            raise exceptions.MethodNotImplemented("ListQueuesRequest.filter is not emulated; filter in the client.")
        size = page_size(request.page_size, MAX_QUEUES_PAGE)
        queues = await self._thread.run(self._store.queues, location, after(request.page_token), size + 1)
        page = types.ListQueuesResponse.pb()(queues=queues[:size])
        if len(queues) > size:
            page.next_page_token = token_of(queues[size - 1].name)
        return page

    async def _get_queue(self, request: Any) -> Any:
        queue = await self._thread.run(self._store.queue, names.queue(request.name))
        if queue is None:
            raise exceptions.NotFound(_NO_QUEUE)
        return queue

    async def _create_queue(self, request: Any) -> Any:
        location = names.location(request.parent)
        queue = admission.queue(request.queue)
        if not queue.name.startswith(f"{location}/queues/"):
            raise exceptions.InvalidArgument(f'Queue "{queue.name}" does not belong to the parent "{location}".')
        with _translated(taken="Queue already exists", blocked=_QUEUE_NAME_BLOCKED):
            await self._thread.run(self._store.create_queue, queue, self._clock.now_us())
        self._dispatcher.configure(queue)
        return queue

    async def _update_queue(self, request: Any) -> Any:
        paths = list(request.update_mask.paths)
        return await self._change_queue(
            request.queue.name, lambda current: admission.queue(request.queue, current, paths), create=True
        )

    async def _delete_queue(self, request: Any) -> Any:
        name = names.queue(request.name)
        with _translated(no_queue=_NO_TASK):  # so it says of queues, too
            await self._thread.run(self._store.delete_queue, name, self._clock.now_us())
        self._dispatcher.forget(name)
        return empty_pb2.Empty()

    async def _purge_queue(self, request: Any) -> Any:
        with _translated():
            return await self._thread.run(self._store.purge_queue, names.queue(request.name), self._clock.now_us())

    async def _pause_queue(self, request: Any) -> Any:
        return await self._change_queue(request.name, lambda queue: _in_state(queue, Queue.State.PAUSED))

    async def _resume_queue(self, request: Any) -> Any:
        return await self._change_queue(request.name, lambda queue: _in_state(queue, Queue.State.RUNNING))

    async def _change_queue(self, name: str, change: Callable[[Any], Any], *, create: bool = False) -> Any:
        with _translated(blocked=_QUEUE_NAME_BLOCKED):
            queue = await self._thread.run(
                self._store.change_queue, names.queue(name), change, self._clock.now_us(), create=create
            )
        self._dispatcher.configure(queue)
        return queue

    # Tasks

    async def _create_task(self, request: Any) -> Any:
        now_us = self._clock.now_us()
        queue = names.queue(request.parent)
        name = names.within(queue, request.task.name)
        message = admission.task(request.task, name, now_us)
        stored = StoredTask(str(name), queue, message.SerializeToString(), message.schedule_time.ToMicroseconds())
        with _translated(taken="Requested entity already exists", blocked=_TASK_NAME_BLOCKED):
            await self._thread.run(self._store.create_task, stored, now_us)
        self._dispatcher.add(queue, stored.schedule_us, stored.name)
        return view_of(stored, request.response_view)

    async def _list_tasks(self, request: Any) -> Any:
        queue = names.queue(request.parent)
        size = page_size(request.page_size, MAX_TASKS_PAGE)
        with _translated():
            tasks, more = await self._thread.run(
                self._store.tasks, queue, after(request.page_token), limit=size, most_bytes=PAGE_BYTES
            )
        page = types.ListTasksResponse.pb()(tasks=[view_of(task, request.response_view) for task in tasks])
        if more:
            page.next_page_token = token_of(tasks[-1].name)
        return page

    async def _get_task(self, request: Any) -> Any:
        name = str(names.task(request.name))
        task = await self._thread.run(self._store.task, name)
        if task is None:
            raise await self._no_task(name)
        return view_of(task, request.response_view)

    async def _delete_task(self, request: Any) -> Any:
        name = str(names.task(request.name))
        if not await self._thread.run(self._store.end_task, name, self._clock.now_us()):
            raise await self._no_task(name)
        return empty_pb2.Empty()

    async def _run_task(self, request: Any) -> Any:
        name = names.task(request.name)
        task = await self._dispatcher.run_now(name.queue, str(name))
        if task is None:
            raise await self._no_task(str(name))
        return view_of(task, request.response_view)

    async def _no_task(self, name: str) -> Exception:
        ended = await self._thread.run(self._store.blocked, name, self._clock.now_us())
        return exceptions.NotFound(_TASK_ENDED if ended else _NO_TASK)


@contextmanager
def _translated(*, taken: str = "", blocked: str = "", no_queue: str = _NO_QUEUE) -> Iterator[None]:
    """The store's refusals in gRPC's terms."""
    try:
        yield
    except NoQueue as exc:
        raise exceptions.NotFound(no_queue) from exc
    except NameTaken as exc:
        raise exceptions.AlreadyExists(taken) from exc
    except NameBlocked as exc:
        kind = exceptions.FailedPrecondition if blocked == _QUEUE_NAME_BLOCKED else exceptions.AlreadyExists
        raise kind(blocked) from exc


def _refusal(method: str) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    async def refuse(request: Any) -> Any:
        raise exceptions.MethodNotImplemented(f"{method} is not emulated.")

    return refuse


def _in_state(queue: Any, state: int) -> Any:
    queue.state = state
    return queue
