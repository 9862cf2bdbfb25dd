"""google.cloud.run.v2.Services: each service becomes one sandbox that is kept running."""

import asyncio
import dataclasses
import datetime
import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from google.api_core import exceptions
from google.cloud.run_v2 import types
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2

from infra.emulators.operations import Operations
from infra.emulators.rpc import Method, service
from infra.emulators.run import resources
from infra.emulators.run.containers import Containers, Observed, Phase, StartFailed, Superseded, Wanted
from infra.emulators.run.names import Location, ServiceName
from infra.emulators.run.paging import page
from infra.emulators.run.resources import Reason, State
from infra.emulators.run.revisions import Revisions
from infra.emulators.run.specs import Folders, wanted_container
from infra.emulators.run.storage import Storage, Stored
from infra.emulators.run.validation import check_service, check_service_id, violation
from infra.sandbox import Runtime

log = logging.getLogger(__name__)

SERVICES_PER_REGION = 1000  # cloud.google.com/run/quotas: of a project and region
FAILURES_UNTIL_FAILED = 2  # in a row; the first fall of a container is a restart, and shown as reconciling


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class CloudRun:
    """Services live in memory and, written through, in the SQLite file at `path`: they survive a restart.

    The container of a service is named like the service; a second service of that name, in another project or region,
    gets a suffix. It is reached through the gateway at the service's `uri`, `<gateway_url>/run/<container>`.
    """

    def __init__(
        self,
        path: Path,
        *,
        runtime: Runtime,
        operations: Operations,
        buckets: Path,
        gateway_url: str,
        services_per_region: int = SERVICES_PER_REGION,
        clock: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        self._runtime = runtime
        self._operations = operations
        self._storage = Storage(path)
        self._folders = Folders(buckets=buckets, scratch=path.parent / "volumes")
        self._gateway_url = gateway_url.rstrip("/")
        self._services_per_region = services_per_region
        self._clock = clock
        self._containers = Containers(runtime, self._observe)
        self._services: dict[str, Stored] = {}
        self._names: dict[str, str] = {}  # container -> service
        self._facts: dict[str, Mapping[str, str]] = {}  # service -> facts of its sandbox, while that is ready
        self._deletions: dict[str, asyncio.Task[types.Service]] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Starts the containers of all known services again, in the background."""
        await self._open.enter_async_context(self._storage)
        await self._open.enter_async_context(self._containers)
        self._open.push_async_callback(self._end_deletions)
        for stored in await self._storage.load():
            self._services[stored.service.name] = stored
            self._names[stored.container] = stored.service.name
        for name in list(self._services):
            await self._resume(name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        operation = operations_pb2.Operation
        return [
            service(
                "google.cloud.run.v2.Services",
                {
                    "CreateService": Method(self._create, types.CreateServiceRequest, operation),
                    "GetService": Method(self._get, types.GetServiceRequest, types.Service),
                    "ListServices": Method(self._list, types.ListServicesRequest, types.ListServicesResponse),
                    "UpdateService": Method(self._update, types.UpdateServiceRequest, operation),
                    "DeleteService": Method(self._delete, types.DeleteServiceRequest, operation),
                },
            ),
            *Revisions(self._services).handlers(),
        ]

    # --- reads

    async def _get(self, request: types.GetServiceRequest) -> types.Service:
        return self._shown(self._existing(ServiceName.parse(request.name, "GetServiceRequest.name")))

    async def _list(self, request: types.ListServicesRequest) -> types.ListServicesResponse:
        parent = Location.parse(request.parent, "ListServicesRequest.parent")
        names = [
            name
            for name, stored in self._services.items()
            if name.startswith(f"{parent}/services/") and (request.show_deleted or not _is_deleted(stored))
        ]
        chosen, token = page(names, request.page_size, request.page_token, "ListServicesRequest")
        return types.ListServicesResponse(
            services=[self._shown(self._services[name]) for name in chosen], next_page_token=token
        )

    def _existing(self, name: ServiceName) -> Stored:
        stored = self._services.get(str(name))
        if stored is None:
            raise exceptions.NotFound(
                f"Resource '{name.id}' of kind 'SERVICE' in region '{name.parent.location}' in project "
                f"'{name.parent.project}' does not exist."
            )
        return stored

    def _shown(self, stored: Stored) -> types.Service:
        return resources.with_facts(stored.service, self._facts.get(stored.service.name, {}))

    # --- writes

    async def _create(self, request: types.CreateServiceRequest) -> operations_pb2.Operation:
        parent = Location.parse(request.parent, "CreateServiceRequest.parent")
        check_service_id(request.service_id, "CreateServiceRequest.service_id")
        name = parent.service(request.service_id)
        if "service" not in request:
            raise violation("CreateServiceRequest.service", "required field not present")
        check_service(request.service, name.id, "CreateServiceRequest.service")
        if deletion := self._deletions.get(str(name)):
            await asyncio.wait({deletion})
        return await self._create_valid(name, request.service, request.validate_only)

    async def _create_valid(
        self, name: ServiceName, asked: types.Service, validate_only: bool
    ) -> operations_pb2.Operation:
        if str(name) in self._services:
            raise exceptions.AlreadyExists(f"Resource '{name.id}' already exists.")
        there = sum(1 for other in self._services if other.startswith(f"{name.parent}/services/"))
        if there >= self._services_per_region:
            raise exceptions.ResourceExhausted(
                f"Quota exceeded: {there} services of {self._services_per_region} in region '{name.parent.location}' "
                f"of project '{name.parent.project}'."
            )
        now = self._clock()
        container = self._free_container(name)
        created = resources.new_service(name, asked, f"{self._gateway_url}/run/{container}", now)
        if validate_only:
            return await self._operations.run(str(name.parent), _done(created), types.Service.pb(created))
        self._names[container] = str(name)
        self._services[str(name)] = Stored(container, created)
        return await self._roll_out_next(name, now)

    async def _update(self, request: types.UpdateServiceRequest) -> operations_pb2.Operation:
        name = ServiceName.parse(request.service.name, "UpdateServiceRequest.service.name")
        if request.allow_missing and str(name) not in self._services:
            check_service_id(name.id, "UpdateServiceRequest.service.name")
            check_service(request.service, name.id, "UpdateServiceRequest.service")
            return await self._create_valid(name, request.service, request.validate_only)
        stored = self._existing(name)
        _check_alive(stored)
        _check_etag(stored, request.service.etag)
        paths = list(request.update_mask.paths)
        _check_mask(paths)
        wanted = resources.merged(stored.service, request.service, paths)
        check_service(wanted, name.id, "UpdateServiceRequest.service")
        now = self._clock()
        updated = resources.updated_service(stored.service, wanted, now)
        rolls_out = not resources.same_template(updated, stored.service)
        if rolls_out and f"{name}/revisions/{updated.template.revision}" in stored.revisions:
            raise exceptions.AlreadyExists(
                f"Revision named '{updated.template.revision}' with different configuration already exists."
            )
        if request.validate_only:
            return await self._operations.run(str(name.parent), _done(updated), types.Service.pb(updated))
        self._services[str(name)] = dataclasses.replace(stored, service=updated)
        if rolls_out:
            return await self._roll_out_next(name, now)
        if updated.terminal_condition.state == State.CONDITION_SUCCEEDED:
            self._services[str(name)] = dataclasses.replace(stored, service=resources.ready(updated, now))
        return await self._operations.run(str(name.parent), self._saved(name), types.Service.pb(updated))

    async def _delete(self, request: types.DeleteServiceRequest) -> operations_pb2.Operation:
        name = ServiceName.parse(request.name, "DeleteServiceRequest.name")
        if deletion := self._deletions.get(str(name)):
            await asyncio.wait({deletion})
        stored = self._existing(name)
        _check_etag(stored, request.etag)
        deleted = resources.being_deleted(stored.service, self._clock())
        if request.validate_only:
            return await self._operations.run(str(name.parent), _done(deleted), types.Service.pb(deleted))
        self._services[str(name)] = dataclasses.replace(stored, service=deleted)
        deletion = self._start_deletion(str(name))
        return await self._operations.run(str(name.parent), _outcome(deletion), types.Service.pb(deleted))

    # --- the work of operations

    async def _roll_out_next(self, name: ServiceName, now: datetime.datetime) -> operations_pb2.Operation:
        """Make the next revision of a service that is in place, and put it in the stead of the one that runs."""
        stored = self._services[str(name)]
        revision = resources.new_revision(stored.service, now)
        message = f"Deploying revision '{_id(revision.name)}'."
        begun = resources.reconciling(stored.service, message, Reason.WAITING_FOR_OPERATION, now)
        begun.latest_created_revision = revision.name
        stored = Stored(stored.container, begun, {**stored.revisions, revision.name: revision})
        self._services[str(name)] = stored
        self._facts.pop(str(name), None)
        return await self._operations.run(
            str(name.parent), self._roll_out(name, stored, revision), types.Service.pb(begun)
        )

    async def _roll_out(self, name: ServiceName, stored: Stored, revision: types.Revision) -> types.Service:
        await self._storage.save(stored, revision)
        try:
            wanted = await self._wanted(stored, revision)
            if self._services.get(str(name)) is not stored:
                raise Superseded(str(name))
            await self._containers.roll_out(wanted)
        except StartFailed as exc:
            await self._observe(stored.container, Observed(_id(revision.name), Phase.FAILED, str(exc)))
            await self._fall_back(str(name))
            raise exceptions.FailedPrecondition(_not_ready(revision.name, str(exc))) from exc
        except Superseded as exc:
            raise exceptions.Aborted(
                f"Revision '{_id(revision.name)}' was replaced or its service was deleted before it was ready."
            ) from exc
        return types.Service.pb(self._shown(self._existing(name)))  # type: ignore[no-any-return]

    async def _fall_back(self, name: str) -> None:
        """The last revision that was ready goes on serving when a newer one does not come up."""
        stored = self._services.get(name)
        if stored and (revision := stored.revisions.get(stored.service.latest_ready_revision)):
            self._containers.keep(await self._wanted(stored, revision))

    async def _wanted(self, stored: Stored, revision: types.Revision) -> Wanted:
        return await asyncio.to_thread(
            wanted_container, stored.container, _id(stored.service.name), revision, self._folders
        )

    async def _saved(self, name: ServiceName) -> types.Service:
        stored = self._existing(name)
        await self._storage.save(stored)
        return types.Service.pb(self._shown(stored))  # type: ignore[no-any-return]

    def _start_deletion(self, name: str) -> asyncio.Task[types.Service]:
        task = asyncio.create_task(self._remove(name), name=f"deletion of {name}")
        self._deletions[name] = task
        task.add_done_callback(lambda _: self._deletions.pop(name, None))
        return task

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

    # --- what happens to containers

    async def _resume(self, name: str) -> None:
        """Bring back what ran, or was about to, when the process ended. A service that failed stays as it is."""
        stored = self._services[name]
        if _is_deleted(stored):
            self._start_deletion(name)
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
                await self._observe(stored.container, Observed(_id(revision.name), Phase.FAILED, str(exc)))

    async def _observe(self, container: str, observed: Observed) -> None:
        """Show on the service what happened to its container; what happened to an older one only concerns the facts."""
        name = self._names.get(container, "")
        stored = self._services.get(name)
        if stored is None or _is_deleted(stored):
            return
        if observed.phase is Phase.READY:
            self._facts[name] = observed.facts
        else:
            self._facts.pop(name, None)
        latest = stored.service.latest_created_revision
        if _id(latest) != observed.revision:
            return
        now = self._clock()
        message = _not_ready(latest, observed.message)
        if observed.phase is Phase.READY:
            changed = resources.ready(stored.service, now)
            state = State.CONDITION_SUCCEEDED
        elif observed.phase is Phase.RESTARTING and observed.failures < FAILURES_UNTIL_FAILED:
            changed = resources.reconciling(stored.service, message, Reason.IMMEDIATE_RETRY, now)
            state = State.CONDITION_RECONCILING
        else:
            again = observed.phase is Phase.RESTARTING
            changed = resources.failed(stored.service, message, now, trying_again=again)
            state = State.CONDITION_FAILED
        revision = resources.revision_condition(stored.revisions[latest], state, observed.message, now)
        stored = Stored(container, changed, {**stored.revisions, latest: revision})
        self._services[name] = stored
        await self._storage.save(stored, revision)

    def _free_container(self, name: ServiceName) -> str:
        if name.id not in self._names:
            return name.id
        digest = hashlib.sha256(str(name).encode()).hexdigest()
        return next(c for n in range(6, 64) if (c := f"{name.id}-{digest[:n]}") not in self._names)


async def _done(answer: types.Service) -> types.Service:
    return types.Service.pb(answer)  # type: ignore[no-any-return]


async def _outcome(deletion: asyncio.Task[types.Service]) -> types.Service:
    return types.Service.pb(await asyncio.shield(deletion))  # type: ignore[no-any-return]


def _id(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _is_deleted(stored: Stored) -> bool:
    return bool(stored.service.delete_time)


def _not_ready(revision: str, why: str) -> str:
    return f"Revision '{_id(revision)}' is not ready and cannot serve traffic. {why}"


def _check_alive(stored: Stored) -> None:
    if _is_deleted(stored):
        raise exceptions.FailedPrecondition(f"Service '{_id(stored.service.name)}' is being deleted.")


def _check_etag(stored: Stored, etag: str) -> None:
    if etag and etag != stored.service.etag:
        raise exceptions.Aborted(
            f"Conflict for resource '{_id(stored.service.name)}': etag {etag} was specified but the current one is "
            f"{stored.service.etag}."
        )


def _check_mask(paths: list[str]) -> None:
    for path in paths:
        mask = field_mask_pb2.FieldMask(paths=[path])
        if path != "*" and not mask.IsValidForDescriptor(types.Service.pb().DESCRIPTOR):
            raise violation("UpdateServiceRequest.update_mask", f"'{path}' is not a field of a service")
