"""google.cloud.run.v2.Revisions: what a service has been; read here, made by services."""

from collections.abc import Mapping

import grpc
from google.api_core import exceptions
from google.cloud.run_v2 import types

from infra.emulators.rpc import Method, service
from infra.emulators.run.fleet import Stored
from infra.emulators.run.names import Location, ServiceName, parse_revision
from infra.emulators.run.paging import listed


class Revisions:
    """`services` is the living state of all services, by name. Revisions go when their service does."""

    def __init__(self, services: Mapping[str, Stored]) -> None:
        self._services = services

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        return [
            service(
                "google.cloud.run.v2.Revisions",
                {
                    "GetRevision": Method(self._get, types.GetRevisionRequest, types.Revision),
                    "ListRevisions": Method(self._list, types.ListRevisionsRequest, types.ListRevisionsResponse),
                },
            )
        ]

    async def _get(self, request: types.GetRevisionRequest) -> types.Revision:
        name, revision_id = parse_revision(request.name, "GetRevisionRequest.name")
        stored = self._services.get(str(name))
        if stored is None or request.name not in stored.revisions:
            raise exceptions.NotFound(f"Revision '{revision_id}' of service '{name.id}' does not exist.")
        return stored.revisions[request.name]

    async def _list(self, request: types.ListRevisionsRequest) -> types.ListRevisionsResponse:
        """Below a service, or below all services of a location with "-" for the service, as in the cloud."""
        field = "ListRevisionsRequest.parent"
        if request.parent.endswith("/services/-"):
            parent = Location.parse(request.parent.removesuffix("/services/-"), field)
            services = [s for name, s in self._services.items() if name.startswith(f"{parent}/services/")]
        else:
            name = ServiceName.parse(request.parent, field)
            services = [stored] if (stored := self._services.get(str(name))) else []
        revisions, token = listed((revision for stored in services for revision in stored.revisions.values()), request)
        return types.ListRevisionsResponse(revisions=revisions, next_page_token=token)
