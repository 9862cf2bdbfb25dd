"""Cloud Run's emulator through google-cloud-run's own clients: what a service goes through."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2

from tests.contract.cloud_run_rig import GATEWAY, PARENT, Rig, a_service, cloud_run

State = run_v2.Condition.State
NAME = f"{PARENT}/services/ws-one"


@pytest.fixture
def sockets() -> Iterator[Path]:
    """Short: a Unix socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        yield Path(folder)


@pytest.fixture
async def rig(tmp_path: Path, sockets: Path) -> AsyncIterator[Rig]:
    async with cloud_run(tmp_path, sockets) as rig:
        yield rig


async def test_a_created_service_is_ready_when_the_call_returns(rig: Rig) -> None:
    operation = await rig.services.create_service(parent=PARENT, service_id="ws-one", service=a_service())

    assert operation.operation.done
    service = await operation.result()
    assert service.name == NAME
    assert service.uri == f"{GATEWAY}/run/ws-one"
    assert list(service.urls) == [service.uri]
    assert service.uid
    assert service.etag
    assert service.create_time == service.update_time
    assert service.generation == service.observed_generation == 1
    assert service.terminal_condition.type_ == "Ready"
    assert service.terminal_condition.state == State.CONDITION_SUCCEEDED
    assert {condition.type_ for condition in service.conditions} == {"RoutesReady", "ConfigurationsReady"}
    assert not service.reconciling
    assert service.latest_ready_revision == service.latest_created_revision
    assert service.latest_ready_revision.startswith(f"{NAME}/revisions/ws-one-00001-")
    assert service.traffic_statuses[0].percent == 100
    assert await rig.get("ws-one") == service


async def test_the_container_gets_what_the_contract_of_containers_promises(rig: Rig) -> None:
    (rig.buckets / "bucket-one").mkdir()
    service = a_service(
        container={
            "env": [{"name": "COLOR", "value": "red"}, {"name": "COLOR", "value": "blue"}],
            "resources": {"limits": {"cpu": "2", "memory": "512Mi"}},
            "volume_mounts": [{"name": "files", "mount_path": "/bucket"}, {"name": "tmp", "mount_path": "/scratch/"}],
        },
        template={
            "volumes": [
                {
                    "name": "files",
                    "gcs": {"bucket": "bucket-one", "read_only": True, "mount_options": ["only-dir=a/b"]},
                },
                {"name": "tmp", "empty_dir": {}},
            ]
        },
    )

    created = await rig.create("ws-one", service)

    spec = rig.runtime.started[0].spec
    assert spec.name == "ws-one"
    assert spec.image == service.template.containers[0].image
    assert spec.env["COLOR"] == "blue"
    assert spec.env["PORT"] == "8080"
    assert spec.env["K_SERVICE"] == spec.env["K_CONFIGURATION"] == "ws-one"
    assert spec.env["K_REVISION"] == created.latest_ready_revision.rsplit("/", 1)[-1]
    assert spec.env["ONMEMOS_AGENT_SOCKET"] == "/run/onmemos/agent.sock"
    assert (spec.limits.cpu, spec.limits.memory_bytes) == (2, 512 * 2**20)
    assert [(m.source, m.target, m.read_only) for m in spec.mounts] == [
        (rig.buckets / "bucket-one" / "a" / "b", "/bucket", True),
        (spec.mounts[1].source, "/scratch", False),
    ]
    assert spec.mounts[1].source.is_dir()
    assert spec.egress


async def test_all_traffic_into_a_network_closes_the_sandbox(rig: Rig) -> None:
    await rig.create("ws-one", a_service(template={"vpc_access": {"egress": "ALL_TRAFFIC"}}))

    assert not rig.runtime.started[0].spec.egress


