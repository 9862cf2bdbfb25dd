"""Cloud Workstations' emulator as its real client sees it: lives of workstations, and what is refused."""

import datetime
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import workstations_v1 as ws

from tests.contract.workstations_rig import CLUSTER, CONFIG, LOCATION, Rig, State, a_config, workstations


@pytest.fixture
def sockets() -> Any:
    with tempfile.TemporaryDirectory(prefix="om-") as folder:  # tmp_path may be longer than a socket's path can be
        yield Path(folder)


@pytest.fixture
async def rig(tmp_path: Path, sockets: Path) -> AsyncIterator[Rig]:
    async with workstations(tmp_path, sockets) as rig:
        await rig.group()
        yield rig


async def test_a_workstation_is_created_stopped_and_runs_its_configs_container_once_started(rig: Rig) -> None:
    made = await rig.create("one", env={"A": "1"}, labels={"team": "x"})
    assert made.state == State.STATE_STOPPED
    assert made.name == f"{CONFIG}/workstations/one"
    assert made.host.startswith("one.cluster-")
    assert rig.runtime.running() == []
    started = await rig.start(made.name)
    assert started.state == State.STATE_RUNNING
    assert not started.reconciling
    assert started.start_time
    (container,) = rig.runtime.running()
    assert container.name.startswith("wst-")
    assert len(container.name) == len("wst-") + 12
    assert container.spec.image == "onmemos/workspace-python:local"
    assert container.spec.command == ()
    assert container.spec.env["A"] == "1"
    assert [mount.target for mount in container.spec.mounts] == ["/workspace"]


async def test_a_workstations_variables_are_laid_over_its_configs(rig: Rig) -> None:
    await rig.group(f"{CLUSTER}/workstationConfigs/own", container={"env": {"A": "config", "B": "config"}})
    made = await rig.create("one", f"{CLUSTER}/workstationConfigs/own", env={"A": "workstation"})
    await rig.start(made.name)
    (container,) = rig.runtime.running()
    assert (container.spec.env["A"], container.spec.env["B"]) == ("workstation", "config")
    assert container.spec.env["WEB_HOST"] == made.host


async def test_operations_tell_what_they_do_to_which_resource(rig: Rig) -> None:
    made = await rig.create("one")
    operation = await rig.client.start_workstation(name=made.name)
    await operation.result(timeout=5)
    assert operation.metadata.target == made.name
    assert operation.metadata.verb == "start"
    assert operation.metadata.end_time >= operation.metadata.create_time


async def test_what_is_on_the_persistent_directory_outlives_a_stop_and_nothing_else_does(rig: Rig) -> None:
    made = await rig.create("one")
    await rig.start(made.name)
    (container,) = rig.runtime.running()
    disk = container.spec.mounts[0].source
    (disk / "kept").write_text("x")
    assert (await rig.stop(made.name)).state == State.STATE_STOPPED
    assert rig.runtime.running() == []
    assert rig.runtime.removed == [container.name]
    await rig.start(made.name)
    (again,) = rig.runtime.running()
    assert again.spec.mounts[0].source == disk
    assert (disk / "kept").read_text() == "x"
    await rig.delete(made.name)
    assert not disk.exists()
    assert rig.runtime.running() == []
    with pytest.raises(exceptions.NotFound):
        await rig.state(made.name)


async def test_a_disk_that_is_to_be_retained_outlives_its_workstation(rig: Rig) -> None:
    config = f"{CLUSTER}/workstationConfigs/kept"
    await rig.group(config, persistent_directories=[{"mount_path": "/home", "gce_pd": {"reclaim_policy": "RETAIN"}}])
    made = await rig.create("one", config)
    await rig.start(made.name)
    disk = rig.runtime.running()[0].spec.mounts[0].source
    await rig.delete(made.name)
    assert disk.is_dir()
    again = await rig.create("one", config)
    await rig.start(again.name)
    assert rig.runtime.running()[0].spec.mounts[0].source != disk


async def test_an_ephemeral_directory_is_empty_after_every_start(rig: Rig) -> None:
    config = f"{CLUSTER}/workstationConfigs/fresh"
    await rig.group(config, ephemeral_directories=[{"mount_path": "/scratch", "gce_pd": {}}])
    made = await rig.create("one", config)
    for _ in range(2):
        await rig.start(made.name)
        folder = {mount.target: mount.source for mount in rig.runtime.running()[0].spec.mounts}["/scratch"]
        assert list(folder.iterdir()) == []
        (folder / "left").write_text("x")
        await rig.stop(made.name)


