"""google.cloud.workstations.v1.Workstations: requests checked as the real service does, and answered with operations.

Clusters and configs are next door, in groups.
"""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from google.api_core import exceptions
from google.cloud.workstations_v1 import types
from google.longrunning.operations_pb2 import Operation

from infra.emulators.operations import Operations
from infra.emulators.rpc import Method, service
from infra.emulators.workstations import resources, tokens
from infra.emulators.workstations.answers import Answers, already_exists, check_etag, listed, not_found
from infra.emulators.workstations.fleet import Fleet, utc_now
from infra.emulators.workstations.groups import Groups
from infra.emulators.workstations.names import (
    Level,
    check_id,
    child,
    id_of,
    is_below,
    location_of,
    parent_of,
    parse,
    parse_parent,
)
from infra.emulators.workstations.resources import State
from infra.emulators.workstations.specs import machine_type
from infra.emulators.workstations.storage import Stored
from infra.emulators.workstations.validation import check_mask, check_workstation, violation
from infra.sandbox.spec import Runtime

log = logging.getLogger(__name__)

WORKSTATIONS_PER_REGION = 1000  # of a project; the cloud's own quota differs between projects
SWEEP_S = 1.0  # between looks for workstations whose time is up: a timeout is whole seconds
MAX_PORT = 65535