async def test_facts_of_the_sandbox_stand_beside_the_clients_annotations(rig: Rig) -> None:
    service = a_service(annotations={"onmemos.dev/session": "ws-1", "onmemos.dev/isolation": "a lie"})

    created = await rig.create("ws-one", service)

    assert dict(created.annotations) == {
        "onmemos.dev/session": "ws-1",
        "onmemos.dev/isolation": "none",
        "onmemos.dev/egress": "none",
        "onmemos.dev/limits": "none",
    }


async def test_a_second_service_of_the_same_name_already_exists(rig: Rig) -> None:
    await rig.create("ws-one")

    with pytest.raises(exceptions.AlreadyExists, match="Resource 'ws-one' already exists"):
        await rig.create("ws-one")


async def test_of_many_creations_at_once_one_wins(rig: Rig) -> None:
    outcomes = await asyncio.gather(*(rig.create("ws-one") for _ in range(8)), return_exceptions=True)

    assert sum(isinstance(outcome, run_v2.Service) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, exceptions.AlreadyExists) for outcome in outcomes) == 7
    assert len(rig.runtime.running()) == 1


async def test_the_same_name_in_another_region_is_another_service(rig: Rig) -> None:
    here = await rig.create("ws-one")
    there = await rig.create("ws-one", parent="projects/onmemos-local/locations/europe-west1")

    assert here.uri != there.uri
    assert there.uri.startswith(f"{GATEWAY}/run/ws-one-")
    assert len(rig.runtime.running()) == 2


async def test_a_container_that_exits_fails_the_operation_and_leaves_the_service(rig: Rig) -> None:
    operation = await rig.services.create_service(parent=PARENT, service_id="ws-one", service=a_service("exit", "3"))

    assert operation.operation.done
    assert operation.operation.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    with pytest.raises(exceptions.GoogleAPICallError, match=r"exited with code 3.*boom: no such module"):
        await operation.result()
    service = await rig.get("ws-one")
    assert service.terminal_condition.state == State.CONDITION_FAILED
    assert "exited with code 3" in service.terminal_condition.message
    assert not service.reconciling
    assert not service.latest_ready_revision
    assert "onmemos.dev/isolation" not in service.annotations
    assert len(rig.runtime.started) == 1


async def test_a_probe_that_never_succeeds_fails_the_operation(rig: Rig) -> None:
    probe = {"http_get": {"path": "/health"}, "period_seconds": 1, "failure_threshold": 1}

    with pytest.raises(exceptions.GoogleAPICallError, match=r"GET /health.* no success in 1 seconds"):
        await rig.create("ws-one", a_service("status", "503", container={"startup_probe": probe}))

    assert not rig.runtime.running()


async def test_a_sandbox_that_does_not_start_fails_the_operation(rig: Rig) -> None:
    rig.runtime.refuse = 1

    with pytest.raises(exceptions.GoogleAPICallError, match="no sandbox today"):
        await rig.create("ws-one")


async def test_a_bucket_that_does_not_exist_fails_the_operation(rig: Rig) -> None:
    volumes = [{"name": "files", "gcs": {"bucket": "no-such-bucket"}}]
    mounts = [{"name": "files", "mount_path": "/bucket"}]

    with pytest.raises(exceptions.GoogleAPICallError, match="bucket 'no-such-bucket' does not exist"):
        await rig.create("ws-one", a_service(template={"volumes": volumes}, container={"volume_mounts": mounts}))

    assert (await rig.get("ws-one")).terminal_condition.state == State.CONDITION_FAILED
    assert not (rig.buckets / "no-such-bucket").exists()


async def test_a_link_in_a_bucket_leads_nowhere_else(rig: Rig, tmp_path: Path) -> None:
    (rig.buckets / "bucket-one").mkdir()
    (rig.buckets / "bucket-one" / "out").symlink_to(tmp_path)
    volumes = [{"name": "files", "gcs": {"bucket": "bucket-one", "mount_options": ["only-dir=out/state"]}}]
    mounts = [{"name": "files", "mount_path": "/bucket"}]

    with pytest.raises(exceptions.GoogleAPICallError, match="leads out of the volume"):
        await rig.create("ws-one", a_service(template={"volumes": volumes}, container={"volume_mounts": mounts}))


