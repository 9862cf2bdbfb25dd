"""google.longrunning.Operations: what every emulator on the port answers with, mostly already done."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import grpc
from google.api_core import exceptions
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import Message

from infra.emulators.rpc import Method, service

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 8.0  # below the 10 s and 15 s that google-cloud-run's clients wait for an answer by default
KEPT = 10_000  # finished operations; the oldest are forgotten first
PAGE_SIZE = 100
LONGEST_WAIT_S = 60.0


class Operations:
    """Runs the work of operations and remembers their outcome for as long as the process lives.

    Clients poll after 2 s at the earliest, so work that ends within `answer_within_s` is answered as an operation that
    is already done. Leaving the context cancels what is still running.
    """

    def __init__(self, *, answer_within_s: float = ANSWER_WITHIN_S, kept: int = KEPT) -> None:
        self._answer_within_s = answer_within_s
        self._kept = kept
        self._operations: dict[str, operations_pb2.Operation] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        ops = operations_pb2
        return [
            service(
                "google.longrunning.Operations",
                {
                    "GetOperation": Method(self._get, ops.GetOperationRequest, ops.Operation),
                    "ListOperations": Method(self._list, ops.ListOperationsRequest, ops.ListOperationsResponse),
                    "WaitOperation": Method(self._wait, ops.WaitOperationRequest, ops.Operation),
                    "DeleteOperation": Method(self._delete, ops.DeleteOperationRequest, empty_pb2.Empty),
                },
            )
        ]

    async def run(
        self,
        parent: str,
        work: Coroutine[Any, Any, Message],
        metadata: Message,
        *,
        answer_within_s: float | None = None,
        finished: Callable[[], Message] | None = None,
    ) -> operations_pb2.Operation:
        """Start `work` below `parent` (projects/P/locations/L); its message is the response of the operation.

        A google.api_core exception in `work` becomes the operation's error. The work goes on when the caller is gone.
        `answer_within_s`, where it is not the same for all: less for work that nobody expects to end soon.
        `finished` makes the metadata of the operation once it is done; without it, that is the response too.
        """
        name = f"{parent}/operations/{uuid.uuid4()}"
        self._operations[name] = operations_pb2.Operation(name=name, metadata=_pack(metadata))
        task = asyncio.create_task(self._carry_out(name, work, finished), name=name)
        self._running[name] = task
        task.add_done_callback(lambda _: self._running.pop(name, None))
        await asyncio.wait({task}, timeout=self._answer_within_s if answer_within_s is None else answer_within_s)
        return self._operations[name]

    async def _carry_out(
        self, name: str, work: Coroutine[Any, Any, Message], finished: Callable[[], Message] | None
    ) -> None:
        outcome = operations_pb2.Operation()
        outcome.CopyFrom(self._operations[name])
        try:
            response = await work
        except exceptions.GoogleAPICallError as exc:
            outcome.error.code = exc.grpc_status_code.value[0] if exc.grpc_status_code else 2
            outcome.error.message = exc.message
        except Exception:
            log.exception("the work of an operation failed", extra={"operation": name})
            outcome.error.code = grpc.StatusCode.INTERNAL.value[0]
            outcome.error.message = "internal error in the emulator; see its log"
        else:
            outcome.response.CopyFrom(_pack(response))
            outcome.metadata.CopyFrom(_pack(response))
        if finished is not None:
            outcome.metadata.CopyFrom(_pack(finished()))
        outcome.done = True
        self._operations[name] = outcome
        self._forget_the_oldest()

    def _forget_the_oldest(self) -> None:
        excess = len(self._operations) - self._kept
        if excess > 0:
            for name in [name for name, op in self._operations.items() if op.done][:excess]:
                del self._operations[name]

    def _existing(self, name: str) -> operations_pb2.Operation:
        found = self._operations.get(name)
        if found is None:
            raise exceptions.NotFound(f"Operation '{name}' does not exist.")
        return found

    async def _get(self, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
        return self._existing(request.name)

    async def _list(self, request: operations_pb2.ListOperationsRequest) -> operations_pb2.ListOperationsResponse:
        if request.filter:
            raise exceptions.MethodNotImplemented("the emulator lists operations without a filter only")
        if request.page_size < 0:
            raise exceptions.InvalidArgument(f"page_size: got {request.page_size}, wanted 0 or more")
        below = f"{request.name.removesuffix('/operations')}/operations/"
        names = sorted(name for name in self._operations if name.startswith(below) and name > request.page_token)
        size = min(request.page_size or PAGE_SIZE, PAGE_SIZE)
        return operations_pb2.ListOperationsResponse(
            operations=[self._operations[name] for name in names[:size]],
            next_page_token=names[size - 1] if len(names) > size else "",
        )

    async def _wait(self, request: operations_pb2.WaitOperationRequest) -> operations_pb2.Operation:
        self._existing(request.name)
        task = self._running.get(request.name)
        if task is not None:
            asked = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else LONGEST_WAIT_S
            await asyncio.wait({task}, timeout=min(max(asked, 0), LONGEST_WAIT_S))
        return self._existing(request.name)

    async def _delete(self, request: operations_pb2.DeleteOperationRequest) -> empty_pb2.Empty:
        if not self._existing(request.name).done:
            raise exceptions.FailedPrecondition(f"Operation '{request.name}' is still running.")
        del self._operations[request.name]
        return empty_pb2.Empty()


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
