"""The services that exist and their containers: what a request asks for is stored, and made true, here."""

import asyncio
import dataclasses
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from google.api_core import exceptions
from google.cloud.run_v2 import types

from infra.emulators.run import resources, service_resources
from infra.emulators.run.containers import Containers, Superseded
from infra.emulators.run.deletions import Deletions
from infra.emulators.run.ground import Ground
from infra.emulators.run.keeper import Observed, Phase, StartFailed, Wanted
from infra.emulators.run.names import Location
from infra.emulators.run.opened import Opened
from infra.emulators.run.resources import Reason, State, id_of, with_facts
from infra.emulators.run.specs import wanted_revision
from infra.emulators.run.storage import Row

log = logging.getLogger(__name__)

FAILURES_UNTIL_FAILED = 2  # in a row; the first fall of a container is a restart, and shown as reconciling


@dataclass(frozen=True, slots=True)
class Stored:
    """A service, the name of its container, and all its revisions by name, oldest first."""

    container: str
    service: types.Service
    revisions: dict[str, types.Revision] = field(default_factory=dict)


class Fleet(Opened, Mapping[str, Stored]):
    """All services by name; kept in memory and, written through, in the storage.

    Opening it starts the containers of all services again in the background; leaving stops them. What a container does
    meanwhile shows on its service at once: a service whose container is down is never Ready.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._containers = Containers(ground.runtime, self._observe)
        self._services: dict[str, Stored] = {}
        self._facts: dict[str, Mapping[str, str]] = {}  # service -> facts of its sandbox, while that is ready
        self._deletions = Deletions()

    async def _open(self, opening: AsyncExitStack) -> None:
        await opening.enter_async_context(self._containers)
        await opening.enter_async_context(self._deletions)
        for row in await self._ground.storage.load("services"):
            container = row.container or id_of(row.message.name)
            self._services[row.message.name] = Stored(container, row.message)
            self._ground.names.take(container, row.message.name)
        for row in await self._ground.storage.load("revisions"):
            self._services[_owner(row.message)].revisions[row.message.name] = row.message
        for name in list(self._services):
            await self._resume(name)

    def __getitem__(self, name: str) -> Stored:
        return self._services[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)

    def below(self, parent: Location) -> list[str]:
        return [name for name in self._services if name.startswith(f"{parent}/services/")]

    def shown(self, name: str) -> types.Service:
        """As clients see it. Raises KeyError."""
        return with_facts(self._services[name].service, self._facts.get(name, {}))

    def add(self, container: str, service: types.Service) -> types.Revision:
        """Take in a service that did not exist, and begin its first revision."""
        self._ground.names.take(container, service.name)
        self._services[service.name] = Stored(container, service)
        return self.begin_revision(service)

    def begin_revision(self, service: types.Service) -> types.Revision:
        """Set what is wanted of a service, and make its template a revision; `roll_out` makes it true."""
        now = self._ground.clock()
        stored = self._services[service.name]
        revision = service_resources.new_revision(service, now)
        message = f"Deploying revision '{id_of(revision.name)}'."
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
        name = _owner(revision)
        stored = self._services[name]
        await self._save(stored, revision)
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
                f"Revision '{id_of(revision.name)}' was replaced or its service was deleted before it was ready."
            ) from exc
        return self.shown(name)

    async def change(self, service: types.Service) -> types.Service:
        """Set what needs no new revision."""
        if service.terminal_condition.state == State.CONDITION_SUCCEEDED:
            service = service_resources.serving(service, self._ground.clock())
        stored = dataclasses.replace(self._services[service.name], service=service)
        self._services[service.name] = stored
        await self._save(stored)
        return self.shown(service.name)

    def begin_deletion(self, service: types.Service) -> asyncio.Task[types.Service]:
        """From now on the service is as good as gone; the task ends when its container and folders are too."""
        name = service.name
        self._services[name] = dataclasses.replace(self._services[name], service=service)
        return self._deletions.begin(name, self._remove(name))

    async def deletion(self, name: str) -> None:
        """Wait for the deletion of a service that is under way, if there is one."""
        await self._deletions.ended(name)

    async def _remove(self, name: str) -> types.Service:
        stored = self._services[name]
        self._facts.pop(name, None)
        await self._save(stored)
        await self._containers.remove(stored.container)
        await asyncio.to_thread(shutil.rmtree, self._ground.folders.scratch / stored.container, ignore_errors=True)
        await self._ground.storage.delete(name)
        del self._services[name]
        self._ground.names.give_back(stored.container)
        gone = types.Service(stored.service)
        gone.reconciling = False
        return gone

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
            begun = resources.reconciling(stored.service, message, Reason.IMMEDIATE_RETRY, self._ground.clock())
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
            wanted_revision, stored.container, id_of(stored.service.name), revision, self._ground.folders
        )

    def _is_latest(self, revision: types.Revision) -> bool:
        stored = self._services.get(_owner(revision))
        return stored is not None and not is_deleted(stored) and stored.service.latest_created_revision == revision.name

    async def _observe(self, container: str, observed: Observed) -> None:
        """Show on the service what happened to its container. What an older revision does only concerns the facts."""
        name = self._ground.names.owner(container)
        stored = self._services.get(name)
        if stored is None or is_deleted(stored):
            return
        if observed.phase is Phase.READY:
            self._facts[name] = observed.facts
        else:
            self._facts.pop(name, None)
        revision = stored.revisions[stored.service.latest_created_revision]
        if id_of(revision.name) != observed.revision:
            return
        now = self._ground.clock()
        if observed.phase is Phase.READY:
            await self._show(service_resources.serving(stored.service, now), revision, State.CONDITION_SUCCEEDED, "")
        elif observed.phase is Phase.RESTARTING and observed.failures < FAILURES_UNTIL_FAILED:
            message = _not_ready(revision, observed.message)
            service = resources.reconciling(stored.service, message, Reason.IMMEDIATE_RETRY, now)
            await self._show(service, revision, State.CONDITION_RECONCILING, observed.message)
        else:
            again = observed.phase is Phase.RESTARTING
            await self._fail(revision, observed.message, trying_again=again)

    async def _fail(self, revision: types.Revision, why: str, *, trying_again: bool = False) -> None:
        if self._is_latest(revision):
            stored = self._services[_owner(revision)]
            message = _not_ready(revision, why)
            service = resources.failed(stored.service, message, self._ground.clock(), trying_again=trying_again)
            await self._show(service, revision, State.CONDITION_FAILED, why)

    async def _show(self, service: types.Service, revision: types.Revision, state: int, message: str) -> None:
        revision = service_resources.revision_condition(revision, state, message, self._ground.clock())
        before = self._services[service.name]
        stored = Stored(before.container, service, {**before.revisions, revision.name: revision})
        self._services[service.name] = stored
        await self._save(stored, revision)

    async def _save(self, stored: Stored, revision: types.Revision | None = None) -> None:
        """Write the service, and one of its revisions if that changed too."""
        await self._ground.storage.save(Row(stored.service, stored.container), *([Row(revision)] if revision else []))


def is_deleted(stored: Stored) -> bool:
    """Whether a deletion has begun."""
    return bool(stored.service.delete_time)


def _owner(revision: types.Revision) -> str:
    return revision.name.split("/revisions/", 1)[0]


def _not_ready(revision: types.Revision, why: str) -> str:
    return f"Revision '{id_of(revision.name)}' is not ready and cannot serve traffic. {why}"


def _did_not_start(revision: types.Revision, why: StartFailed) -> exceptions.FailedPrecondition:
    """Cloud Run reports FAILED_PRECONDITION (code 9) for a container that does not become ready."""
    return exceptions.FailedPrecondition(_not_ready(revision, str(why)))