async def test_a_slow_container_is_answered_with_an_operation_to_wait_for(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets, answer_within_s=0.05) as rig:
        probe = {"tcp_socket": {}, "period_seconds": 1, "failure_threshold": 1}
        operation = await rig.services.create_service(
            parent=PARENT, service_id="ws-one", service=a_service("silent", container={"startup_probe": probe})
        )
        assert not operation.operation.done
        assert (await rig.get("ws-one")).terminal_condition.state == State.CONDITION_RECONCILING
        assert (await rig.get("ws-one")).reconciling

        answer = await rig.services.wait_operation({"name": operation.operation.name, "timeout": {"seconds": 5}})

        ended = operations_pb2.Operation.FromString(answer)  # the client does not decode it
        assert ended.done
        assert "a connection" in ended.error.message


async def test_a_container_that_dies_is_started_again_and_never_shown_ready_meanwhile(rig: Rig) -> None:
    await rig.create("ws-one")
    rig.runtime.refuse = 2

    rig.runtime.started[0].crash(137)

    down = await rig.until("ws-one", State.CONDITION_RECONCILING)
    assert "exited with code 137" in down.terminal_condition.message
    assert down.terminal_condition.reason == run_v2.Condition.CommonReason.IMMEDIATE_RETRY
    assert down.reconciling
    assert "onmemos.dev/isolation" not in down.annotations
    failing = await rig.until("ws-one", State.CONDITION_FAILED)
    assert "no sandbox today" in failing.terminal_condition.message
    assert failing.reconciling
    again = await rig.until("ws-one", State.CONDITION_SUCCEEDED)
    assert again.generation == 1
    assert not again.reconciling
    assert len(rig.runtime.running()) == 1


async def test_deleting_removes_the_container_and_the_service(rig: Rig) -> None:
    await rig.create("ws-one")

    operation = await rig.services.delete_service(name=NAME)

    assert operation.operation.done
    gone = await operation.result()
    assert gone.delete_time
    assert rig.runtime.removed == ["ws-one"]
    assert not rig.runtime.running()
    with pytest.raises(exceptions.NotFound, match="'ws-one' of kind 'SERVICE' in region 'us-central1'"):
        await rig.get("ws-one")
    with pytest.raises(exceptions.NotFound):
        await rig.services.delete_service(name=NAME)
    await rig.create("ws-one")


async def test_of_two_deletions_at_once_one_finds_nothing(rig: Rig) -> None:
    await rig.create("ws-one")

    outcomes = await asyncio.gather(*(rig.services.delete_service(name=NAME) for _ in range(2)), return_exceptions=True)

    assert sum(isinstance(outcome, exceptions.NotFound) for outcome in outcomes) == 1


async def test_deleting_a_service_that_is_still_starting_aborts_its_creation(rig: Rig) -> None:
    creation = asyncio.create_task(rig.create("ws-one", a_service("silent")))
    await rig.runtime.have_started(1)
    assert (await rig.get("ws-one")).terminal_condition.state == State.CONDITION_RECONCILING

    await rig.services.delete_service(name=NAME)

    with pytest.raises(exceptions.GoogleAPICallError, match="was deleted before it was ready"):
        await creation
    assert not rig.runtime.running()


async def test_a_deletion_that_fails_can_be_asked_for_again(rig: Rig) -> None:
    await rig.create("ws-one")
    rig.runtime.refuse_removals = 1

    operation = await rig.services.delete_service(name=NAME)

    assert operation.operation.error.code == grpc.StatusCode.INTERNAL.value[0]
    assert (await rig.get("ws-one")).delete_time
    assert [s async for s in await rig.services.list_services(parent=PARENT)] == []
    request = run_v2.ListServicesRequest(parent=PARENT, show_deleted=True)
    assert [s.name async for s in await rig.services.list_services(request)] == [NAME]
    with pytest.raises(exceptions.FailedPrecondition, match="is being deleted"):
        await rig.services.update_service(service=a_service(name=NAME))
    await (await rig.services.delete_service(name=NAME)).result()
    with pytest.raises(exceptions.NotFound):
        await rig.get("ws-one")


