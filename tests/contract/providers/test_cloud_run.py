"""What only the Cloud Run provider does, against the emulator: the service it asks for, and the cloud's refusals."""

from dataclasses import replace
from typing import Any, NoReturn

import grpc.aio
import pytest
from google.cloud import run_v2
from google.cloud.run_v2.services.instances.transports import InstancesGrpcAsyncIOTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport

from shared.errors import InvalidRequest, ProviderUnavailable, ProvisioningFailed
from shared.models import Filestore, Resources, Storage
from shared.providers.base import Health, Wanted
from shared.providers.cloud_run import CloudRun
from shared.providers.cloud_run_api import Mode
from tests.contract.cloud_run_rig import Rig, a_service
from tests.contract.providers.conftest import SETTINGS, cloud_run_provider
from tests.fakes import a_session

BUCKET = "onmemos-test-developer-1761998400"


@pytest.fixture
def provider(rig: Rig) -> CloudRun:
    (rig.buckets / BUCKET).mkdir(parents=True)
    return cloud_run_provider(rig)


def offline(**changes: Any) -> CloudRun:
    """One that needs no call."""

    def called() -> NoReturn:
        pytest.fail("no call is needed")

    return CloudRun(called, called, replace(SETTINGS, **changes))


async def test_one_instance_of_the_templates_image_with_the_bucket_mounted(provider: CloudRun, rig: Rig) -> None:
    session = a_session(labels={"team": "x"}, resources=Resources(2.0, 4 << 30), egress=False)
    workspace = await provider.create(session, {"A": "1"}, BUCKET)
    service = await rig.get(workspace.details["service_name"])
    assert dict(service.labels) == {"team": "x", "onmemos-session": session.id}
    assert workspace.url == service.uri == f"http://localhost:8080/run/onmemos-{session.id}"
    assert (service.template.scaling.min_instance_count, service.template.scaling.max_instance_count) == (1, 1)
    (container,) = rig.runtime.running()
    assert container.spec.image == "onmemos/workspace-python:local"
    assert container.spec.env["A"] == "1"
    assert container.spec.limits.memory_bytes == 4 << 30
    assert not container.spec.egress
    assert [(mount.source.name, mount.target) for mount in container.spec.mounts] == [(BUCKET, "/data")]


async def test_a_workspace_runs_as_the_account_of_its_sessions_tenant(provider: CloudRun, rig: Rig) -> None:
    pattern = "ws-{tenant}@onmemos-local.iam.gserviceaccount.com"
    own = cloud_run_provider(rig, service_account=pattern)
    workspace = await own.create(a_session(tenant="acme"), {}, BUCKET)
    service = await rig.get(workspace.details["service_name"])
    assert service.template.service_account == "ws-acme@onmemos-local.iam.gserviceaccount.com"


async def test_the_sandboxs_facts_are_in_the_details(provider: CloudRun) -> None:
    workspace = await provider.create(a_session(), {}, BUCKET)
    assert workspace.details["isolation"] == "none"
    assert workspace.details["egress"] == "none"


async def test_a_workspace_that_cannot_start_fails_with_the_clouds_reason(provider: CloudRun, rig: Rig) -> None:
    rig.runtime.refuse = 100
    with pytest.raises(ProvisioningFailed, match="no sandbox today"):
        await provider.create(a_session(), {}, BUCKET)
    assert (await provider.inspect(a_session().id)).health is not Health.READY
    with pytest.raises(ProvisioningFailed):
        await provider.create(a_session(), {}, BUCKET)
    await provider.delete(a_session().id)


async def test_a_bucket_that_does_not_exist_fails_the_workspace(provider: CloudRun) -> None:
    with pytest.raises(ProvisioningFailed, match="onmemos-none-me-1756062811"):
        await provider.create(a_session(), {}, "onmemos-none-me-1756062811")


async def test_a_foreign_service_is_never_listed(provider: CloudRun, rig: Rig) -> None:
    await rig.create("shop")
    impostor = a_service()
    impostor.labels = {"onmemos-session": "ws-of-another-name"}
    await rig.create("onmemos-impostor", impostor)
    assert [found async for found in provider.session_ids()] == []
    assert rig.runtime.running()


