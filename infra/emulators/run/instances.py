"""google.cloud.run.v2.Instances: requests checked as the real service does, and answered with operations."""

import grpc
from google.api_core import exceptions
from google.cloud.run_v2 import types
from google.longrunning import operations_pb2

from infra.emulators.rpc import Method, service
from infra.emulators.run import instance_resources, resources
from infra.emulators.run.answers import Answers, already_exists, as_is, check_etag, check_quota, not_found, outcome
from infra.emulators.run.ground import Ground
from infra.emulators.run.instance_fleet import InstanceFleet
from infra.emulators.run.instance_rules import check_instance, check_instance_id
from infra.emulators.run.names import InstanceName, Location
from infra.emulators.run.paging import listed
from infra.emulators.run.rules import violation


class Instances:
    """An instance's container has its id, or with a suffix when that is taken; its only URL is below `urls`."""

    def __init__(
        self,
        fleet: InstanceFleet,
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
                "google.cloud.run.v2.Instances",
                {
                    "CreateInstance": Method(self._create, types.CreateInstanceRequest, operation),
                    "GetInstance": Method(self._get, types.GetInstanceRequest, types.Instance),
                    "ListInstances": Method(self._list, types.ListInstancesRequest, types.ListInstancesResponse),
                    "StartInstance": Method(self._start, types.StartInstanceRequest, operation),
                    "StopInstance": Method(self._stop, types.StopInstanceRequest, operation),
                    "DeleteInstance": Method(self._delete, types.DeleteInstanceRequest, operation),
                },
            )
        ]

    async def _get(self, request: types.GetInstanceRequest) -> types.Instance:
        return self._existing(InstanceName.parse(request.name, "GetInstanceRequest.name"))

    async def _list(self, request: types.ListInstancesRequest) -> types.ListInstancesResponse:
        names = self._fleet.below(Location.parse(request.parent, "ListInstancesRequest.parent"))
        instances, token = listed(map(self._fleet.shown, names), request)
        return types.ListInstancesResponse(instances=instances, next_page_token=token)

    async def _create(self, request: types.CreateInstanceRequest) -> operations_pb2.Operation:
        parent = Location.parse(request.parent, "CreateInstanceRequest.parent")
        check_instance_id(request.instance_id, "CreateInstanceRequest.instance_id")
        if "instance" not in request:
            raise violation("CreateInstanceRequest.instance", "required field not present")
        check_instance(request.instance, "CreateInstanceRequest.instance")
        name = parent.instance(request.instance_id)
        await self._fleet.deletion(str(name))
        if str(name) in self._fleet:
            raise already_exists(name)
        check_quota(len(self._fleet.below(parent)), self._quota, parent, "instances")
        container = self._ground.names.free(name)
        url = f"{self._urls}/{container}"
        created = instance_resources.new_instance(name, request.instance, url, self._ground.clock())
        if request.validate_only:
            return await self._answers.operation(parent, as_is(created), created)
        self._fleet.add(container, created)
        return await self._answers.operation(parent, self._fleet.start(created.name), created)

    async def _start(self, request: types.StartInstanceRequest) -> operations_pb2.Operation:
        name = InstanceName.parse(request.name, "StartInstanceRequest.name")
        instance = self._living(name, request.etag)
        work = as_is(instance) if request.validate_only else self._fleet.start(str(name))
        return await self._answers.operation(name.parent, work, instance)

    async def _stop(self, request: types.StopInstanceRequest) -> operations_pb2.Operation:
        name = InstanceName.parse(request.name, "StopInstanceRequest.name")
        instance = self._living(name, request.etag)
        work = as_is(instance) if request.validate_only else self._fleet.stop(str(name))
        return await self._answers.operation(name.parent, work, instance)

    async def _delete(self, request: types.DeleteInstanceRequest) -> operations_pb2.Operation:
        name = InstanceName.parse(request.name, "DeleteInstanceRequest.name")
        await self._fleet.deletion(str(name))
        instance = self._existing(name)
        check_etag(instance, request.etag)
        gone = resources.being_deleted(instance, self._ground.clock())
        if request.validate_only:
            return await self._answers.operation(name.parent, as_is(gone), gone)
        return await self._answers.operation(name.parent, outcome(self._fleet.begin_deletion(gone)), gone)

    def _existing(self, name: InstanceName) -> types.Instance:
        if str(name) not in self._fleet:
            raise not_found(name)
        return self._fleet.shown(str(name))

    def _living(self, name: InstanceName, etag: str) -> types.Instance:
        """One to start or stop. Raises FailedPrecondition: it is being deleted."""
        instance = self._existing(name)
        if instance.delete_time:
            raise exceptions.FailedPrecondition(f"Instance '{name.id}' is being deleted.")
        check_etag(instance, etag)
        return instance
