"""google.cloud.run.v2.Services: requests checked as the real service does, and answered with operations."""

import asyncio
import datetime
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.api_core import exceptions
from google.cloud.run_v2 import types
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2
from google.protobuf.message import Message

from infra.emulators.operations import Operations
from infra.emulators.rpc import Method, service
from infra.emulators.run import resources
from infra.emulators.run.fleet import Fleet, is_deleted, utc_now
from infra.emulators.run.names import Location, ServiceName
from infra.emulators.run.paging import page
from infra.emulators.run.revisions import Revisions
from infra.emulators.run.storage import Stored
from infra.emulators.run.validation import check_service, check_service_id, violation
from infra.sandbox.spec import Runtime

SERVICES_PER_REGION = 1000  # of a project: cloud.google.com/run/quotas


class CloudRun:
    """Services and Revisions over gRPC. Its state is the SQLite file at `path`, and survives a restart.

    A service's container has the service's id, or with a suffix when another project or region has that id already; the
    service's `uri` is `<gateway_url>/run/<container>`. `buckets` is the folder whose subfolders are buckets; what NFS
    servers export is in `filestore`/<server>/<path> beside the SQLite file.
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
        self._fleet = Fleet(path, runtime, buckets, clock)
        self._operations = operations
        self._gateway_url = gateway_url.rstrip("/")
        self._services_per_region = services_per_region
        self._clock = clock

    async def __aenter__(self) -> Self:
        await self._fleet.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._fleet.__aexit__(kind, exc, trace)

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
            *Revisions(self._fleet).handlers(),
        ]

    async def _get(self, request: types.GetServiceRequest) -> types.Service:
        name = ServiceName.parse(request.name, "GetServiceRequest.name")
        self._existing(name)
        return self._fleet.shown(str(name))

    async def _list(self, request: types.ListServicesRequest) -> types.ListServicesResponse:
        """Of deleted services there are only those whose deletion is under way."""
        parent = Location.parse(request.parent, "ListServicesRequest.parent")
        names = [s.service.name for s in self._fleet.below(parent) if request.show_deleted or not is_deleted(s)]
        chosen, token = page(names, request.page_size, request.page_token, "ListServicesRequest")
        return types.ListServicesResponse(services=[self._fleet.shown(name) for name in chosen], next_page_token=token)

    async def _create(self, request: types.CreateServiceRequest) -> operations_pb2.Operation:
        parent = Location.parse(request.parent, "CreateServiceRequest.parent")
        check_service_id(request.service_id, "CreateServiceRequest.service_id")
        if "service" not in request:
            raise violation("CreateServiceRequest.service", "required field not present")
        check_service(request.service, request.service_id, "CreateServiceRequest.service")
        name = parent.service(request.service_id)
        await self._fleet.deletion(str(name))
        if str(name) in self._fleet:
            raise exceptions.AlreadyExists(f"Resource '{name.id}' already exists.")
        return await self._create_valid(name, request.service, request.validate_only)

    async def _create_valid(
        self, name: ServiceName, asked: types.Service, validate_only: bool
    ) -> operations_pb2.Operation:
        there = len(self._fleet.below(name.parent))
        if there >= self._services_per_region:
            raise exceptions.ResourceExhausted(
                f"Quota exceeded: there are {there} services of {self._services_per_region} in region "
                f"'{name.parent.location}' of project '{name.parent.project}'."
            )
        container = self._fleet.free_container(name)
        created = resources.new_service(name, asked, f"{self._gateway_url}/run/{container}", self._clock())
        if validate_only:
            return await self._answer(name, _as_is(created), created)
        revision = self._fleet.add(container, created)
        return await self._answer(name, self._fleet.roll_out(revision), self._fleet.shown(str(name)))

    async def _update(self, request: types.UpdateServiceRequest) -> operations_pb2.Operation:
        name = ServiceName.parse(request.service.name, "UpdateServiceRequest.service.name")
        if request.allow_missing and str(name) not in self._fleet:
            check_service_id(name.id, "UpdateServiceRequest.service.name")
            check_service(request.service, name.id, "UpdateServiceRequest.service")
            return await self._create_valid(name, request.service, request.validate_only)
        stored = self._existing(name)
        if is_deleted(stored):
            raise exceptions.FailedPrecondition(f"Service '{name.id}' is being deleted.")
        _check_etag(stored, request.service.etag)
        paths = list(request.update_mask.paths)
        _check_mask(paths)
        wanted = resources.merged(stored.service, request.service, paths)
        check_service(wanted, name.id, "UpdateServiceRequest.service")
        updated = resources.updated_service(stored.service, wanted, self._clock())
        rolls_out = not resources.same_template(updated, stored.service)
        if rolls_out and name.revision(updated.template.revision) in stored.revisions:
            raise exceptions.AlreadyExists(
                f"Revision named '{updated.template.revision}' with different configuration already exists."
            )
        if request.validate_only:
            return await self._answer(name, _as_is(updated), updated)
        if not rolls_out:
            return await self._answer(name, self._fleet.change(updated), updated)
        revision = self._fleet.begin_revision(updated)
        return await self._answer(name, self._fleet.roll_out(revision), self._fleet.shown(str(name)))

    async def _delete(self, request: types.DeleteServiceRequest) -> operations_pb2.Operation:
        name = ServiceName.parse(request.name, "DeleteServiceRequest.name")
        await self._fleet.deletion(str(name))
        stored = self._existing(name)
        _check_etag(stored, request.etag)
        deleted = resources.being_deleted(stored.service, self._clock())
        if request.validate_only:
            return await self._answer(name, _as_is(deleted), deleted)
        return await self._answer(name, _outcome(self._fleet.begin_deletion(deleted)), deleted)

    def _existing(self, name: ServiceName) -> Stored:
        stored = self._fleet.get(str(name))
        if stored is None:
            raise exceptions.NotFound(
                f"Resource '{name.id}' of kind 'SERVICE' in region '{name.parent.location}' in project "
                f"'{name.parent.project}' does not exist."
            )
        return stored

    async def _answer(
        self, name: ServiceName, work: Coroutine[Any, Any, types.Service], begun: types.Service
    ) -> operations_pb2.Operation:
        async def message() -> Message:
            answer: Message = types.Service.pb(await work)
            return answer

        return await self._operations.run(str(name.parent), message(), types.Service.pb(begun))


async def _as_is(answer: types.Service) -> types.Service:
    return answer


async def _outcome(deletion: asyncio.Task[types.Service]) -> types.Service:
    return await asyncio.shield(deletion)


def _check_etag(stored: Stored, etag: str) -> None:
    if etag and etag != stored.service.etag:
        raise exceptions.Aborted(
            f"Conflict for resource '{stored.service.name}': etag {etag} was specified but the current one is "
            f"{stored.service.etag}."
        )


def _check_mask(paths: list[str]) -> None:
    for path in paths:
        mask = field_mask_pb2.FieldMask(paths=[path])
        if path != "*" and not mask.IsValidForDescriptor(types.Service.pb().DESCRIPTOR):
            raise violation("UpdateServiceRequest.update_mask", f"'{path}' is not a field of a service")