async def test_a_deletion_that_the_end_of_the_process_cut_short_goes_on(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets) as rig:
        await rig.create("ws-one")
        rig.runtime.refuse_removals = 1
        await rig.services.delete_service(name=NAME)

    async with cloud_run(tmp_path, sockets) as rig:
        with pytest.raises(exceptions.NotFound):
            await rig.services.delete_service(name=NAME)
        assert rig.runtime.removed == ["ws-one"]


async def test_validate_only_changes_nothing(rig: Rig) -> None:
    would_be = await rig.create("ws-one", validate_only=True)
    assert would_be.name == NAME
    with pytest.raises(exceptions.NotFound):
        await rig.get("ws-one")
    await rig.create("ws-one")

    await rig.services.delete_service(run_v2.DeleteServiceRequest(name=NAME, validate_only=True))

    assert (await rig.get("ws-one")).terminal_condition.state == State.CONDITION_SUCCEEDED


async def test_an_etag_of_yesterday_is_refused(rig: Rig) -> None:
    before = await rig.create("ws-one")
    before.description = "changed"
    await (await rig.services.update_service(service=before)).result()

    with pytest.raises(exceptions.Aborted, match="etag"):
        await rig.services.update_service(service=before)
    with pytest.raises(exceptions.Aborted, match="etag"):
        await rig.services.delete_service(run_v2.DeleteServiceRequest(name=NAME, etag=before.etag))
    current = (await rig.get("ws-one")).etag
    await rig.services.delete_service(run_v2.DeleteServiceRequest(name=NAME, etag=current))


async def test_a_new_template_becomes_a_revision_that_replaces_the_container(rig: Rig) -> None:
    before = await rig.create("ws-one")

    changed = a_service(container={"env": [{"name": "COLOR", "value": "blue"}]}, name=NAME, description="kept?")
    mask = field_mask_pb2.FieldMask(paths=["template"])
    after = await (await rig.services.update_service(service=changed, update_mask=mask)).result()

    assert after.generation == after.observed_generation == 2
    assert after.uid == before.uid
    assert after.etag != before.etag
    assert after.description == ""
    assert after.latest_ready_revision != before.latest_ready_revision
    assert [container.spec.env["COLOR"] for container in rig.runtime.running()] == ["blue"]
    listed = [revision.name async for revision in await rig.revisions.list_revisions(parent=NAME)]
    assert listed == [before.latest_ready_revision, after.latest_ready_revision]
    revision = await rig.revisions.get_revision(name=after.latest_ready_revision)
    assert revision.containers[0].env[0].value == "blue"
    assert revision.conditions[0].state == State.CONDITION_SUCCEEDED


async def test_a_change_beside_the_template_leaves_the_container_alone(rig: Rig) -> None:
    before = await rig.create("ws-one")
    before.labels["team"] = "blue"

    after = await (await rig.services.update_service(service=before)).result()

    assert after.labels["team"] == "blue"
    assert after.generation == after.observed_generation == 2
    assert after.latest_created_revision == before.latest_created_revision
    assert len(rig.runtime.started) == 1


async def test_an_update_without_a_change_is_no_new_generation(rig: Rig) -> None:
    before = await rig.create("ws-one")

    after = await (await rig.services.update_service(service=before)).result()

    assert after == before


