"""How requests are answered: operations over resources, and the refusals that all kinds of resources share."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from google.api_core import exceptions
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from infra.emulators.operations import Operations
from infra.emulators.run.names import Location, Name


class Answers:
    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def operation(
        self, parent: Location, work: Awaitable[Any], begun: Any, *, within_s: float | None = None
    ) -> operations_pb2.Operation:
        """`work` ends with the resource as it is then; `begun` is the resource now. Both are proto-plus messages."""

        async def message() -> Message:
            answer = await work
            encoded: Message = type(answer).pb(answer)
            return encoded

        return await self._operations.run(str(parent), message(), type(begun).pb(begun), answer_within_s=within_s)


async def as_is(answer: Any) -> Any:
    return answer


async def outcome(task: asyncio.Task[Any]) -> Any:
    """Of a task that goes on when whoever waits is gone."""
    return await asyncio.shield(task)


def check_etag(resource: Any, etag: str) -> None:
    if etag and etag != resource.etag:
        raise exceptions.Aborted(
            f"Conflict for resource '{resource.name}': etag {etag} was specified but the current one is "
            f"{resource.etag}."
        )


def check_quota(there: int, quota: int, parent: Location, kind: str) -> None:
    if there >= quota:
        raise exceptions.ResourceExhausted(
            f"Quota exceeded: there are {there} {kind} of {quota} in region '{parent.location}' of project "
            f"'{parent.project}'."
        )


def not_found(name: Name) -> exceptions.NotFound:
    kind = name.collection.removesuffix("s").upper()
    return exceptions.NotFound(
        f"Resource '{name.id}' of kind '{kind}' in region '{name.parent.location}' in project "
        f"'{name.parent.project}' does not exist."
    )


def already_exists(name: Name) -> exceptions.AlreadyExists:
    return exceptions.AlreadyExists(f"Resource '{name.id}' already exists.")
