"""google.cloud.run.v2.Services: requests checked as the real service does, and answered with operations."""

import grpc
from google.api_core import exceptions
from google.cloud.run_v2 import types
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2

from infra.emulators.rpc import Method, service
from infra.emulators.run import resources, service_resources
from infra.emulators.run.answers import Answers, already_exists, as_is, check_etag, check_quota, not_found, outcome
from infra.emulators.run.fleet import Fleet, Stored, is_deleted
from infra.emulators.run.ground import Ground
from infra.emulators.run.names import Location, ServiceName
from infra.emulators.run.paging import listed
from infra.emulators.run.rules import violation
from infra.emulators.run.service_rules import check_service, check_service_id


class Services:
    """A service's container has the service's id, or with a suffix when that is taken; its `uri` is below `urls`."""

    def __init__(
        self,
        fleet: Fleet,
        answers: Answers,
        ground: Ground,
        *,
        urls: str,
        quota: int,
    ) -> None:
        self._fleet = fleet
        self._answers = answers
        self._ground = ground
        self._urls = urls
        self._quota = quota

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
        ]

    async def _get(self, request: types.GetServiceRequest) -> types.Service:
        name = ServiceName.parse(request.name, "GetServiceRequest.name")
        self._existing(name)
        return self._fleet.shown(str(name))

    async def _list(self, request: types.ListServicesRequest) -> types.ListServicesResponse:
        names = self._fleet.below(Location.parse(request.parent, "ListServicesRequest.parent"))
        services, token = listed(map(self._fleet.shown, names), request)
        return types.ListServicesResponse(services=services, next_page_token=token)

    async def _create(self, request: types.CreateServiceRequest) -> operations_pb2.Operation:
        parent = Location.parse(request.parent, "CreateServiceRequest.parent")
        check_service_id(request.service_id, "CreateServiceRequest.service_id")
        if "service" not in request:
            raise violation("CreateServiceRequest.service", "required field not present")
        check_service(request.service, request.service_id, "CreateServiceRequest.service")
        name = parent.service(request.service_id)
        await self._fleet.deletion(str(name))
        if str(name) in self._fleet:
            raise already_exists(name)
        return await self._create_valid(name, request.service, request.validate_only)

    async def _create_valid(
        self, name: ServiceName, asked: types.Service, validate_only: bool
    ) -> operations_pb2.Operation:
        check_quota(len(self._fleet.below(name.parent)), self._quota, name.parent, "services")
        container = self._ground.names.free(name)
        created = service_resources.new_service(name, asked, f"{self._urls}/{container}", self._ground.clock())
        if validate_only:
            return await self._answers.operation(name.parent, as_is(created), created)
        revision = self._fleet.add(container, created)
        return await self._answers.operation(name.parent, self._fleet.roll_out(revision), self._fleet.shown(str(name)))

    async def _update(self, request: types.UpdateServiceRequest) -> operations_pb2.Operation:
        name = ServiceName.parse(request.service.name, "UpdateServiceRequest.service.name")
        if request.allow_missing and str(name) not in self._fleet:
            check_service_id(name.id, "UpdateServiceRequest.service.name")
            check_service(request.service, name.id, "UpdateServiceRequest.service")
            return await self._create_valid(name, request.service, request.validate_only)
        stored = self._existing(name)
        if is_deleted(stored):
            raise exceptions.FailedPrecondition(f"Service '{name.id}' is being deleted.")
        check_etag(stored.service, request.service.etag)
        paths = list(request.update_mask.paths)
        _check_mask(paths)
        wanted = service_resources.merged_service(stored.service, request.service, paths)
        check_service(wanted, name.id, "UpdateServiceRequest.service")
        updated = service_resources.updated_service(stored.service, wanted, self._ground.clock())
        rolls_out = not service_resources.same_template(updated, stored.service)
        if rolls_out and name.revision(updated.template.revision) in stored.revisions:
            raise exceptions.AlreadyExists(
                f"Revision named '{updated.template.revision}' with different configuration already exists."
            )
        if request.validate_only:
            return await self._answers.operation(name.parent, as_is(updated), updated)
        if not rolls_out:
            return await self._answers.operation(name.parent, self._fleet.change(updated), updated)
        revision = self._fleet.begin_revision(updated)
        return await self._answers.operation(name.parent, self._fleet.roll_out(revision), self._fleet.shown(str(name)))

    async def _delete(self, request: types.DeleteServiceRequest) -> operations_pb2.Operation:
        name = ServiceName.parse(request.name, "DeleteServiceRequest.name")
        await self._fleet.deletion(str(name))
        stored = self._existing(name)
        check_etag(stored.service, request.etag)
        deleted = resources.being_deleted(stored.service, self._ground.clock())
        if request.validate_only:
            return await self._answers.operation(name.parent, as_is(deleted), deleted)
        return await self._answers.operation(name.parent, outcome(self._fleet.begin_deletion(deleted)), deleted)

    def _existing(self, name: ServiceName) -> Stored:
        stored = self._fleet.get(str(name))
        if stored is None:
            raise not_found(name)
        return stored


def _check_mask(paths: list[str]) -> None:
    for path in paths:
        mask = field_mask_pb2.FieldMask(paths=[path])
        if path != "*" and not mask.IsValidForDescriptor(types.Service.pb().DESCRIPTOR):
            raise violation("UpdateServiceRequest.update_mask", f"'{path}' is not a field of a service")