async def test_a_revision_that_does_not_start_leaves_the_one_before_serving(rig: Rig) -> None:
    before = await rig.create("ws-one")

    operation = await rig.services.update_service(service=a_service("exit", "1", name=NAME))
    with pytest.raises(exceptions.GoogleAPICallError, match="exited with code 1"):
        await operation.result()

    container = await rig.runtime.have_started(3)
    assert container.runs
    assert container.spec.command == ()
    service = await rig.get("ws-one")
    assert service.terminal_condition.state == State.CONDITION_FAILED
    assert service.latest_ready_revision == before.latest_ready_revision
    assert service.latest_created_revision != before.latest_ready_revision
    assert (service.generation, service.observed_generation) == (2, 1)


async def test_the_later_of_two_updates_wins(rig: Rig) -> None:
    await rig.create("ws-one")
    first = asyncio.create_task(rig.services.update_service(service=a_service("silent", name=NAME)))
    await rig.runtime.have_started(2)

    second = await (await rig.services.update_service(service=a_service("status", "204", name=NAME))).result()

    assert second.terminal_condition.state == State.CONDITION_SUCCEEDED
    with pytest.raises(exceptions.GoogleAPICallError, match="replaced"):
        await (await first).result()
    assert [container.spec.command for container in rig.runtime.running()] == [("status", "204")]


async def test_updating_what_is_missing_needs_allow_missing(rig: Rig) -> None:
    service = a_service(name=NAME)
    with pytest.raises(exceptions.NotFound):
        await rig.services.update_service(service=service)

    request = run_v2.UpdateServiceRequest(service=service, allow_missing=True)
    created = await (await rig.services.update_service(request)).result()

    assert created.terminal_condition.state == State.CONDITION_SUCCEEDED


async def test_a_revision_name_is_used_once(rig: Rig) -> None:
    await rig.create("ws-one", a_service(template={"revision": "ws-one-first"}))

    again = a_service("status", "204", template={"revision": "ws-one-first"}, name=NAME)
    with pytest.raises(exceptions.AlreadyExists, match="with different configuration already exists"):
        await rig.services.update_service(service=again)


async def test_an_update_mask_of_unknown_fields_is_refused(rig: Rig) -> None:
    await rig.create("ws-one")

    mask = field_mask_pb2.FieldMask(paths=["scaling.minInstanceCount"])
    with pytest.raises(exceptions.InvalidArgument, match=r"scaling\.minInstanceCount"):
        await rig.services.update_service(service=a_service(name=NAME), update_mask=mask)


async def test_lists_come_in_pages_that_stay_right_when_services_go(rig: Rig) -> None:
    for index in range(5):
        await rig.create(f"ws-{index}")
    await rig.create("elsewhere", parent="projects/onmemos-local/locations/europe-west1")

    first = (await rig.services.list_services({"parent": PARENT, "page_size": 2}))._response
    assert [service.name[-4:] for service in first.services] == ["ws-0", "ws-1"]
    await rig.services.delete_service(name=f"{PARENT}/services/ws-1")
    request = {"parent": PARENT, "page_size": 2, "page_token": first.next_page_token}
    rest = [service.name[-4:] async for service in await rig.services.list_services(request)]

    assert rest == ["ws-2", "ws-3", "ws-4"]
    for wrong in ({"page_size": -1}, {"page_token": "??"}):
        with pytest.raises(exceptions.InvalidArgument):
            await rig.services.list_services({"parent": PARENT, **wrong})


async def test_the_quota_of_a_region_is_exhausted(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets, services_per_region=2) as rig:
        await rig.create("ws-1")
        await rig.create("ws-2")

        with pytest.raises(exceptions.ResourceExhausted, match="2 services of 2"):
            await rig.create("ws-3")
        await rig.create("ws-3", parent="projects/onmemos-local/locations/europe-west1")


