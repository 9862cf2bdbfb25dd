"""What only the Workstations provider does: the workstation it asks for, its tokens, stops, and what it refuses."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
from google.cloud import workstations_v1
from google.cloud.workstations_v1.services.workstations.transports import WorkstationsGrpcAsyncIOTransport

from infra.local.workstations import ensure_workstations
from shared.errors import (
    InvalidRequest,
    ProviderUnavailable,
    ProvisioningFailed,
    QuotaExceeded,
    WorkspaceUnreachable,
)
from shared.models import Filestore, ProviderName, Resources, Session, Storage
from shared.providers.base import Access, Health, Wanted
from shared.providers.workstations import Workstations, WorkstationsSettings
from shared.templates import Templates
from tests.contract.workstations_rig import CLUSTER, CONFIG, Rig, State, workstations
from tests.fakes import a_session

BUCKET = "onmemos-test-developer-1761998400"
PATTERN = "onmemos-{template}"
ENV = {"WORKSPACE_ID": a_session().id, "A": "1"}
NAME = f"{CONFIG}/workstations/onmemos-{a_session().id}"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    sockets = Path(tempfile.mkdtemp(prefix="om-"))
    async with workstations(tmp_path, sockets) as rig:
        await ensure_workstations(rig.address, CLUSTER, PATTERN, Templates())
        yield rig
    shutil.rmtree(sockets, ignore_errors=True)


@pytest.fixture
def provider(rig: Rig) -> Workstations:
    return Workstations(
        lambda: rig.client, WorkstationsSettings(CLUSTER, PATTERN, rig.url), clock=rig.clock, door_timeout_s=0.2
    )


async def running(provider: Workstations, env: dict[str, str] = ENV, **changes: Any) -> Session:
    """A session as it is stored once its workspace was made."""
    session = a_session(provider=ProviderName.WORKSTATIONS, **changes)
    workspace = await provider.create(session, env, BUCKET)
    return a_session(
        provider=ProviderName.WORKSTATIONS, **{**changes, "url": workspace.url, "details": workspace.details}
    )


async def status(url: str, headers: Any) -> int:
    async with aiohttp.ClientSession() as client, client.get(f"{url}/health", headers=headers) as response:
        return response.status


async def test_a_workstation_of_the_templates_config_with_the_sessions_variables(
    provider: Workstations, rig: Rig
) -> None:
    session = await running(provider, labels={"team": "x"})
    workstation = await rig.client.get_workstation(name=NAME)
    assert dict(workstation.labels) == {"team": "x", "onmemos-session": session.id}
    assert dict(workstation.env) == {**ENV, "PORT": "8080"}
    assert session.url == rig.url.format(port=8080, host=workstation.host)
    assert session.details == {
        "workstation": NAME,
        "workstation_uid": workstation.uid,
        "config": "onmemos-python",
        "host": workstation.host,
        "bucket_name": BUCKET,
    }
    (container,) = rig.runtime.running()
    assert container.spec.image == "onmemos/workspace-python"
    assert container.spec.command == ()
    assert [mount.target for mount in container.spec.mounts] == ["/workspace"]


async def test_the_control_plane_gets_in_with_a_token_and_nobody_without(provider: Workstations) -> None:
    address = await provider.address(await running(provider))
    assert await status(address.url, address.headers) == 200
    assert await status(address.url, {}) == 401
    assert await status(address.url, {"Authorization": "Bearer nonsense"}) == 401


async def test_one_token_serves_all_calls_until_shortly_before_it_expires(provider: Workstations, rig: Rig) -> None:
    session = await running(provider)
    first = (await provider.address(session)).headers
    rig.clock.advance(minutes=50)
    assert (await provider.address(session)).headers == first
    rig.clock.advance(minutes=6)
    answers = await asyncio.gather(*(provider.address(session) for _ in range(20)))
    assert answers[0].headers != first
    assert {one.headers["Authorization"] for one in answers} == {answers[0].headers["Authorization"]}
    assert await status(answers[0].url, answers[0].headers) == 200
    rig.clock.advance(minutes=5)
    assert await status(answers[0].url, first) == 401


async def test_a_token_that_could_not_be_had_is_asked_for_anew(provider: Workstations, rig: Rig) -> None:
    session = await running(provider)
    lost = a_session(url=session.url, details={**session.details, "workstation": f"{CONFIG}/workstations/none"})
    for _ in range(2):
        with pytest.raises(WorkspaceUnreachable, match="none"):
            await provider.address(lost)
    with pytest.raises(WorkspaceUnreachable):
        await provider.address(a_session(url=None))
    await rig.create("none")
    assert "Authorization" in (await provider.address(lost)).headers


async def test_a_workspace_made_anew_has_tokens_of_its_own(provider: Workstations) -> None:
    before = await running(provider)
    old = await provider.address(before)
    await provider.delete(before.id)
    new = await provider.address(await running(provider))
    assert new.url == old.url
    assert await status(new.url, new.headers) == 200
    assert await status(old.url, old.headers) == 403


async def test_clients_get_the_commands_for_ssh_and_no_address_without_a_token(provider: Workstations) -> None:
    session = await running(provider)
    flags = "--project=onmemos-local --region=us-central1 --cluster=onmemos --config=onmemos-python"
    access = provider.access(session)
    assert (access.url, access.websocket) == (None, None)
    assert access.ssh == {
        "command": f"gcloud workstations ssh {flags} onmemos-{session.id}",
        "tunnel": f"gcloud workstations start-tcp-tunnel {flags} --local-host-port=localhost:2222 "
        f"onmemos-{session.id} 22",
        "host": session.details["host"],
        "workstation": NAME,
    }
    assert provider.access(a_session()) == Access()


async def test_files_outlive_a_stop_and_new_variables_come_with_the_next_start(
    provider: Workstations, rig: Rig
) -> None:
    session = await running(provider)
    assert provider.keeps_files(session)
    disk = rig.runtime.running()[0].spec.mounts[0].source
    (disk / "file").write_text("x")
    await provider.stop(session.id)
    await provider.stop(session.id)
    assert (await provider.inspect(session.id)).health is Health.STOPPED
    assert [found async for found in provider.session_ids()] == [session.id]
    again = await running(provider, {**ENV, "A": "2"})
    assert again.details == session.details
    (container,) = rig.runtime.running()
    assert container.spec.env["A"] == "2"
    assert (container.spec.mounts[0].source / "file").read_text() == "x"


async def test_one_that_still_runs_with_other_variables_is_started_anew(provider: Workstations, rig: Rig) -> None:
    await running(provider)
    await running(provider, {**ENV, "ONMEMOS_TICKET_KEYS": "new"})
    (container,) = rig.runtime.running()
    assert container.spec.env["ONMEMOS_TICKET_KEYS"] == "new"


async def test_a_create_that_was_cut_short_is_taken_up_where_it_was(provider: Workstations, rig: Rig) -> None:
    env = {**ENV, "PORT": "8080"}
    made = await rig.create(f"onmemos-{a_session().id}", env=env)
    await running(provider)
    await rig.stop(made.name)
    rig.emulator.fleet.begin_start(made.name, "")
    assert (await running(provider)).details["workstation_uid"] == made.uid
    rig.emulator.fleet.begin_stop(made.name)
    await running(provider)
    rig.emulator.fleet.begin_deletion(made.name)
    assert (await running(provider)).details["workstation_uid"] != made.uid
    assert len(rig.runtime.running()) == 1


async def test_two_creates_at_once_make_one_workstation(provider: Workstations, rig: Rig) -> None:
    one, two = await asyncio.gather(running(provider), running(provider))
    assert one.details == two.details
    assert len(rig.runtime.running()) == 1


async def test_an_idle_stop_of_the_platform_is_seen(provider: Workstations, rig: Rig) -> None:
    session = await running(provider)
    config = await rig.client.get_workstation_config(name=CONFIG)
    config.idle_timeout = timedelta(seconds=60)
    request = workstations_v1.UpdateWorkstationConfigRequest(
        workstation_config=config, update_mask={"paths": ["idle_timeout"]}
    )
    await (await rig.client.update_workstation_config(request)).result(timeout=5)
    rig.clock.advance(seconds=61)
    await rig.emulator.fleet.sweep()
    condition = await provider.inspect(session.id)
    assert condition.health is Health.STOPPED
    assert "timeout" in condition.reason


async def test_a_stopped_and_a_running_one_are_deleted_with_their_disks(provider: Workstations, rig: Rig) -> None:
    for stop in (True, False):
        session = await running(provider)
        disk = rig.runtime.running()[0].spec.mounts[0].source
        if stop:
            await provider.stop(session.id)
        await provider.delete(session.id)
        assert not disk.exists()
    assert rig.runtime.running() == []


async def test_stopping_one_that_was_never_made_is_not_an_error(provider: Workstations) -> None:
    await provider.stop("ws-none-me-1756062811")


async def test_a_foreign_workstation_is_never_listed(provider: Workstations, rig: Rig) -> None:
    labels = {"onmemos-session": "ws-of-another-name"}
    await rig.create("shop", labels=labels)
    await rig.group(f"{CLUSTER}/workstationConfigs/theirs")
    await rig.create("onmemos-ws-of-another-name", f"{CLUSTER}/workstationConfigs/theirs", labels=labels)
    assert [found async for found in provider.session_ids()] == []
    assert (await provider.inspect("ws-of-another-name")).health is Health.GONE


async def test_a_workspace_that_cannot_start_fails_with_the_platforms_reason(provider: Workstations, rig: Rig) -> None:
    rig.runtime.refuse = 100
    with pytest.raises(ProvisioningFailed, match="no sandbox today"):
        await running(provider)
    assert (await provider.inspect(a_session().id)).health is Health.STOPPED
    rig.runtime.refuse = 0
    await running(provider)


async def test_an_agent_that_is_not_at_its_door_fails_the_workspace(provider: Workstations, rig: Rig) -> None:
    await rig.group(f"{CLUSTER}/workstationConfigs/onmemos-odd", command=("status", "500"), readiness_checks=[])
    with pytest.raises(ProvisioningFailed, match=r"did not answer on port 8080 .* answered 500"):
        await running(provider, template="odd")


async def test_a_config_that_does_not_exist_fails_the_workspace(provider: Workstations) -> None:
    with pytest.raises(ProvisioningFailed, match="onmemos-none"):
        await running(provider, template="none")


async def test_a_spent_quota_says_so(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="om-") as sockets:
        async with workstations(tmp_path, Path(sockets), workstations_per_region=0) as rig:
            await rig.group()
            provider = Workstations(lambda: rig.client, WorkstationsSettings(CLUSTER, "onmemos-python", rig.url))
            with pytest.raises(QuotaExceeded, match="Quota exceeded"):
                await provider.create(a_session(), ENV, BUCKET)


async def test_an_api_that_does_not_answer_is_unavailable() -> None:
    channel = grpc.aio.insecure_channel("127.0.0.1:9")  # discard: nobody listens
    client = workstations_v1.WorkstationsAsyncClient(transport=WorkstationsGrpcAsyncIOTransport(channel=channel))
    away = Workstations(lambda: client, WorkstationsSettings(CLUSTER, PATTERN), patience_s=0.1)
    session = a_session(details={"workstation": NAME})
    for call in (
        away.create(session, ENV, BUCKET),
        away.address(session),
        away.inspect(session.id),
        away.stop(session.id),
        away.delete(session.id),
        anext(away.session_ids()),
    ):
        with pytest.raises(ProviderUnavailable):
            await call
    await channel.close()


async def test_the_cluster_and_its_configs_are_made_once_and_kept_up_to_date(rig: Rig) -> None:
    before = await rig.create("one")
    await ensure_workstations(rig.address, CLUSTER, PATTERN, Templates(image="other/{template}"), "e2-standard-4")
    config = await rig.client.get_workstation_config(name=CONFIG)
    assert config.container.image == "other/python"
    assert config.host.gce_instance.machine_type == "e2-standard-4"
    assert (config.idle_timeout, config.running_timeout) == (timedelta(0), timedelta(0))
    assert await rig.state(before.name) == State.STATE_STOPPED


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (Wanted("python", Resources(4, 2 << 30)), "resources.cpu"),
        (Wanted("python", Resources(1, 9 << 30)), "resources.memory"),
        (Wanted("python", Resources(), egress=False), "network.egress"),
        (Wanted("python", Resources(), storage=Storage("x")), "storage.bucket"),
        (Wanted("python", Resources(), storage=Storage(keep=True)), "storage.keep"),
        (Wanted("python", Resources(), storage=Storage(mount_path="/in")), "storage.mount_path"),
        (Wanted("python", Resources(), storage=Storage(filestore=Filestore("10.0.0.2", "v"))), "storage.filestore"),
        (Wanted("Py_3", Resources()), "template"),
    ],
)
def test_a_combination_that_workstations_do_not_have_is_named(wanted: Wanted, field: str) -> None:
    provider = Workstations(lambda: pytest.fail("no call is needed"), WorkstationsSettings(CLUSTER, PATTERN))
    with pytest.raises(InvalidRequest, match="on workstations") as refusal:
        provider.check(wanted)
    assert list(refusal.value.errors) == [field]
    provider.check(Wanted("python", Resources(2, 8 << 30)))