class Workstations:
    """The service. Its state is the SQLite file at `path` and what lies beside it, and survives a restart."""

    def __init__(
        self,
        path: Path,
        *,
        runtime: Runtime,
        operations: Operations,
        workstations_per_region: int = WORKSTATIONS_PER_REGION,
        clock: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        self.fleet = Fleet(path, runtime, clock)
        self.tokens = tokens.AccessTokens(path.with_suffix(".key"), clock)
        self._answers = Answers(operations, clock)
        self._workstations_per_region = workstations_per_region
        self._clock = clock
        self._sweeping: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        await self.fleet.__aenter__()
        self._sweeping = asyncio.create_task(self._sweep(), name="workstations' timeouts")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeping
        await self.fleet.__aexit__(kind, exc, trace)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        t = types
        usable = t.ListUsableWorkstationsRequest, t.ListUsableWorkstationsResponse
        token = t.GenerateAccessTokenRequest, t.GenerateAccessTokenResponse
        methods = {
            **Groups(self.fleet, self._answers, self._clock).methods(),
            "GetWorkstation": Method(self._get, t.GetWorkstationRequest, t.Workstation),
            "ListWorkstations": Method(self._list, t.ListWorkstationsRequest, t.ListWorkstationsResponse),
            "ListUsableWorkstations": Method(self._list_usable, *usable),
            "CreateWorkstation": Method(self._create, t.CreateWorkstationRequest, Operation),
            "UpdateWorkstation": Method(self._update, t.UpdateWorkstationRequest, Operation),
            "DeleteWorkstation": Method(self._delete, t.DeleteWorkstationRequest, Operation),
            "StartWorkstation": Method(self._start, t.StartWorkstationRequest, Operation),
            "StopWorkstation": Method(self._stop, t.StopWorkstationRequest, Operation),
            "GenerateAccessToken": Method(self._generate_access_token, *token),
        }
        return [service("google.cloud.workstations.v1.Workstations", methods)]

    async def _get(self, request: types.GetWorkstationRequest) -> types.Workstation:
        return self._existing(parse(request.name, Level.WORKSTATION, "GetWorkstationRequest.name")).workstation

    async def _list(self, request: types.ListWorkstationsRequest) -> types.ListWorkstationsResponse:
        kind = "ListWorkstationsRequest"
        parent = parse_parent(request.parent, Level.CONFIG, f"{kind}.parent")
        found = self.fleet.workstations
        names, token = listed(found, parent, request.page_size, request.page_token, kind, request.filter)
        return types.ListWorkstationsResponse(
            workstations=[found[name].workstation for name in names], next_page_token=token
        )

    async def _list_usable(self, request: types.ListUsableWorkstationsRequest) -> types.ListUsableWorkstationsResponse:
        """Everybody may use everything here."""
        kind = "ListUsableWorkstationsRequest"
        parent = parse_parent(request.parent, Level.CONFIG, f"{kind}.parent")
        found = self.fleet.workstations
        names, token = listed(found, parent, request.page_size, request.page_token, kind)
        return types.ListUsableWorkstationsResponse(
            workstations=[found[name].workstation for name in names], next_page_token=token
        )

    async def _create(self, request: types.CreateWorkstationRequest) -> Operation:
        kind = "CreateWorkstationRequest"
        parent = parse(request.parent, Level.CONFIG, f"{kind}.parent")
        check_id(request.workstation_id, f"{kind}.workstation_id")
        if "workstation" not in request:
            raise violation(f"{kind}.workstation", "required field not present")
        check_workstation(request.workstation, f"{kind}.workstation")
        name = child(parent, Level.WORKSTATION, request.workstation_id)
        await self.fleet.deletion(name)
        return await self._create_valid(name, request.workstation, request.validate_only)

    async def _create_valid(self, name: str, asked: types.Workstation, validate_only: bool) -> Operation:
        config = self.fleet.configs.get(parent_of(name))
        if config is None:
            raise not_found(parent_of(name))
        if name in self.fleet.workstations:
            raise already_exists(name)
        self._check_quota(name, config)
        cluster = self.fleet.clusters[parent_of(config.name)]
        made = resources.new(name, asked, self._clock())
        made.host = resources.host(id_of(name), cluster)
        if not self.fleet.is_host_free(made.host):  # another config has a workstation of that id
            made.host = f"{id_of(name)}-{made.uid[:6]}.{made.host.partition('.')[2]}"
        if validate_only:
            return await self._answers.preview("create", made)
        return await self._answers.operation("create", name, self.fleet.add(made))

    def _check_quota(self, name: str, config: types.WorkstationConfig) -> None:
        location = location_of(name)
        there = sum(location_of(one) == location for one in self.fleet.workstations)
        if there >= self._workstations_per_region:
            raise exceptions.ResourceExhausted(
                f"Quota exceeded: there are {there} workstations of {self._workstations_per_region} in '{location}'."
            )
        usable = sum(is_below(one, config.name) for one in self.fleet.workstations)
        if config.max_usable_workstations and usable >= config.max_usable_workstations:
            raise exceptions.ResourceExhausted(
                f"The workstation configuration '{config.name}' allows {config.max_usable_workstations} usable "
                f"workstations a user, and there are {usable}."
            )

    async def _update(self, request: types.UpdateWorkstationRequest) -> Operation:
        kind = "UpdateWorkstationRequest"
        asked: types.Workstation = request.workstation
        name = parse(asked.name, Level.WORKSTATION, f"{kind}.workstation.name")
        if request.allow_missing and name not in self.fleet.workstations:
            check_workstation(asked, f"{kind}.workstation")
            return await self._create_valid(name, asked, request.validate_only)
        current = self._present(name)
        check_etag(current, asked.etag)
        paths = list(request.update_mask.paths)
        wanted = resources.merged(current, asked, paths)
        check_mask(paths, current, wanted, kind)
        check_workstation(wanted, f"{kind}.workstation")
        wanted = resources.changed(wanted, self._clock())
        if request.validate_only:
            return await self._answers.preview("update", wanted)
        return await self._answers.operation("update", name, self.fleet.change(wanted))

    async def _delete(self, request: types.DeleteWorkstationRequest) -> Operation:
        name = parse(request.name, Level.WORKSTATION, "DeleteWorkstationRequest.name")
        await self.fleet.deletion(name)
        current = self._existing(name).workstation
        check_etag(current, request.etag)
        if request.validate_only:
            return await self._answers.preview("delete", current)
        return await self._answers.operation("delete", name, self.fleet.begin_deletion(name))

    async def _start(self, request: types.StartWorkstationRequest) -> Operation:
        kind = "StartWorkstationRequest"
        name = parse(request.name, Level.WORKSTATION, f"{kind}.name")
        current = self._present(name)
        check_etag(current, request.etag)
        _check_state(current, "started", State.STATE_STOPPED)
        try:
            machine_type(self.fleet.configs[parent_of(name)], request.boost_config)
        except KeyError as exc:
            raise violation(f"{kind}.boost_config", f"the configuration has no '{request.boost_config}'") from exc
        if request.validate_only:
            started = resources.in_state(current, State.STATE_RUNNING, self._clock())
            return await self._answers.preview("start", started)
        return await self._answers.operation("start", name, self.fleet.begin_start(name, request.boost_config))

    async def _stop(self, request: types.StopWorkstationRequest) -> Operation:
        name = parse(request.name, Level.WORKSTATION, "StopWorkstationRequest.name")
        current = self._present(name)
        check_etag(current, request.etag)
        _check_state(current, "stopped", State.STATE_RUNNING, State.STATE_STARTING)
        if request.validate_only:
            stopped = resources.in_state(current, State.STATE_STOPPED, self._clock())
            return await self._answers.preview("stop", stopped)
        return await self._answers.operation("stop", name, self.fleet.begin_stop(name))

    async def _generate_access_token(
        self, request: types.GenerateAccessTokenRequest
    ) -> types.GenerateAccessTokenResponse:
        kind = "GenerateAccessTokenRequest"
        workstation = self._present(parse(request.workstation, Level.WORKSTATION, f"{kind}.workstation"))
        now = self._clock()
        if "expire_time" in request:
            field, lifetime = "expire_time", request.expire_time - now
        else:
            field, lifetime = "ttl", request.ttl if "ttl" in request else tokens.DEFAULT
        if not datetime.timedelta() < lifetime <= tokens.LONGEST:
            raise violation(f"{kind}.{field}", f"must be at most 24 hours in the future, got {lifetime}")
        if not 0 <= request.port <= MAX_PORT:
            raise violation(f"{kind}.port", f"must be between 1 and {MAX_PORT}, got {request.port}")
        expires_at = (now + lifetime).replace(microsecond=0)
        token = self.tokens.mint(workstation.uid, expires_at, request.port)
        return types.GenerateAccessTokenResponse(access_token=token, expire_time=expires_at)

    def _existing(self, name: str) -> Stored:
        stored = self.fleet.workstations.get(name)
        if stored is None:
            raise not_found(name)
        return stored

    def _present(self, name: str) -> types.Workstation:
        """One whose deletion has not begun."""
        stored = self._existing(name)
        if stored.is_deleted:
            raise exceptions.FailedPrecondition(f"Workstation '{name}' is being deleted.")
        return stored.workstation

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.fleet.sweep()
            except Exception:  # the next look is a second away
                log.exception("workstations whose time is up could not be stopped")


def _check_state(workstation: types.Workstation, act: str, *wanted: int) -> None:
    if workstation.state not in wanted:
        names = " or ".join(State(state).name for state in wanted)
        raise exceptions.FailedPrecondition(
            f"Workstation '{workstation.name}' cannot be {act}: it is in state {State(workstation.state).name}, "
            f"and must be in {names}."
        )
