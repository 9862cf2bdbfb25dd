"""How every method that changes something answers: an operation with the metadata of this service; and its refusals."""

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Iterable

from google.api_core import exceptions
from google.cloud.workstations_v1 import types
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from infra.emulators.operations import Operations
from infra.emulators.run.paging import page
from infra.emulators.workstations.names import is_below, location_of
from infra.emulators.workstations.resources import Resource


class Answers:
    """Operations of the service, timed by `clock`."""

    def __init__(self, operations: Operations, clock: Callable[[], datetime.datetime]) -> None:
        self._operations = operations
        self._clock = clock

    async def operation(self, verb: str, name: str, work: Awaitable[Resource]) -> operations_pb2.Operation:
        """An operation on the resource `name` that ends as `work` does; cancelling one does not cancel the other."""
        metadata = types.OperationMetadata(create_time=self._clock(), target=name, verb=verb, api_version="v1")
        running = asyncio.ensure_future(work)

        async def message() -> Message:
            resource = await asyncio.shield(running)
            answer: Message = type(resource).pb(resource)
            return answer

        def finished() -> Message:
            done = types.OperationMetadata(metadata)
            done.end_time = self._clock()
            answer: Message = types.OperationMetadata.pb(done)
            return answer

        begun = types.OperationMetadata.pb(metadata)
        return await self._operations.run(location_of(name), message(), begun, finished=finished)

    async def preview(self, verb: str, resource: Resource) -> operations_pb2.Operation:
        """The answer to validate_only: what the operation would end with."""

        async def as_is() -> Resource:
            return resource

        return await self.operation(verb, resource.name, as_is())


def listed(
    names: Iterable[str], parent: str, size: int, token: str, request: str, where: str = ""
) -> tuple[list[str], str]:
    """A page of the names below `parent`, and the next one's token. `where` is the request's filter."""
    if where:
        raise exceptions.MethodNotImplemented(f"{request}.filter: the emulator lists without a filter only")
    return page([name for name in names if is_below(name, parent)], size, token, request)


def not_found(name: str) -> exceptions.NotFound:
    return exceptions.NotFound(f"Resource '{name}' was not found")


def already_exists(name: str) -> exceptions.AlreadyExists:
    return exceptions.AlreadyExists(f"Resource '{name}' already exists")


def check_etag(resource: Resource, etag: str) -> None:
    """Raises Aborted: the client knows an older version (AIP-154)."""
    if etag and etag != resource.etag:
        raise exceptions.Aborted(
            f"The etag of resource '{resource.name}' is {resource.etag}, the request was made for {etag}"
        )