async def test_services_and_their_containers_come_back_after_a_restart(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets) as rig:
        before = await rig.create("ws-one")
        await rig.create("ws-two")
        with pytest.raises(exceptions.GoogleAPICallError):
            await rig.create("ws-bad", a_service("exit", "1"))
        await (await rig.services.delete_service(name=f"{PARENT}/services/ws-two")).result()
    assert not rig.runtime.running()

    async with cloud_run(tmp_path, sockets) as rig:
        after = await rig.until("ws-one", State.CONDITION_SUCCEEDED)
        assert (after.uid, after.etag, after.uri, after.latest_ready_revision) == (
            before.uid,
            before.etag,
            before.uri,
            before.latest_ready_revision,
        )
        assert [container.name for container in rig.runtime.running()] == ["ws-one"]
        assert (await rig.get("ws-bad")).terminal_condition.state == State.CONDITION_FAILED
        assert {s.name[-6:] async for s in await rig.services.list_services(parent=PARENT)} == {"ws-one", "ws-bad"}


async def test_a_service_is_not_ready_after_a_restart_until_its_container_is(tmp_path: Path, sockets: Path) -> None:
    async with cloud_run(tmp_path, sockets) as rig:
        await rig.create("ws-one")

    async with cloud_run(tmp_path, sockets) as rig:
        service = await rig.get("ws-one")
        assert service.terminal_condition.state == State.CONDITION_SUCCEEDED or service.reconciling
        await rig.until("ws-one", State.CONDITION_SUCCEEDED)


async def test_operations_are_kept_and_can_be_listed_and_forgotten(rig: Rig) -> None:
    operation = (await rig.services.create_service(parent=PARENT, service_id="ws-one", service=a_service())).operation

    assert (await rig.services.get_operation({"name": operation.name})).done
    listed = await rig.services.list_operations({"name": PARENT})
    assert [one.name for one in listed.operations] == [operation.name]
    await rig.services.delete_operation({"name": operation.name})
    with pytest.raises(exceptions.NotFound):
        await rig.services.get_operation({"name": operation.name})


async def test_what_the_emulator_does_not_speak_is_unimplemented(rig: Rig) -> None:
    with pytest.raises(exceptions.MethodNotImplemented):
        await rig.services.get_iam_policy({"resource": NAME})


async def test_nfs_shares_are_folders_that_all_who_mount_them_share_and_that_stay(rig: Rig) -> None:
    volumes = [{"name": "share", "nfs": {"server": "10.0.0.2", "path": "/vol1/team"}}]
    read_only = [{"name": "share", "nfs": {"server": "10.0.0.2", "path": "/vol1/team", "read_only": True}}]
    mounts = [{"name": "share", "mount_path": "/mnt/filestore"}]
    for service_id, asked in (("ws-one", volumes), ("ws-two", read_only)):
        await rig.create(service_id, a_service(template={"volumes": asked}, container={"volume_mounts": mounts}))

    shown = [mount for container in rig.runtime.started for mount in container.spec.mounts]
    share = rig.buckets.parent / "state" / "filestore" / "10.0.0.2" / "vol1" / "team"
    assert [(m.source, m.target, m.read_only) for m in shown] == [
        (share, "/mnt/filestore", False),
        (share, "/mnt/filestore", True),
    ]
    (share / "note").write_text("kept")
    for service_id in ("ws-one", "ws-two"):
        await (await rig.services.delete_service(name=f"{PARENT}/services/{service_id}")).result()
    assert (share / "note").read_text() == "kept"


async def test_only_egress_of_all_traffic_closes_a_containers_network(rig: Rig) -> None:
    for service_id, egress in (("ws-closed", "ALL_TRAFFIC"), ("ws-open", "PRIVATE_RANGES_ONLY")):
        vpc = {"egress": egress, "network_interfaces": [{"subnetwork": "projects/p/regions/r/subnetworks/s"}]}
        await rig.create(service_id, a_service(template={"vpc_access": vpc}))
    assert {container.name: container.spec.egress for container in rig.runtime.started} == {
        "ws-closed": False,
        "ws-open": True,
    }
