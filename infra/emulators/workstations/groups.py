"""Clusters and configs over gRPC: what workstations belong to. Making and changing one takes no time here."""

import asyncio
import datetime
from collections.abc import Callable

from google.api_core import exceptions
from google.cloud.workstations_v1 import types
from google.longrunning.operations_pb2 import Operation

from infra.emulators.rpc import Method
from infra.emulators.workstations import resources
from infra.emulators.workstations.answers import Answers, already_exists, check_etag, listed, not_found
from infra.emulators.workstations.fleet import Fleet
from infra.emulators.workstations.names import Level, check_id, child, is_below, parent_of, parse, parse_parent
from infra.emulators.workstations.validation import check_cluster, check_config, check_mask, violation


class Groups:
    """The methods of both kinds."""

    def __init__(self, fleet: Fleet, answers: Answers, clock: Callable[[], datetime.datetime]) -> None:
        self._fleet = fleet
        self._answers = answers
        self._clock = clock

    def methods(self) -> dict[str, Method]:
        t = types
        configs = t.ListUsableWorkstationConfigsRequest, t.ListUsableWorkstationConfigsResponse
        return {
            "GetWorkstationCluster": Method(self._get_cluster, t.GetWorkstationClusterRequest, t.WorkstationCluster),
            "ListWorkstationClusters": Method(
                self._list_clusters, t.ListWorkstationClustersRequest, t.ListWorkstationClustersResponse
            ),
            "CreateWorkstationCluster": Method(self._create_cluster, t.CreateWorkstationClusterRequest, Operation),
            "UpdateWorkstationCluster": Method(self._update_cluster, t.UpdateWorkstationClusterRequest, Operation),
            "DeleteWorkstationCluster": Method(self._delete_cluster, t.DeleteWorkstationClusterRequest, Operation),
            "GetWorkstationConfig": Method(self._get_config, t.GetWorkstationConfigRequest, t.WorkstationConfig),
            "ListWorkstationConfigs": Method(
                self._list_configs, t.ListWorkstationConfigsRequest, t.ListWorkstationConfigsResponse
            ),
            "ListUsableWorkstationConfigs": Method(self._list_usable, *configs),
            "CreateWorkstationConfig": Method(self._create_config, t.CreateWorkstationConfigRequest, Operation),
            "UpdateWorkstationConfig": Method(self._update_config, t.UpdateWorkstationConfigRequest, Operation),
            "DeleteWorkstationConfig": Method(self._delete_config, t.DeleteWorkstationConfigRequest, Operation),
        }

    async def _get_cluster(self, request: types.GetWorkstationClusterRequest) -> types.WorkstationCluster:
        return self._cluster(parse(request.name, Level.CLUSTER, "GetWorkstationClusterRequest.name"))

    async def _list_clusters(
        self, request: types.ListWorkstationClustersRequest
    ) -> types.ListWorkstationClustersResponse:
        kind = "ListWorkstationClustersRequest"
        parent = parse_parent(request.parent, Level.LOCATION, f"{kind}.parent")
        names, token = listed(self._fleet.clusters, parent, request.page_size, request.page_token, kind, request.filter)
        return types.ListWorkstationClustersResponse(
            workstation_clusters=[self._fleet.clusters[name] for name in names], next_page_token=token
        )

    async def _create_cluster(self, request: types.CreateWorkstationClusterRequest) -> Operation:
        kind = "CreateWorkstationClusterRequest"
        parent = parse(request.parent, Level.LOCATION, f"{kind}.parent")
        check_id(request.workstation_cluster_id, f"{kind}.workstation_cluster_id")
        _present("workstation_cluster" in request, f"{kind}.workstation_cluster")
        check_cluster(request.workstation_cluster, f"{kind}.workstation_cluster")
        name = child(parent, Level.CLUSTER, request.workstation_cluster_id)
        if name in self._fleet.clusters:
            raise already_exists(name)
        made = resources.new(name, request.workstation_cluster, self._clock())
        return await self._written("create", made, request.validate_only)

    async def _update_cluster(self, request: types.UpdateWorkstationClusterRequest) -> Operation:
        kind = "UpdateWorkstationClusterRequest"
        asked: types.WorkstationCluster = request.workstation_cluster
        name = parse(asked.name, Level.CLUSTER, f"{kind}.workstation_cluster.name")
        if request.allow_missing and name not in self._fleet.clusters:
            check_cluster(asked, f"{kind}.workstation_cluster")
            return await self._written("create", resources.new(name, asked, self._clock()), request.validate_only)
        current = self._cluster(name)
        check_etag(current, asked.etag)
        paths = list(request.update_mask.paths)
        wanted: types.WorkstationCluster = resources.merged(current, asked, paths)
        check_mask(paths, current, wanted, kind)
        check_cluster(wanted, f"{kind}.workstation_cluster")
        return await self._written("update", resources.changed(wanted, self._clock()), request.validate_only)

    async def _delete_cluster(self, request: types.DeleteWorkstationClusterRequest) -> Operation:
        name = parse(request.name, Level.CLUSTER, "DeleteWorkstationClusterRequest.name")
        current = self._cluster(name)
        check_etag(current, request.etag)
        configs = [config for config in self._fleet.configs if is_below(config, name)]
        if configs and not request.force:
            raise exceptions.FailedPrecondition(
                f"Resource '{name}' has nested resources: {len(configs)} workstation configurations. "
                "Delete them first, or set force to true."
            )
        if request.validate_only:
            return await self._answers.preview("delete", current)

        async def delete() -> types.WorkstationCluster:
            for config in configs:
                await self._emptied(config)
            return await self._fleet.forget(current)

        return await self._answers.operation("delete", name, delete())

    async def _get_config(self, request: types.GetWorkstationConfigRequest) -> types.WorkstationConfig:
        return self._config(parse(request.name, Level.CONFIG, "GetWorkstationConfigRequest.name"))

    async def _list_configs(self, request: types.ListWorkstationConfigsRequest) -> types.ListWorkstationConfigsResponse:
        kind = "ListWorkstationConfigsRequest"
        parent = parse_parent(request.parent, Level.CLUSTER, f"{kind}.parent")
        names, token = listed(self._fleet.configs, parent, request.page_size, request.page_token, kind, request.filter)
        return types.ListWorkstationConfigsResponse(
            workstation_configs=[self._fleet.configs[name] for name in names], next_page_token=token
        )

    async def _list_usable(
        self, request: types.ListUsableWorkstationConfigsRequest
    ) -> types.ListUsableWorkstationConfigsResponse:
        """Everybody may use everything here."""
        kind = "ListUsableWorkstationConfigsRequest"
        parent = parse_parent(request.parent, Level.CLUSTER, f"{kind}.parent")
        names, token = listed(self._fleet.configs, parent, request.page_size, request.page_token, kind)
        return types.ListUsableWorkstationConfigsResponse(
            workstation_configs=[self._fleet.configs[name] for name in names], next_page_token=token
        )

    async def _create_config(self, request: types.CreateWorkstationConfigRequest) -> Operation:
        kind = "CreateWorkstationConfigRequest"
        parent = parse(request.parent, Level.CLUSTER, f"{kind}.parent")
        check_id(request.workstation_config_id, f"{kind}.workstation_config_id")
        _present("workstation_config" in request, f"{kind}.workstation_config")
        check_config(request.workstation_config, f"{kind}.workstation_config")
        self._cluster(parent)
        name = child(parent, Level.CONFIG, request.workstation_config_id)
        if name in self._fleet.configs:
            raise already_exists(name)
        made = resources.new(name, request.workstation_config, self._clock())
        return await self._written("create", made, request.validate_only)

    async def _update_config(self, request: types.UpdateWorkstationConfigRequest) -> Operation:
        kind = "UpdateWorkstationConfigRequest"
        asked: types.WorkstationConfig = request.workstation_config
        name = parse(asked.name, Level.CONFIG, f"{kind}.workstation_config.name")
        self._cluster(parent_of(name))
        if request.allow_missing and name not in self._fleet.configs:
            check_config(asked, f"{kind}.workstation_config")
            return await self._written("create", resources.new(name, asked, self._clock()), request.validate_only)
        current = self._config(name)
        check_etag(current, asked.etag)
        paths = list(request.update_mask.paths)
        wanted: types.WorkstationConfig = resources.merged(current, asked, paths)
        check_mask(paths, current, wanted, kind)
        check_config(wanted, f"{kind}.workstation_config")
        return await self._written("update", resources.changed(wanted, self._clock()), request.validate_only)

    async def _delete_config(self, request: types.DeleteWorkstationConfigRequest) -> Operation:
        name = parse(request.name, Level.CONFIG, "DeleteWorkstationConfigRequest.name")
        current = self._config(name)
        check_etag(current, request.etag)
        there = [one for one in self._fleet.workstations if is_below(one, name)]
        if there and not request.force:
            raise exceptions.FailedPrecondition(
                f"Resource '{name}' has nested resources: {len(there)} workstations. "
                "Delete them first, or set force to true."
            )
        if request.validate_only:
            return await self._answers.preview("delete", current)
        return await self._answers.operation("delete", name, self._emptied(name))

    async def _emptied(self, name: str) -> types.WorkstationConfig:
        """Delete a config with its workstations."""
        while there := [one for one in self._fleet.workstations if is_below(one, name)]:
            await asyncio.gather(*(self._fleet.deleted(one) for one in there))
        return await self._fleet.forget(self._fleet.configs[name])

    async def _written(
        self, verb: str, group: types.WorkstationCluster | types.WorkstationConfig, validate_only: bool
    ) -> Operation:
        if validate_only:
            return await self._answers.preview(verb, group)
        return await self._answers.operation(verb, group.name, self._fleet.save(group))

    def _cluster(self, name: str) -> types.WorkstationCluster:
        found = self._fleet.clusters.get(name)
        if found is None:
            raise not_found(name)
        return found

    def _config(self, name: str) -> types.WorkstationConfig:
        found = self._fleet.configs.get(name)
        if found is None:
            raise not_found(name)
        return found


def _present(there: bool, field: str) -> None:
    if not there:
        raise violation(field, "required field not present")