async def test_a_container_that_does_not_start_leaves_the_workstation_stopped_and_says_why(rig: Rig) -> None:
    config = f"{CLUSTER}/workstationConfigs/broken"
    await rig.group(config, command=("exit", "3"))
    made = await rig.create("one", config)
    with pytest.raises(exceptions.GoogleAPICallError, match=r"exited with code 3.*no such module"):
        await rig.start(made.name)
    assert await rig.state(made.name) == State.STATE_STOPPED


async def test_a_container_that_dies_is_started_again_and_shows_as_starting_meanwhile(rig: Rig) -> None:
    made = await rig.create("one")
    before = (await rig.start(made.name)).start_time
    rig.runtime.running()[0].crash(137)
    await rig.runtime.have_started(2)
    while (state := await rig.state(made.name)) != State.STATE_RUNNING:
        assert state == State.STATE_STARTING
    assert (await rig.client.get_workstation(name=made.name)).start_time == before


async def test_a_stop_ends_a_start_that_does_not_come_to_an_end(tmp_path: Path, sockets: Path) -> None:
    async with workstations(tmp_path, sockets, answer_within_s=0.05) as rig:
        await rig.group(command=("silent",))
        made = await rig.create("one")
        starting = await rig.client.start_workstation(name=made.name)
        await rig.runtime.have_started(1)
        assert await rig.state(made.name) == State.STATE_STARTING
        with pytest.raises(exceptions.FailedPrecondition):
            await rig.client.start_workstation(name=made.name)
        await rig.client.stop_workstation(name=made.name)
        with pytest.raises(exceptions.GoogleAPICallError, match="stopped or deleted before it ran"):
            await starting.result(timeout=5)
        while (state := await rig.state(made.name)) != State.STATE_STOPPED:
            assert state == State.STATE_STOPPING
        assert rig.runtime.running() == []


async def test_what_ran_before_a_restart_runs_again_and_the_rest_does_not(tmp_path: Path, sockets: Path) -> None:
    async with workstations(tmp_path, sockets) as rig:
        await rig.group()
        running, stopped = await rig.create("one", env={"A": "1"}), await rig.create("two")
        before = await rig.start(running.name)
        disk = rig.runtime.running()[0].spec.mounts[0].source
        token = await rig.token(running.name)
    async with workstations(tmp_path, sockets) as rig:
        container = await rig.runtime.have_started(1)
        assert container.spec.env["A"] == "1"
        assert container.spec.mounts[0].source == disk
        while await rig.state(running.name) != State.STATE_RUNNING:
            pass
        after = await rig.client.get_workstation(name=running.name)
        assert (after.uid, after.host, after.start_time) == (before.uid, before.host, before.start_time)
        assert await rig.state(stopped.name) == State.STATE_STOPPED
        assert len(rig.runtime.started) == 1
        rig.emulator.tokens.check(token, after.uid, 8080)


async def test_a_deletion_that_a_restart_interrupted_is_finished(tmp_path: Path, sockets: Path) -> None:
    async with workstations(tmp_path, sockets) as rig:
        await rig.group()
        made = await rig.create("one")
        rig.runtime.refuse_removals = 1
        with pytest.raises(exceptions.GoogleAPICallError, match="internal error"):
            await rig.delete(made.name)
    async with workstations(tmp_path, sockets) as rig:
        await rig.emulator.fleet.deletion(made.name)
        with pytest.raises(exceptions.NotFound):
            await rig.state(made.name)


async def test_a_workstation_that_nobody_uses_is_stopped_and_traffic_keeps_it(rig: Rig) -> None:
    config = f"{CLUSTER}/workstationConfigs/idle"
    await rig.group(config, idle_timeout={"seconds": 600})
    made = await rig.create("one", config)
    await rig.start(made.name)
    rig.clock.advance(minutes=9)
    rig.emulator.fleet.note_traffic(made.name)
    rig.clock.advance(minutes=9)
    await rig.emulator.fleet.sweep()
    assert await rig.state(made.name) == State.STATE_RUNNING
    rig.clock.advance(minutes=2)
    await rig.emulator.fleet.sweep()
    assert await rig.state(made.name) == State.STATE_STOPPED
    assert rig.runtime.running() == []


async def test_a_workstation_runs_no_longer_than_its_configs_running_timeout(rig: Rig) -> None:
    config = f"{CLUSTER}/workstationConfigs/daily"
    await rig.group(config, idle_timeout={"seconds": 0}, running_timeout={"seconds": 3600})
    made = await rig.create("one", config)
    await rig.start(made.name)
    rig.clock.advance(minutes=59)
    rig.emulator.fleet.note_traffic(made.name)
    await rig.emulator.fleet.sweep()
    assert await rig.state(made.name) == State.STATE_RUNNING
    rig.clock.advance(minutes=2)
    rig.emulator.fleet.note_traffic(made.name)
    await rig.emulator.fleet.sweep()
    assert await rig.state(made.name) == State.STATE_STOPPED
    await rig.start(made.name)
    await rig.emulator.fleet.sweep()
    assert await rig.state(made.name) == State.STATE_RUNNING