async def test_a_container_that_died_is_not_ready(provider: CloudRun, rig: Rig) -> None:
    session = a_session()
    await provider.create(session, {}, BUCKET)
    rig.runtime.refuse = 100
    rig.runtime.running()[0].crash(137)
    await rig.until(f"onmemos-{session.id}", run_v2.Condition.State.CONDITION_FAILED)
    condition = await provider.inspect(session.id)
    assert condition.health is Health.FAILED
    assert condition.reason


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        (Resources(0.5, 1 << 30), "resources.cpu"),
        (Resources(3, 1 << 30), "resources.cpu"),
        (Resources(1, 5 << 30), "resources.memory"),
        (Resources(4, 1 << 30), "resources.memory"),
        (Resources(1, 1 << 28), "resources.memory"),
    ],
)
def test_a_size_that_cloud_run_does_not_have_is_refused_before(resources: Resources, field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        offline().check(Wanted("python", resources))
    assert list(refusal.value.errors) == [field]


def test_closed_networks_are_offered_only_where_there_is_one() -> None:
    open_only = offline(closed_subnetwork="")
    with pytest.raises(InvalidRequest, match=r"network\.egress"):
        open_only.check(Wanted("python", Resources(), egress=False))


@pytest.mark.parametrize("mode", list(Mode))
async def test_an_api_that_does_not_answer_is_unavailable(mode: Mode) -> None:
    channel = grpc.aio.insecure_channel("127.0.0.1:9")  # discard: nobody listens
    away = CloudRun(
        lambda: run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel)),
        lambda: run_v2.InstancesAsyncClient(transport=InstancesGrpcAsyncIOTransport(channel=channel)),
        replace(SETTINGS, mode=mode),
        patience_s=0.1,
    )
    with pytest.raises(ProviderUnavailable):
        await away.create(a_session(), {}, BUCKET)
    with pytest.raises(ProviderUnavailable):
        await away.inspect(a_session().id)
    with pytest.raises(ProviderUnavailable):
        await away.delete(a_session().id)
    with pytest.raises(ProviderUnavailable):
        await away.stop(a_session().id)
    with pytest.raises(ProviderUnavailable):
        assert [found async for found in away.session_ids()]
    await channel.close()


async def test_storage_is_mounted_where_it_was_asked_for(provider: CloudRun, rig: Rig) -> None:
    (rig.buckets / "datasets").mkdir()
    share = Filestore("10.0.0.2", "vol1/team", "/mnt/team")
    session = a_session(storage=Storage("datasets", "/in/put", keep=True, filestore=share))
    workspace = await provider.create(session, {}, "datasets")
    assert workspace.details["bucket_name"] == "datasets"
    service = await rig.get(workspace.details["service_name"])
    volumes = {volume.name: volume for volume in service.template.volumes}
    assert volumes["bucket"].gcs.bucket == "datasets"
    assert (volumes["filestore"].nfs.server, volumes["filestore"].nfs.path) == ("10.0.0.2", "/vol1/team")
    mounts = {mount.name: mount.mount_path for mount in service.template.containers[0].volume_mounts}
    assert mounts == {"bucket": "/in/put", "filestore": "/mnt/team"}
    access = service.template.vpc_access
    assert access.network_interfaces[0].subnetwork == SETTINGS.filestore_subnetwork
    (container,) = rig.runtime.running()
    assert container.spec.egress
    share_folder = rig.buckets.parent / "state" / "filestore" / "10.0.0.2" / "vol1" / "team"
    assert [(mount.source, mount.target) for mount in container.spec.mounts] == [
        (rig.buckets / "datasets", "/in/put"),
        (share_folder, "/mnt/team"),
    ]


async def test_a_closed_session_with_a_share_stays_closed(provider: CloudRun, rig: Rig) -> None:
    session = a_session(egress=False, storage=Storage(filestore=Filestore("10.0.0.2", "vol1")))
    workspace = await provider.create(session, {}, BUCKET)
    service = await rig.get(workspace.details["service_name"])
    assert service.template.vpc_access.network_interfaces[0].subnetwork == SETTINGS.closed_subnetwork
    assert not rig.runtime.running()[0].spec.egress


def test_shares_are_offered_only_where_there_is_a_way_to_them() -> None:
    without = offline(filestore_subnetwork="")
    with pytest.raises(InvalidRequest, match=r"storage\.filestore"):
        without.check(Wanted("python", Resources(), storage=Storage(filestore=Filestore("10.0.0.2", "vol1"))))


async def test_a_deployment_without_instances_has_its_services_all_the_same(rig: Rig) -> None:
    (rig.buckets / BUCKET).mkdir(parents=True)
    bare = grpc.aio.server()
    port = bare.add_insecure_port("127.0.0.1:0")
    await bare.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        absent = run_v2.InstancesAsyncClient(transport=InstancesGrpcAsyncIOTransport(channel=channel))
        provider = CloudRun(lambda: rig.services, lambda: absent, SETTINGS)
        session = a_session()
        await provider.create(session, {}, BUCKET)
        assert [found async for found in provider.session_ids()] == [session.id]
        await provider.stop(session.id)
        assert (await provider.inspect(session.id)).health is Health.GONE
        await provider.delete(session.id)
    await bare.stop(None)
