"""One container that shall run: started, probed, watched, and started again when it ends."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum

from infra.emulators.run.probe import StartupProbe
from infra.sandbox.spec import Container, ContainerSpec, Runtime, SandboxError

log = logging.getLogger(__name__)

FIRST_PROBES_S = 0.005  # between probes at first: an agent is up in some 100 ms, and a late probe is time lost
LATER_PROBES_S = 0.1
PROBE_CLOSELY_S = 3.0
STOP_GRACE_S = 3.0
STABLE_S = 10.0  # a container that lived this long starts its backoff anew
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 10.0
SAID_LINES = 8  # of a container's output in a message
SAID_CHARACTERS = 1000


class Phase(StrEnum):
    READY = "ready"
    ENDED = "ended"  # with success, and that was that
    RESTARTING = "restarting"  # it ended, or did not start again; the next try follows
    FAILED = "failed"  # it never became ready; nothing follows


class StartFailed(Exception):
    """The container did not become ready; the message is for users and ends with its last lines of output."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A container that shall run. `revision` says which version of its owner wants it; the name is `spec.name`.

    `may_end`: with exit code 0, for good.
    """

    revision: str
    spec: ContainerSpec
    probe: StartupProbe = StartupProbe()
    may_end: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What happened to a container. `facts` are the sandbox's, and empty unless it is ready.

    `failures` counts tries in a row that never became ready or ended within STABLE_S.
    """

    revision: str
    phase: Phase
    message: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0


Observer = Callable[[str, Observed], Awaitable[None]]


class Keeper:
    """Runs until cancelled, and then stops its container; or returns when the container never became ready or may end.

    `first`, if given, is the outcome of the first try, which is then also the only one if it fails. Other tries wait
    for `slots`. Each change is told to `observe` before anything else is done about it.
    """

    def __init__(
        self,
        wanted: Wanted,
        runtime: Runtime,
        observe: Observer,
        slots: asyncio.Semaphore,
        first: asyncio.Future[None] | None,
    ) -> None:
        self._wanted = wanted
        self._runtime = runtime
        self._observe = observe
        self._slots = slots
        self._first = first
        self._failures = 0

    async def run(self) -> None:
        while True:
            try:
                if await self._live():
                    return
            except StartFailed as exc:
                if self._first is not None and not self._first.done():
                    await self._tell(Phase.FAILED, str(exc))
                    if not self._first.done():  # whoever waited may have gone meanwhile
                        self._first.set_exception(exc)
                    return
                await self._fell(str(exc), lived_s=0)
            await asyncio.sleep(min(FIRST_RETRY_S * 2 ** (self._failures - 1), LONGEST_RETRY_S))

    async def _live(self) -> bool:
        """One life of the container, from start to end; whether it was the last one. Raises StartFailed."""
        waits = self._first is None or self._first.done()
        turn: AbstractAsyncContextManager[None] = self._slots if waits else nullcontext()
        async with turn:
            container = await self._begin()
        born = time.monotonic()
        exited = asyncio.create_task(container.wait())
        try:
            await self._tell(Phase.READY, facts=dict(container.facts))
            if self._first is not None and not self._first.done():
                self._first.set_result(None)
            code = await exited
            message = said(f"The container exited with code {code}.", container)
            if over := code == 0 and self._wanted.may_end:
                await self._tell(Phase.ENDED, message)
            else:
                await self._fell(message, time.monotonic() - born)
            return over
        finally:
            exited.cancel()
            await container.stop(STOP_GRACE_S)

    async def _begin(self) -> Container:
        """Start it and wait until its probe succeeds; leaves nothing behind otherwise. Raises StartFailed."""
        try:
            container = await self._runtime.start(self._wanted.spec)
        except (SandboxError, OSError) as exc:
            raise StartFailed(f"The sandbox did not start: {exc}") from exc
        try:
            await become_ready(container, self._wanted.probe)
        except BaseException:
            await container.stop(STOP_GRACE_S)
            raise
        return container

    async def _fell(self, message: str, lived_s: float) -> None:
        self._failures = 1 if lived_s >= STABLE_S else self._failures + 1
        log.warning(
            "a container is down",
            extra={"container": self._wanted.spec.name, "reason": message, "failures": self._failures},
        )
        await self._tell(Phase.RESTARTING, message)

    async def _tell(self, phase: Phase, message: str = "", facts: Mapping[str, str] | None = None) -> None:
        observed = Observed(self._wanted.revision, phase, message, facts or {}, self._failures)
        await self._observe(self._wanted.spec.name, observed)


async def become_ready(container: Container, probe: StartupProbe) -> None:
    """Raises StartFailed: the container ended, or its probe had no success in time."""
    exited = asyncio.create_task(container.wait())
    began = time.monotonic()
    try:
        while not await probe.succeeds(container.socket):
            if exited.done():
                raise StartFailed(said(f"The container exited with code {exited.result()}.", container))
            waited_s = time.monotonic() - began
            if waited_s >= probe.deadline_s:
                asked = f"GET {probe.path}" if probe.path else "a connection"
                raise StartFailed(
                    said(f"The startup probe ({asked}) had no success in {probe.deadline_s:g} seconds.", container)
                )
            await asyncio.wait({exited}, timeout=FIRST_PROBES_S if waited_s < PROBE_CLOSELY_S else LATER_PROBES_S)
    finally:
        exited.cancel()


def said(what: str, container: Container) -> str:
    """`what`, and the last lines of the container's output."""
    lines = container.log_tail().strip().splitlines()[-SAID_LINES:]
    return f"{what} Its last output: {' | '.join(lines)[-SAID_CHARACTERS:]}" if lines else what