async def test_new_variables_are_the_containers_after_the_next_start(rig: Rig) -> None:
    made = await rig.create("one", env={"A": "1"})
    operation = await rig.client.update_workstation(
        ws.UpdateWorkstationRequest(workstation={"name": made.name, "env": {"A": "2"}}, update_mask={"paths": ["env"]})
    )
    assert (await operation.result(timeout=5)).etag != made.etag
    await rig.start(made.name)
    assert rig.runtime.running()[0].spec.env["A"] == "2"


async def test_validate_only_changes_nothing(rig: Rig) -> None:
    request = ws.CreateWorkstationRequest(parent=CONFIG, workstation_id="one", workstation={}, validate_only=True)
    preview = await (await rig.client.create_workstation(request)).result(timeout=5)
    assert preview.name == f"{CONFIG}/workstations/one"
    with pytest.raises(exceptions.NotFound):
        await rig.state(preview.name)
    made = await rig.create("one")
    operation = await rig.client.start_workstation(ws.StartWorkstationRequest(name=made.name, validate_only=True))
    assert (await operation.result(timeout=5)).state == State.STATE_RUNNING
    assert await rig.state(made.name) == State.STATE_STOPPED


async def test_lists_are_paged_and_a_hyphen_stands_for_every_config(rig: Rig) -> None:
    other = f"{CLUSTER}/workstationConfigs/onmemos-go"
    await rig.group(other)
    for workstation_id, config in (("one", CONFIG), ("two", CONFIG), ("three", other)):
        await rig.create(workstation_id, config)
    pager = await rig.client.list_workstations(ws.ListWorkstationsRequest(parent=CONFIG, page_size=1))
    assert [one.name async for one in pager] == [f"{CONFIG}/workstations/one", f"{CONFIG}/workstations/two"]
    pager = await rig.client.list_workstations(parent=f"{CLUSTER}/workstationConfigs/-")
    assert len([one async for one in pager]) == 3
    everywhere = "projects/onmemos-local/locations/-/workstationClusters/-/workstationConfigs/-"
    assert len([one async for one in await rig.client.list_usable_workstations(parent=everywhere)]) == 3
    configs = await rig.client.list_workstation_configs(parent=CLUSTER)
    assert [one.name async for one in configs] == [other, CONFIG]
    clusters = await rig.client.list_workstation_clusters(parent=LOCATION)
    assert [one.name async for one in clusters] == [CLUSTER]


async def test_a_boost_config_is_another_machine_for_one_start(rig: Rig) -> None:
    config = f"{CLUSTER}/workstationConfigs/boost"
    boost = {"id": "big", "machine_type": "e2-small"}
    await rig.group(config, host={"gce_instance": {"machine_type": "e2-micro", "boost_configs": [boost]}})
    made = await rig.create("one", config)
    with pytest.raises(exceptions.InvalidArgument, match=r"StartWorkstationRequest\.boost_config"):
        await rig.client.start_workstation(ws.StartWorkstationRequest(name=made.name, boost_config="huge"))
    operation = await rig.client.start_workstation(ws.StartWorkstationRequest(name=made.name, boost_config="big"))
    await operation.result(timeout=5)
    assert rig.runtime.running()[0].spec.limits.memory_bytes == 2 << 30


async def test_the_same_id_in_two_configs_has_two_hosts(rig: Rig) -> None:
    await rig.group(f"{CLUSTER}/workstationConfigs/other")
    hosts = {(await rig.create("one")).host, (await rig.create("one", f"{CLUSTER}/workstationConfigs/other")).host}
    assert len(hosts) == 2


async def test_what_there_is_already_is_refused_and_what_there_is_not(rig: Rig) -> None:
    made = await rig.create("one")
    with pytest.raises(exceptions.AlreadyExists):
        await rig.create("one")
    with pytest.raises(exceptions.AlreadyExists):
        await rig.group()
    nowhere = f"{CLUSTER}/workstationConfigs/none"
    for call in (
        rig.create("two", nowhere),
        rig.group(f"{LOCATION}/workstationClusters/onmemos/workstationConfigs/x/y"),
        rig.client.start_workstation(name=f"{CONFIG}/workstations/none"),
        rig.client.generate_access_token(workstation=f"{CONFIG}/workstations/none"),
        rig.client.delete_workstation_config(name=nowhere),
        rig.client.get_workstation_cluster(name=f"{CLUSTER}-none"),
    ):
        with pytest.raises((exceptions.NotFound, exceptions.InvalidArgument)):
            await call
    assert await rig.state(made.name) == State.STATE_STOPPED


