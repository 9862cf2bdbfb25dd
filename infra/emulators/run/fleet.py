"""The services that exist and their containers: what a request asks for is stored, and made true, here."""

import asyncio
import dataclasses
import datetime
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from google.api_core import exceptions
from google.cloud.run_v2 import types

from infra.emulators.run import resources
from infra.emulators.run.containers import Containers, Superseded
from infra.emulators.run.keeper import Observed, Phase, StartFailed, Wanted
from infra.emulators.run.names import Location, ServiceName
from infra.emulators.run.resources import Reason, State
from infra.emulators.run.specs import Folders, wanted_container
from infra.emulators.run.storage import Storage, Stored
from infra.sandbox.spec import Runtime

log = logging.getLogger(__name__)

FAILURES_UNTIL_FAILED = 2  # in a row; the first fall of a container is a restart, and shown as reconciling


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Fleet(Mapping[str, Stored]):
    """All services by name; kept in memory and, written through, in the SQLite file at `path`.

    Opening it starts the containers of all services again in the background; leaving stops them. What a container does
    meanwhile shows on its service at once: a service whose container is down is never Ready.
    """

    def __init__(
        self, path: Path, runtime: Runtime, buckets: Path, clock: Callable[[], datetime.datetime] = utc_now
    ) -> None:
        self._storage = Storage(path)
        self._folders = Folders(buckets, path.parent / "filestore", path.parent / "volumes")
        self._clock = clock
        self._containers = Containers(runtime, self._observe)
        self._services: dict[str, Stored] = {}
        self._names: dict[str, str] = {}  # container -> service
        self._facts: dict[str, Mapping[str, str]] = {}  # service -> facts of its sandbox, while that is ready
        self._deletions: dict[str, asyncio.Task[types.Service]] = {}
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._storage)
            await opening.enter_async_context(self._containers)
            opening.push_async_callback(self._end_deletions)
            for stored in await self._storage.load():
                self._services[stored.service.name] = stored
                self._names[stored.container] = stored.service.name
            for name in list(self._services):
                await self._resume(name)
            self._opened = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    def __getitem__(self, name: str) -> Stored:
        return self._services[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)

    def below(self, parent: Location) -> list[Stored]:
        prefix = f"{parent}/services/"
        return [stored for name, stored in self._services.items() if name.startswith(prefix)]

    def shown(self, name: str) -> types.Service:
        """As clients see it. Raises KeyError."""
        return resources.with_facts(self._services[name].service, self._facts.get(name, {}))

    def free_container(self, name: ServiceName) -> str:
        """The service's own id, or with a suffix when a service in another project or region has it."""
        if name.id not in self._names:
            return name.id
        digest = hashlib.sha256(str(name).encode()).hexdigest()
        return next(c for n in range(6, 14) if (c := f"{name.id}-{digest[:n]}") not in self._names)

    def add(self, container: str, service: types.Service) -> types.Revision:
        """Take in a service that did not exist, and begin its first revision."""
        self._names[container] = service.name
        self._services[service.name] = Stored(container, service)
        return self.begin_revision(service)

    def begin_revision(self, service: types.Service) -> types.Revision:
        """Set what is wanted of a service, and make its template a revision; `roll_out` makes it true."""
        now = self._clock()
        stored = self._services[service.name]
        revision = resources.new_revision(service, now)
        message = f"Deploying revision '{_id(revision.name)}'."
        begun = resources.reconciling(service, message, Reason.WAITING_FOR_OPERATION, now)
        begun.latest_created_revision = revision.name
        revisions = {**stored.revisions, revision.name: revision}
        self._services[service.name] = Stored(stored.container, begun, revisions)
        return revision

    async def roll_out(self, revision: types.Revision) -> types.Service:
        """Put a revision in the stead of what runs; returns its service when the revision is ready.

        Raises FailedPrecondition: the container did not start, and the previous one goes on; Aborted: the revision was
        replaced or its service deleted before it was ready.
        """
        name = revision.name.split("/revisions/", 1)[0]
        stored = self._services[name]
        await self._storage.save(stored, revision)
        try:
            wanted = await self._wanted(stored, revision)
        except StartFailed as exc:
            await self._fail(revision, str(exc))
            raise _did_not_start(revision, exc) from exc
        try:
            if not self._is_latest(revision):
                raise Superseded(name)
            await self._containers.roll_out(wanted)
        except StartFailed as exc:
            await self._fall_back(name, revision)
            raise _did_not_start(revision, exc) from exc
        except Superseded as exc:
            raise exceptions.Aborted(
                f"Revision '{_id(revision.name)}' was replaced or its service was deleted before it was ready."
            ) from exc
        return self.shown(name)

    async def change(self, service: types.Service) -> types.Service:
        """Set what needs no new revision."""
        if service.terminal_condition.state == State.CONDITION_SUCCEEDED:
            service = resources.ready(service, self._clock())
        stored = dataclasses.replace(self._services[service.name], service=service)
        self._services[service.name] = stored
        await self._storage.save(stored)
        return self.shown(service.name)

    def begin_deletion(self, service: types.Service) -> asyncio.Task[types.Service]:
        """From now on the service is as good as gone; the task ends when its container and folders are too."""
        name = service.name
        self._services[name] = dataclasses.replace(self._services[name], service=service)
        task = asyncio.create_task(self._remove(name), name=f"deletion of {name}")
        self._deletions[name] = task
        task.add_done_callback(lambda _: self._deletions.pop(name, None))
        task.add_done_callback(_log_failure)
        return task

    async def deletion(self, name: str) -> None:
        """Wait for the deletion of a service that is under way, if there is one."""
        if task := self._deletions.get(name):
            await asyncio.wait({task})

    async def _remove(self, name: str) -> types.Service:
        stored = self._services[name]
        self._facts.pop(name, None)
        await self._storage.save(stored)
        await self._containers.remove(stored.container)
        await asyncio.to_thread(shutil.rmtree, self._folders.scratch / stored.container, ignore_errors=True)
        await self._storage.delete(name)
        del self._services[name]
        del self._names[stored.container]
        gone = types.Service(stored.service)
        gone.reconciling = False
        return gone

    async def _end_deletions(self) -> None:
        """What is not done yet is taken up again after the next start."""
        tasks = list(self._deletions.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _resume(self, name: str) -> None:
        """Bring back what ran, or was about to, when the process ended. A service that failed stays as it is."""
        stored = self._services[name]
        if is_deleted(stored):
            self.begin_deletion(stored.service)
            return
        if stored.service.terminal_condition.state == State.CONDITION_FAILED:
            serving = stored.service.latest_ready_revision
        else:
            serving = stored.service.latest_created_revision
            message = "The container starts again: the emulator was restarted."
            begun = resources.reconciling(stored.service, message, Reason.IMMEDIATE_RETRY, self._clock())
            self._services[name] = dataclasses.replace(stored, service=begun)
        if revision := stored.revisions.get(serving):
            try:
                self._containers.keep(await self._wanted(stored, revision))
            except StartFailed as exc:
                await self._fail(revision, str(exc))

    async def _fall_back(self, name: str, failed: types.Revision) -> None:
        """The last revision that was ready goes on serving when a newer one does not come up."""
        stored = self._services[name]
        if previous := stored.revisions.get(stored.service.latest_ready_revision):
            try:
                wanted = await self._wanted(stored, previous)
            except StartFailed as exc:
                log.warning("a revision cannot serve again", extra={"revision": previous.name, "reason": str(exc)})
                return
            if self._is_latest(failed):
                self._containers.keep(wanted)

    async def _wanted(self, stored: Stored, revision: types.Revision) -> Wanted:
        return await asyncio.to_thread(
            wanted_container, stored.container, _id(stored.service.name), revision, self._folders
        )

    def _is_latest(self, revision: types.Revision) -> bool:
        stored = self._services.get(revision.name.split("/revisions/", 1)[0])
        return stored is not None and not is_deleted(stored) and stored.service.latest_created_revision == revision.name

    async def _observe(self, container: str, observed: Observed) -> None:
        """Show on the service what happened to its container. What an older revision does only concerns the facts."""
        name = self._names.get(container, "")
        stored = self._services.get(name)
        if stored is None or is_deleted(stored):
            return
        if observed.phase is Phase.READY:
            self._facts[name] = observed.facts
        else:
            self._facts.pop(name, None)
        revision = stored.revisions[stored.service.latest_created_revision]
        if _id(revision.name) != observed.revision:
            return
        now = self._clock()
        if observed.phase is Phase.READY:
            await self._show(resources.ready(stored.service, now), revision, State.CONDITION_SUCCEEDED, "")
        elif observed.phase is Phase.RESTARTING and observed.failures < FAILURES_UNTIL_FAILED:
            message = _not_ready(revision, observed.message)
            service = resources.reconciling(stored.service, message, Reason.IMMEDIATE_RETRY, now)
            await self._show(service, revision, State.CONDITION_RECONCILING, observed.message)
        else:
            again = observed.phase is Phase.RESTARTING
            await self._fail(revision, observed.message, trying_again=again)

    async def _fail(self, revision: types.Revision, why: str, *, trying_again: bool = False) -> None:
        if self._is_latest(revision):
            stored = self._services[revision.name.split("/revisions/", 1)[0]]
            message = _not_ready(revision, why)
            service = resources.failed(stored.service, message, self._clock(), trying_again=trying_again)
            await self._show(service, revision, State.CONDITION_FAILED, why)

    async def _show(self, service: types.Service, revision: types.Revision, state: int, message: str) -> None:
        revision = resources.revision_condition(revision, state, message, self._clock())
        before = self._services[service.name]
        stored = Stored(before.container, service, {**before.revisions, revision.name: revision})
        self._services[service.name] = stored
        await self._storage.save(stored, revision)


def is_deleted(stored: Stored) -> bool:
    """Whether a deletion has begun."""
    return bool(stored.service.delete_time)


def _id(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _not_ready(revision: types.Revision, why: str) -> str:
    return f"Revision '{_id(revision.name)}' is not ready and cannot serve traffic. {why}"


def _did_not_start(revision: types.Revision, why: StartFailed) -> exceptions.FailedPrecondition:
    """Cloud Run reports FAILED_PRECONDITION (code 9) for a container that does not become ready."""
    return exceptions.FailedPrecondition(_not_ready(revision, str(why)))


def _log_failure(task: asyncio.Task[types.Service]) -> None:
    if not task.cancelled() and (exc := task.exception()):
        log.error("a service could not be removed", exc_info=exc, extra={"task": task.get_name()})
