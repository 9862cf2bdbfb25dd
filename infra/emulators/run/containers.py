"""One store of containers: what is wanted here, the sandboxes that run there, and the work of keeping them alike."""

import asyncio
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from infra.emulators.run.probe import StartupProbe
from infra.sandbox.spec import Container, ContainerSpec, Runtime, SandboxError

log = logging.getLogger(__name__)

STARTS_AT_ONCE = 4  # restarts, and starts after the process came up; a start is CPU-bound for some 100 ms
FIRST_PROBES_S = 0.005  # between probes at first: an agent is up in some 100 ms, and every probe late is waited for
LATER_PROBES_S = 0.1
PROBE_CLOSELY_S = 3.0
STOP_GRACE_S = 3.0
STABLE_S = 10.0  # a container that lived this long starts its backoff anew
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 10.0


class Phase(StrEnum):
    READY = "ready"
    RESTARTING = "restarting"  # it ended, or didn't start again; the next try follows
    FAILED = "failed"  # it never became ready; nothing follows


class StartFailed(Exception):
    """The container did not become ready; the message is for users and ends with its last lines of output."""


class Superseded(Exception):
    """The container was replaced or removed before it was ready."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A container that shall run. `revision` says which version of its owner wants it; the name is `spec.name`."""

    revision: str
    spec: ContainerSpec
    probe: StartupProbe = StartupProbe()


@dataclass(frozen=True, slots=True)
class Observed:
    """What happened to a container. `facts` are the sandbox's, and empty unless it is ready.

    `failures` counts tries in a row that ended within STABLE_S or never became ready.
    """

    revision: str
    phase: Phase
    message: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0


Observer = Callable[[str, Observed], Awaitable[None]]


class Containers:
    """Starts, watches, restarts, replaces and removes containers; at most one of a name runs at any time.

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
        task = self._replace(wanted, first)

        def give_up(_: asyncio.Task[None]) -> None:
            if not first.done():
                first.set_exception(Superseded(wanted.spec.name))

        task.add_done_callback(give_up)
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
        task = asyncio.create_task(self._take_turn(wanted, first), name=f"container {name}")
        self._keepers[name] = task
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()):
            log.error("a container is no longer watched", exc_info=exc, extra={"task": task.get_name()})

    def _turn(self, name: str) -> asyncio.Lock:
        return self._turns.setdefault(name, asyncio.Lock())

    async def _take_turn(self, wanted: Wanted, first: asyncio.Future[None] | None) -> None:
        async with self._turn(wanted.spec.name):
            await self._keep(wanted, first)

    async def _keep(self, wanted: Wanted, first: asyncio.Future[None] | None) -> None:
        failures = 0
        while True:
            try:
                ended = await self._live(wanted, first)
                failures = 1 if ended.lived_s >= STABLE_S else failures + 1
                message = ended.message
            except StartFailed as exc:
                if first is not None and not first.done():
                    await self._observe(wanted.spec.name, Observed(wanted.revision, Phase.FAILED, str(exc)))
                    if not first.done():
                        first.set_exception(exc)
                    return
                failures += 1
                message = str(exc)
            retry_s = min(FIRST_RETRY_S * 2 ** (failures - 1), LONGEST_RETRY_S)
            log.warning(
                "a container is down",
                extra={"container": wanted.spec.name, "reason": message, "failures": failures, "retry_s": retry_s},
            )
            await self._observe(
                wanted.spec.name,
                Observed(wanted.revision, Phase.RESTARTING, message, failures=failures),
            )
            await asyncio.sleep(retry_s)

    async def _live(self, wanted: Wanted, first: asyncio.Future[None] | None) -> "_Ended":
        """One life of the container, from start to end. Raises StartFailed."""
        born = time.monotonic()
        first_time = first is not None and not first.done()
        if first_time:
            container = await self._begin(wanted)
        else:
            async with self._slots:
                container = await self._begin(wanted)
        try:
            ended = asyncio.create_task(container.wait())
            try:
                await self._observe(
                    wanted.spec.name, Observed(wanted.revision, Phase.READY, facts=dict(container.facts))
                )
                if first is not None and not first.done():
                    first.set_result(None)
                code = await ended
            finally:
                ended.cancel()
        finally:
            await container.stop(STOP_GRACE_S)
        return _Ended(_said(f"The container exited with code {code}.", container), time.monotonic() - born)

    async def _begin(self, wanted: Wanted) -> Container:
        """Start it and wait until its probe succeeds; leaves nothing behind otherwise. Raises StartFailed."""
        try:
            container = await self._runtime.start(wanted.spec)
        except (SandboxError, OSError) as exc:
            raise StartFailed(f"The sandbox did not start: {exc}") from exc
        try:
            await _become_ready(container, wanted.probe)
        except BaseException:
            await container.stop(STOP_GRACE_S)
            raise
        return container


@dataclass(frozen=True, slots=True)
class _Ended:
    message: str
    lived_s: float


async def _become_ready(container: Container, probe: StartupProbe) -> None:
    exited = asyncio.create_task(container.wait())
    began = time.monotonic()
    try:
        while not await probe.succeeds(container.socket):
            if exited.done():
                raise StartFailed(_said(f"The container exited with code {exited.result()}.", container))
            waited_s = time.monotonic() - began
            if waited_s >= probe.deadline_s:
                asked = f"GET {probe.path}" if probe.path else "a connection"
                raise StartFailed(
                    _said(f"The startup probe ({asked}) had no success in {probe.deadline_s:g} seconds.", container)
                )
            await asyncio.wait({exited}, timeout=FIRST_PROBES_S if waited_s < PROBE_CLOSELY_S else LATER_PROBES_S)
    finally:
        exited.cancel()


def _said(what: str, container: Container) -> str:
    """`what` and the last lines of the container's output."""
    lines = container.log_tail().strip().splitlines()[-_LINES:]
    return f"{what} Its last output: {' | '.join(lines)[-_CHARACTERS:]}" if lines else what


_LINES = 8
_CHARACTERS = 1000
