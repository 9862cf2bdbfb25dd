"""One store of containers: which are wanted here, each with the task that keeps it running."""

import asyncio
import logging
import weakref
from types import TracebackType
from typing import Self

from infra.emulators.run.keeper import Keeper, Observer, Wanted
from infra.sandbox.spec import Runtime

log = logging.getLogger(__name__)

STARTS_AT_ONCE = 4  # restarts, and starts after the process came up; each is CPU-bound for some 100 ms


class Superseded(Exception):
    """The container was replaced or removed before it was ready."""


class Containers:
    """Starts, replaces and removes containers by name; at most one of a name runs at any time.

    `observe(name, observed)` is awaited for each change, in order, before anyone waiting for that change goes on.
    Leaving the context stops every container and keeps their folders.
    """

    def __init__(self, runtime: Runtime, observe: Observer) -> None:
        self._runtime = runtime
        self._observe = observe
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # the keepers, and those before them that still clean up
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._slots = asyncio.Semaphore(STARTS_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keepers.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def roll_out(self, wanted: Wanted) -> None:
        """Replace what runs under this name; returns when the new container is ready.

        Raises StartFailed (nothing runs then) or Superseded.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def give_up(_: asyncio.Task[None]) -> None:
            if not first.done():
                first.set_exception(Superseded(wanted.spec.name))

        self._replace(wanted, first).add_done_callback(give_up)
        await first

    def keep(self, wanted: Wanted) -> None:
        """Replace what runs under this name, in the background, and try until it is ready."""
        self._replace(wanted, None)

    async def remove(self, name: str) -> None:
        """Stop it and delete its folders; removing one that is gone is not an error."""
        if keeper := self._keepers.pop(name, None):
            keeper.cancel()
        async with self._turn(name):
            await self._runtime.remove(name)

    def _replace(self, wanted: Wanted, first: asyncio.Future[None] | None) -> asyncio.Task[None]:
        name = wanted.spec.name
        if before := self._keepers.get(name):
            before.cancel()
        task = asyncio.create_task(self._keep(wanted, first), name=f"container {name}")
        self._keepers[name] = task
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def _keep(self, wanted: Wanted, first: asyncio.Future[None] | None) -> None:
        async with self._turn(wanted.spec.name):
            await Keeper(wanted, self._runtime, self._observe, self._slots, first).run()

    def _turn(self, name: str) -> asyncio.Lock:
        """Held while a container of that name exists; whoever holds or waits for it keeps it in the dictionary."""
        return self._turns.setdefault(name, asyncio.Lock())

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()):
            log.error("a container is no longer watched", exc_info=exc, extra={"task": task.get_name()})