async def test_a_state_that_does_not_allow_it_is_a_failed_precondition(rig: Rig) -> None:
    made = await rig.create("one")
    with pytest.raises(exceptions.FailedPrecondition, match="STATE_STOPPED"):
        await rig.client.stop_workstation(name=made.name)
    await rig.start(made.name)
    with pytest.raises(exceptions.FailedPrecondition, match="STATE_RUNNING"):
        await rig.client.start_workstation(name=made.name)


async def test_groups_that_are_not_empty_are_deleted_by_force_only(rig: Rig) -> None:
    made = await rig.create("one")
    await rig.start(made.name)
    with pytest.raises(exceptions.FailedPrecondition, match="1 workstations"):
        await rig.client.delete_workstation_config(name=CONFIG)
    with pytest.raises(exceptions.FailedPrecondition, match="1 workstation configurations"):
        await rig.client.delete_workstation_cluster(name=CLUSTER)
    request = ws.DeleteWorkstationClusterRequest(name=CLUSTER, force=True)
    await (await rig.client.delete_workstation_cluster(request)).result(timeout=5)
    assert rig.runtime.running() == []
    with pytest.raises(exceptions.NotFound):
        await rig.client.get_workstation_config(name=CONFIG)


async def test_an_etag_of_an_older_version_is_refused(rig: Rig) -> None:
    made = await rig.create("one")
    await rig.start(made.name)
    with pytest.raises(exceptions.Aborted, match="etag"):
        await rig.client.stop_workstation(ws.StopWorkstationRequest(name=made.name, etag=made.etag))
    current = await rig.client.get_workstation(name=made.name)
    await (await rig.client.stop_workstation(ws.StopWorkstationRequest(name=made.name, etag=current.etag))).result(
        timeout=5
    )


async def test_quotas_are_resources_that_are_exhausted(tmp_path: Path, sockets: Path) -> None:
    async with workstations(tmp_path, sockets, workstations_per_region=2) as rig:
        await rig.group(max_usable_workstations=1)
        await rig.group(f"{CLUSTER}/workstationConfigs/other")
        await rig.create("one")
        with pytest.raises(exceptions.ResourceExhausted, match="usable"):
            await rig.create("two")
        await rig.create("two", f"{CLUSTER}/workstationConfigs/other")
        with pytest.raises(exceptions.ResourceExhausted, match="Quota exceeded"):
            await rig.create("three", f"{CLUSTER}/workstationConfigs/other")


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"expire_time": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)}, "expire_time"),
        ({"ttl": datetime.timedelta(hours=25)}, "ttl"),
        ({"port": 70000}, "port"),
    ],
)
async def test_a_token_that_cannot_be_is_refused(rig: Rig, more: dict[str, Any], complaint: str) -> None:
    made = await rig.create("one")
    with pytest.raises(exceptions.InvalidArgument, match=complaint):
        await rig.token(made.name, **more)


async def test_a_config_shows_the_defaults_of_what_it_does_not_say(rig: Rig) -> None:
    operation = await rig.client.create_workstation_config(
        ws.CreateWorkstationConfigRequest(
            parent=CLUSTER, workstation_config_id="plain", workstation_config={"persistent_directories": [{}]}
        )
    )
    made = await operation.result(timeout=5)
    assert (made.idle_timeout.total_seconds(), made.running_timeout.total_seconds()) == (1200, 43200)
    assert made.host.gce_instance.machine_type == "e2-standard-4"
    (disk,) = made.persistent_directories
    assert (disk.mount_path, disk.gce_pd.size_gb, disk.gce_pd.disk_type) == ("/home", 200, "pd-standard")


async def test_a_configs_mask_changes_only_what_it_names(rig: Rig) -> None:
    wanted = a_config(idle_timeout={"seconds": 60}, labels={"a": "b"})
    wanted.name = CONFIG
    operation = await rig.client.update_workstation_config(
        ws.UpdateWorkstationConfigRequest(workstation_config=wanted, update_mask={"paths": ["idle_timeout"]})
    )
    updated = await operation.result(timeout=5)
    assert (updated.idle_timeout.total_seconds(), dict(updated.labels)) == (60, {})
    for paths in ([], ["nonsense"], ["uid"]):
        with pytest.raises(exceptions.InvalidArgument, match="update_mask"):
            await rig.client.update_workstation_config(
                ws.UpdateWorkstationConfigRequest(workstation_config=wanted, update_mask={"paths": paths})
            )
