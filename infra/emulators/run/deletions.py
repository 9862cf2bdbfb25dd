"""Deletions under way: each is a task that goes on when whoever asked for it is gone."""

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)


class Deletions:
    """At most one of a name at a time. Leaving the context cancels them: what is not done is begun again next time."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, name: str, removal: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(removal, name=f"deletion of {name}")
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._forget(name, done))
        return task

    def under_way(self, name: str) -> asyncio.Task[Any] | None:
        return self._tasks.get(name)

    async def ended(self, name: str) -> None:
        """Wait for the deletion that is under way, if there is one."""
        if task := self._tasks.get(name):
            await asyncio.wait({task})

    def _forget(self, name: str, task: asyncio.Task[Any]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]
        if not task.cancelled() and (exc := task.exception()):
            log.error("a resource could not be removed", exc_info=exc, extra={"task": task.get_name()})
