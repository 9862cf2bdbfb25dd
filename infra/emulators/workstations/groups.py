"""Clusters and configs over gRPC: what workstations belong to. Making and changing one takes no time here."""

import asyncio
import contextlib
import datetime
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.api_core import exceptions
from google.cloud.workstations_v1 import types
from google.longrunning.operations_pb2 import Operation

from infra.emulators.rpc import Method
from infra.emulators.workstations import resources
from infra.emulators.workstations.answers import Answers, already_exists, check_etag, listed, not_found
from infra.emulators.workstations.fleet import Fleet
from infra.emulators.workstations.names import Level, check_id, child, is_below, parent_of, parse, parse_parent
from infra.emulators.workstations.validation import check_cluster, check_config, check_mask, violation


@dataclass(frozen=True, slots=True)
class Kind:
    """What clusters and configs do not have in common. `field`: what requests call one; `there`: all, by name.

    `below`: what is in them, in words, and its names; `empty` deletes that of one, and it itself.
    """

    message: str
    field: str
    level: Level
    there: dict[str, Any]
    check: Callable[[Any, str], None]
    below: tuple[str, Iterable[str]]
    empty: Callable[[str], Awaitable[Any]]
    above: "Kind | None" = None

    def existing(self, name: str) -> Any:
        """Raises NotFound."""
        found = self.there.get(name)
        if found is None:
            raise not_found(name)
        return found

    def check_above(self, name: str) -> None:
        """Raises NotFound: what it is to be in is not there."""
        if self.above is not None:
            self.above.existing(parent_of(name))


class Groups:
    """The methods of both kinds."""

    def __init__(self, fleet: Fleet, answers: Answers, clock: Callable[[], datetime.datetime]) -> None:
        self._fleet = fleet
        self._answers = answers
        self._clock = clock
        self._clusters = Kind(
            "WorkstationCluster",
            "workstation_cluster",
            Level.CLUSTER,
            fleet.clusters,
            check_cluster,
            ("workstation configurations", fleet.configs),
            self._delete_cluster,
        )
        self._configs = Kind(
            "WorkstationConfig",
            "workstation_config",
            Level.CONFIG,
            fleet.configs,
            check_config,
            ("workstations", fleet.workstations),
            self._delete_config,
            self._clusters,
        )

    def methods(self) -> dict[str, Method]:
        usable = types.ListUsableWorkstationConfigsRequest, types.ListUsableWorkstationConfigsResponse
        return {
            **self._methods_of(self._clusters),
            **self._methods_of(self._configs),
            # everybody may use everything here
            "ListUsableWorkstationConfigs": Method(partial(self._list, self._configs, usable[1]), *usable),
        }

    def _methods_of(self, kind: Kind) -> dict[str, Method]:
        one, many = kind.message, f"{kind.message}s"
        answer = getattr(types, f"List{many}Response")
        return {
            f"Get{one}": Method(partial(self._get, kind), getattr(types, f"Get{one}Request"), getattr(types, one)),
            f"List{many}": Method(partial(self._list, kind, answer), getattr(types, f"List{many}Request"), answer),
            f"Create{one}": Method(partial(self._create, kind), getattr(types, f"Create{one}Request"), Operation),
            f"Update{one}": Method(partial(self._update, kind), getattr(types, f"Update{one}Request"), Operation),
            f"Delete{one}": Method(partial(self._delete, kind), getattr(types, f"Delete{one}Request"), Operation),
        }

    async def _get(self, kind: Kind, request: Any) -> Any:
        return kind.existing(parse(request.name, kind.level, f"{type(request).__name__}.name"))

    async def _list(self, kind: Kind, answer: Any, request: Any) -> Any:
        said = type(request).__name__
        parent = parse_parent(request.parent, Level(kind.level - 1), f"{said}.parent")
        where = getattr(request, "filter", "")  # the usable ones have none
        names, token = listed(kind.there, parent, request.page_size, request.page_token, said, where)
        return answer({f"{kind.field}s": [kind.there[name] for name in names], "next_page_token": token})

    async def _create(self, kind: Kind, request: Any) -> Operation:
        said = type(request).__name__
        parent = parse(request.parent, Level(kind.level - 1), f"{said}.parent")
        given = getattr(request, f"{kind.field}_id")
        check_id(given, f"{said}.{kind.field}_id")
        if kind.field not in request:
            raise violation(f"{said}.{kind.field}", "required field not present")
        asked = getattr(request, kind.field)
        kind.check(asked, f"{said}.{kind.field}")
        name = child(parent, kind.level, given)
        kind.check_above(name)
        if name in kind.there:
            raise already_exists(name)
        return await self._written("create", resources.new(name, asked, self._clock()), request.validate_only)

    async def _update(self, kind: Kind, request: Any) -> Operation:
        said = type(request).__name__
        asked = getattr(request, kind.field)
        name = parse(asked.name, kind.level, f"{said}.{kind.field}.name")
        kind.check_above(name)
        if request.allow_missing and name not in kind.there:
            kind.check(asked, f"{said}.{kind.field}")
            return await self._written("create", resources.new(name, asked, self._clock()), request.validate_only)
        current = kind.existing(name)
        check_etag(current, asked.etag)
        paths = list(request.update_mask.paths)
        wanted = resources.merged(current, asked, paths)
        check_mask(paths, current, wanted, said)
        kind.check(wanted, f"{said}.{kind.field}")
        return await self._written("update", resources.changed(wanted, self._clock()), request.validate_only)

    async def _written(self, verb: str, group: Any, validate_only: bool) -> Operation:
        if validate_only:
            return await self._answers.preview(verb, group)
        return await self._answers.operation(verb, group.name, self._fleet.save(group))

    async def _delete(self, kind: Kind, request: Any) -> Operation:
        name = parse(request.name, kind.level, f"{type(request).__name__}.name")
        current = kind.existing(name)
        check_etag(current, request.etag)
        words, names = kind.below
        there = sum(is_below(one, name) for one in names)
        if there and not request.force:
            raise exceptions.FailedPrecondition(
                f"Resource '{name}' has nested resources: {there} {words}. Delete them first, or set force to true."
            )
        if request.validate_only:
            return await self._answers.preview("delete", current)
        return await self._answers.operation("delete", name, kind.empty(name))

    async def _delete_cluster(self, name: str) -> types.WorkstationCluster:
        """With its configs, also those that are made meanwhile. Raises NotFound: another deletion was faster."""
        while there := [one for one in self._fleet.configs if is_below(one, name)]:
            with contextlib.suppress(exceptions.NotFound):
                await self._delete_config(there[0])
        return await self._fleet.forget(self._clusters.existing(name))

    async def _delete_config(self, name: str) -> types.WorkstationConfig:
        """With its workstations, also those that are made meanwhile. Raises NotFound: another deletion was faster."""
        while there := [one for one in self._fleet.workstations if is_below(one, name)]:
            await asyncio.gather(*(self._fleet.deleted(one) for one in there))
        return await self._fleet.forget(self._configs.existing(name))
