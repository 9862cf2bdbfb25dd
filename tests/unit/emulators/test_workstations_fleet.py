"""Workstations whose time is up, and groups that are deleted with what is in them, over containers that only wait."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.cloud.workstations_v1 import types

from infra.emulators.operations import Operations
from infra.emulators.workstations import resources
from infra.emulators.workstations.answers import Answers
from infra.emulators.workstations.fleet import Fleet
from infra.emulators.workstations.groups import Groups
from infra.emulators.workstations.names import id_of
from infra.emulators.workstations.resources import State
from infra.sandbox.spec import ContainerSpec

LOCATION = "projects/p/locations/l"
CLUSTER = f"{LOCATION}/workstationClusters/c"
CONFIG = f"{CLUSTER}/workstationConfigs/f"


@dataclass
class Waiting:
    """A container that ends when it is stopped."""

    name: str
    socket: Path = Path("/nowhere")
    attendant: Path = Path("/nowhere")
    facts: dict[str, str] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> int:
        await self.over.wait()
        return 143

    async def stop(self, grace_s: float = 5) -> None:
        self.over.set()

    def log_tail(self) -> str:
        return ""


class Runtime:
    """`holding` is waited for before a container goes; `broken`: none can be removed."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.holding = asyncio.Event()
        self.holding.set()
        self.removals = 0
        self.broken = False

    async def start(self, spec: ContainerSpec) -> Waiting:
        return Waiting(spec.name)

    async def remove(self, name: str) -> None:
        self.removals += 1
        if self.broken:
            raise OSError("the disk is broken")
        await self.holding.wait()

    async def close(self) -> None:
        pass


@dataclass
class Clock:
    moment: datetime.datetime = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += datetime.timedelta(seconds=seconds)


@dataclass(frozen=True)
class Rig:
    fleet: Fleet
    groups: Groups
    runtime: Runtime
    clock: Clock

    async def call(self, method: str, **request: Any) -> Any:
        of = self.groups.methods()[method]
        return await of.call(of.request(**request))

    async def config(self, name: str = CONFIG, **fields: Any) -> None:
        await self.fleet.save(resources.new(name, types.WorkstationConfig(**fields), self.clock()))

    async def workstation(self, name: str) -> str:
        made = resources.new(name, types.Workstation(), self.clock())
        made.host = f"{id_of(name)}.host"
        await self.fleet.add(made)
        return name

    def state(self, name: str) -> Any:
        return State(self.fleet.workstations[name].workstation.state)


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    runtime, clock = Runtime(), Clock()
    async with Operations(answer_within_s=5) as operations, Fleet(tmp_path / "w.sqlite", runtime, clock) as fleet:
        rig = Rig(fleet, Groups(fleet, Answers(operations, clock), clock), runtime, clock)
        await fleet.save(resources.new(CLUSTER, types.WorkstationCluster(), clock()))
        await rig.config()
        yield rig


async def test_all_whose_time_is_up_are_stopped_together(rig: Rig) -> None:
    names = [await rig.workstation(f"{CONFIG}/workstations/{one}") for one in ("a", "b")]
    for name in names:
        await rig.fleet.begin_start(name, "")
    rig.clock.advance(resources.DEFAULT_IDLE_S)
    rig.runtime.holding.clear()
    sweeping = asyncio.create_task(rig.fleet.sweep())
    async with asyncio.timeout(5):
        while {rig.state(name) for name in names} != {State.STATE_STOPPING}:  # noqa: ASYNC110
            await asyncio.sleep(0)
    rig.fleet.note_traffic(names[1])  # too late
    rig.runtime.holding.set()
    await sweeping
    assert {rig.state(name) for name in names} == {State.STATE_STOPPED}


async def test_a_workstation_that_cannot_go_is_told_and_not_tried_for_ever(rig: Rig) -> None:
    await rig.workstation(f"{CONFIG}/workstations/a")
    rig.runtime.broken = True
    async with asyncio.timeout(5):
        operation = await rig.call("DeleteWorkstationConfig", name=CONFIG, force=True)
    assert operation.done
    assert operation.error.message
    assert rig.runtime.removals == 1
    assert CONFIG in rig.fleet.configs


async def test_of_two_deletions_of_a_config_the_slower_does_not_find_it(rig: Rig) -> None:
    await rig.workstation(f"{CONFIG}/workstations/a")
    rig.runtime.holding.clear()
    deletions = [asyncio.create_task(rig.call("DeleteWorkstationConfig", name=CONFIG, force=True)) for _ in range(2)]
    while not rig.runtime.removals:  # noqa: ASYNC110
        await asyncio.sleep(0)
    rig.runtime.holding.set()
    outcomes = [await deletion for deletion in deletions]
    assert sorted(one.error.code for one in outcomes) == [0, 5]  # google.rpc.Code.NOT_FOUND
    assert CONFIG not in rig.fleet.configs


async def test_a_config_that_is_made_while_its_cluster_goes_goes_with_it(rig: Rig) -> None:
    await rig.workstation(f"{CONFIG}/workstations/a")
    rig.runtime.holding.clear()
    deleting = asyncio.create_task(rig.call("DeleteWorkstationCluster", name=CLUSTER, force=True))
    while not rig.runtime.removals:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await rig.config(f"{CLUSTER}/workstationConfigs/late")
    rig.runtime.holding.set()
    assert not (await deleting).error.code
    assert (rig.fleet.clusters, rig.fleet.configs) == ({}, {})


@pytest.mark.parametrize("kind", ["Cluster", "Config"])
async def test_clusters_and_configs_answer_to_the_same_methods(rig: Rig, kind: str) -> None:
    parent, field = (LOCATION, "workstation_cluster") if kind == "Cluster" else (CLUSTER, "workstation_config")
    name = f"{parent}/workstation{kind}s/new"
    given = {"parent": parent, f"{field}_id": "new", field: {"display_name": "one"}}
    made = await rig.call(f"CreateWorkstation{kind}", **given)
    assert (made.done, made.error.code) == (True, 0)
    changed = {field: {"name": name, "display_name": "two"}, "update_mask": "displayName"}
    await rig.call(f"UpdateWorkstation{kind}", **changed)
    assert (await rig.call(f"GetWorkstation{kind}", name=name)).display_name == "two"
    listed = await rig.call(f"ListWorkstation{kind}s", parent=parent)
    assert name in [one.name for one in getattr(listed, f"{field}s")]
    await rig.call(f"DeleteWorkstation{kind}", name=name)
    assert name not in {**rig.fleet.clusters, **rig.fleet.configs}
