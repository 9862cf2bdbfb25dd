"""What only the Cloud Run provider's instance mode does: stop and start, and what the mode before it has left."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from google.api_core import exceptions
from google.longrunning import operations_pb2
from google.rpc import code_pb2, status_pb2

from shared.errors import ProviderUnavailable, ProvisioningFailed, QuotaExceeded
from shared.models import Filestore, Resources, Storage
from shared.providers.base import Health
from shared.providers.cloud_run import CloudRun
from shared.providers.cloud_run_api import Mode
from tests.contract.cloud_run_rig import PARENT, Rig, an_instance, cloud_run
from tests.contract.providers.conftest import cloud_run_provider
from tests.fakes import a_session

BUCKET = "onmemos-test-developer-1761998400"
SESSION = a_session()
ID = f"onmemos-{SESSION.id}"
ENV = {"A": "1"}


@pytest.fixture
def instances(rig: Rig) -> CloudRun:
    (rig.buckets / BUCKET).mkdir(parents=True, exist_ok=True)
    return cloud_run_provider(rig, Mode.INSTANCE)


@pytest.fixture
def services(rig: Rig) -> CloudRun:
    (rig.buckets / BUCKET).mkdir(parents=True, exist_ok=True)
    return cloud_run_provider(rig, Mode.SERVICE)


async def listed(provider: CloudRun) -> list[str]:
    return [session_id async for session_id in provider.session_ids()]


async def test_the_instance_is_what_the_service_would_be(instances: CloudRun, rig: Rig) -> None:
    share = Filestore("10.0.0.2", "vol1/team", "/mnt/team")
    session = a_session(labels={"team": "x"}, resources=Resources(2.0, 4 << 30), storage=Storage(filestore=share))
    workspace = await instances.create(session, ENV, BUCKET)
    assert workspace.url == f"http://localhost:8080/run/{ID}"
    assert workspace.details == {
        "instance_name": ID,
        "bucket_name": BUCKET,
        "isolation": "none",
        "egress": "none",
        "limits": "none",
    }
    instance = await rig.get_instance(ID)
    assert dict(instance.labels) == {"team": "x", "onmemos-session": session.id}
    assert instance.invoker_iam_disabled
    (container,) = rig.runtime.running()
    assert container.spec.image == session.image
    assert container.spec.env["A"] == "1"
    assert (container.spec.limits.cpu, container.spec.limits.memory_bytes) == (2, 4 << 30)
    assert [mount.target for mount in container.spec.mounts] == ["/data", "/mnt/team"]
    assert container.spec.egress


async def test_a_closed_session_is_closed(instances: CloudRun, rig: Rig) -> None:
    await instances.create(a_session(egress=False), ENV, BUCKET)
    assert not rig.runtime.running()[0].spec.egress


async def test_a_stopped_instance_is_started_where_it_was(instances: CloudRun, rig: Rig) -> None:
    before = await instances.create(SESSION, ENV, BUCKET)
    uid = (await rig.get_instance(ID)).uid
    await instances.stop(SESSION.id)
    condition = await instances.inspect(SESSION.id)
    assert (condition.health, condition.reason) == (Health.STOPPED, "Instance stopped.")
    assert not rig.runtime.running()
    assert await listed(instances) == [SESSION.id]
    assert await instances.create(SESSION, ENV, BUCKET) == before
    assert (await rig.get_instance(ID)).uid == uid
    assert len(rig.runtime.running()) == 1


async def test_a_stopped_instance_that_is_not_what_is_wanted_any_more_gives_way(instances: CloudRun, rig: Rig) -> None:
    await instances.create(SESSION, ENV, BUCKET)
    for session, env in ((SESSION, {"A": "2"}), (replace(SESSION, image="onmemos/workspace-node:2"), {"A": "2"})):
        await instances.stop(SESSION.id)
        workspace = await instances.create(session, env, BUCKET)
        assert workspace.url == f"http://localhost:8080/run/{ID}"
        (container,) = rig.runtime.running()
        assert (container.spec.image, container.spec.env["A"]) == (session.image, "2")
    assert await listed(instances) == [SESSION.id]


async def test_a_running_instance_is_left_alone(instances: CloudRun, rig: Rig) -> None:
    before = await instances.create(SESSION, ENV, BUCKET)
    assert await instances.create(SESSION, {"A": "2"}, BUCKET) == before
    assert len(rig.runtime.started) == 1


async def test_a_start_that_failed_can_be_tried_again(instances: CloudRun, rig: Rig) -> None:
    rig.runtime.refuse = 2
    for _ in range(2):
        with pytest.raises(ProvisioningFailed, match="no sandbox today"):
            await instances.create(SESSION, ENV, BUCKET)
        assert (await instances.inspect(SESSION.id)).health is Health.FAILED
    await instances.create(SESSION, ENV, BUCKET)
    assert (await instances.inspect(SESSION.id)).health is Health.READY
    await instances.stop(SESSION.id)
    rig.runtime.refuse = 1
    with pytest.raises(ProvisioningFailed, match="no sandbox today"):
        await instances.create(SESSION, ENV, BUCKET)
    await instances.create(SESSION, ENV, BUCKET)
    assert len(rig.runtime.running()) == 1


async def test_an_instance_whose_container_is_down_is_not_ready(instances: CloudRun, rig: Rig) -> None:
    await instances.create(SESSION, ENV, BUCKET)
    rig.runtime.refuse = 1
    rig.runtime.running()[0].crash(137)
    await rig.runtime.have_started(2)
    await rig.instance_until(ID, 4)
    rig.runtime.running()[0].crash(0)
    await rig.instance_until(ID, 3)
    condition = await instances.inspect(SESSION.id)
    assert condition.health is Health.STOPPED
    assert "exited with code 0" in condition.reason


async def test_an_exhausted_quota_is_said(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="om-") as sockets:
        async with cloud_run(tmp_path, Path(sockets), instances_per_region=0) as rig:
            with pytest.raises(QuotaExceeded, match="0 instances of 0"):
                await cloud_run_provider(rig, Mode.INSTANCE).create(SESSION, ENV, BUCKET)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (code_pb2.RESOURCE_EXHAUSTED, QuotaExceeded),
        (code_pb2.ABORTED, ProviderUnavailable),
        (code_pb2.FAILED_PRECONDITION, ProvisioningFailed),
    ],
)
async def test_an_operation_fails_as_a_call_would(
    code: int, error: type[Exception], instances: CloudRun, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failed:
        async def result(self, timeout: float) -> NoReturn:
            operation = operations_pb2.Operation(done=True, error=status_pb2.Status(code=code, message="not today"))
            raise exceptions.GoogleAPICallError("not today", errors=(operation.error,), response=operation)

    async def create(*_: object, **__: object) -> Failed:
        return Failed()

    monkeypatch.setattr(rig.instances, "create_instance", create)
    with pytest.raises(error, match="not today"):
        await instances.create(SESSION, ENV, BUCKET)


@pytest.mark.parametrize("mode", list(Mode))
async def test_what_the_other_mode_made_is_found_stopped_and_deleted(
    mode: Mode, services: CloudRun, instances: CloudRun, rig: Rig
) -> None:
    before, after = (services, instances) if mode is Mode.INSTANCE else (instances, services)
    await before.create(SESSION, ENV, BUCKET)
    assert (await after.inspect(SESSION.id)).health is Health.READY
    assert await listed(after) == [SESSION.id]
    await after.stop(SESSION.id)
    assert not rig.runtime.running()
    workspace = await after.create(SESSION, ENV, BUCKET)
    assert f"{mode}_name" in workspace.details
    assert (await after.inspect(SESSION.id)).health is Health.READY
    assert await listed(after) == [SESSION.id]
    await after.delete(SESSION.id)
    assert (await after.inspect(SESSION.id)).health is Health.GONE
    assert await listed(after) == []
    assert not rig.runtime.running()


async def test_a_foreign_instance_is_never_listed(instances: CloudRun, rig: Rig) -> None:
    await rig.create_instance("shop")
    await rig.create_instance("onmemos-impostor", an_instance(labels={"onmemos-session": "ws-of-another-name"}))
    assert await listed(instances) == []
    assert [found.name async for found in await rig.instances.list_instances(parent=PARENT)]
