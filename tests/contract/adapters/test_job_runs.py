"""CloudRunJobs against Cloud Run's emulator, held to what the use cases rely on; the fake is held to the same."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import grpc.aio
import pytest
from google.cloud import run_v2
from google.cloud.run_v2.services.executions.transports import ExecutionsGrpcAsyncIOTransport
from google.cloud.run_v2.services.jobs.transports import JobsGrpcAsyncIOTransport

from shared.cloud_run_jobs import CloudRunJobs
from shared.errors import ProviderUnavailable, ProvisioningFailed
from shared.job_models import JobSpec
from shared.job_runs import JobRuns, Progress, Run
from shared.models import Filestore, Session, Storage
from shared.providers.cloud_run_api import CloudRunSettings
from tests.contract.cloud_run_rig import PARENT, Rig, cloud_run
from tests.fakes import a_session
from tests.job_fakes import MemoryRuns, a_job

SUBNETWORKS = "projects/onmemos-local/regions/us-central1/subnetworks"
SETTINGS = CloudRunSettings(
    project="onmemos-local",
    location="us-central1",
    service_account="jobs@onmemos-local.iam.gserviceaccount.com",
    closed_subnetwork=f"{SUBNETWORKS}/closed",
    filestore_subnetwork=f"{SUBNETWORKS}/filestore",
)
BUCKET = "onmemos-test-developer-1761998400"
JOB = a_job(spec=JobSpec("make", timeout_s=90.5))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    sockets = Path(tempfile.mkdtemp(prefix="om-"))  # tmp_path may be longer than a socket's path can be
    async with cloud_run(tmp_path, sockets) as rig:
        (rig.buckets / BUCKET).mkdir()
        yield rig
    shutil.rmtree(sockets, ignore_errors=True)


@dataclass
class Stand:
    """Runs, and what ends an attempt at one with an exit code."""

    runs: JobRuns
    end: Callable[[int], Awaitable[None]]


@pytest.fixture(params=["memory", "cloud_run"])
async def stand(request: pytest.FixtureRequest, rig: Rig) -> Stand:
    if request.param == "memory":
        fake = MemoryRuns()

        async def end(code: int) -> None:
            fake.is_now(JOB.id, Progress.FAILED if code else Progress.SUCCEEDED)

        return Stand(fake, end)

    async def crash(code: int) -> None:
        await rig.runtime.have_started(1)
        rig.runtime.started[-1].crash(code)

    return Stand(adapter(rig), crash)


def adapter(rig: Rig) -> CloudRunJobs:
    return CloudRunJobs(lambda: rig.jobs, lambda: rig.executions, SETTINGS)


async def begun(runs: JobRuns, session: Session | None = None) -> None:
    await runs.start(session or a_session(), JOB, BUCKET)


async def over(runs: JobRuns) -> Run:
    """The run once it is over."""
    for _ in range(1000):
        run = await runs.inspect(JOB.id)
        if run is not None and run.is_over:
            return run
        await asyncio.sleep(0.005)
    raise AssertionError(f"the run stays {run}")


async def ids(runs: JobRuns) -> list[tuple[str, str]]:
    return [pair async for pair in runs.job_ids()]


@pytest.mark.parametrize(("code", "progress"), [(0, Progress.SUCCEEDED), (3, Progress.FAILED)])
async def test_a_run_goes_on_until_its_command_ends(stand: Stand, code: int, progress: Progress) -> None:
    assert await stand.runs.inspect(JOB.id) is None
    await begun(stand.runs)
    run = await stand.runs.inspect(JOB.id)
    assert run is not None
    assert (run.is_over, run.finished_at) == (False, None)
    await stand.end(code)
    run = await over(stand.runs)
    assert run.progress is progress
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.started_at <= run.finished_at


async def test_starting_again_finds_the_run_of_the_first_time(stand: Stand) -> None:
    await begun(stand.runs)
    await begun(stand.runs)
    await stand.end(0)
    await over(stand.runs)
    await begun(stand.runs)
    assert (await over(stand.runs)).progress is Progress.SUCCEEDED


async def test_a_cancelled_run_is_over_and_cancelling_it_again_is_not_an_error(stand: Stand) -> None:
    await stand.runs.cancel(JOB.id)
    await begun(stand.runs)
    for _ in range(2):
        await stand.runs.cancel(JOB.id)
    assert (await over(stand.runs)).progress is Progress.CANCELLED


async def test_a_job_is_listed_until_it_is_removed_and_removing_twice_is_not_an_error(stand: Stand) -> None:
    await begun(stand.runs)
    assert await ids(stand.runs) == [(a_session().id, JOB.id)]
    for _ in range(2):
        await stand.runs.remove(JOB.id)
    assert await stand.runs.inspect(JOB.id) is None
    assert await ids(stand.runs) == []


async def test_a_command_is_run_once_however_often_it_is_started(rig: Rig) -> None:
    for _ in range(3):
        await begun(adapter(rig))
    executions = await rig.executions.list_executions(parent=f"{PARENT}/jobs/onmemos-{JOB.id}")
    assert len([one async for one in executions]) == 1


async def test_a_job_that_was_made_and_not_run_is_run(rig: Rig) -> None:
    runs = adapter(rig)
    await rig.create_job(f"onmemos-{JOB.id}", runs._job(a_session(), JOB, BUCKET))
    await begun(runs)
    await rig.runtime.have_started(1)


async def test_what_is_made_is_what_the_session_is(rig: Rig) -> None:
    storage = Storage(mount_path="/mnt/in", filestore=Filestore("10.0.0.2", "vol1"))
    session = a_session(labels={"team": "x"}, storage=storage)
    runs = adapter(rig)
    await runs.start(session, replace(JOB, spec=replace(JOB.spec, retries=2)), BUCKET)
    job = await rig.jobs.get_job(name=f"{PARENT}/jobs/onmemos-{JOB.id}")
    assert dict(job.labels) == {"team": "x", "onmemos-session": session.id, "onmemos-job": JOB.id}
    task = job.template.template
    (container,) = task.containers
    assert container.image == session.image
    assert list(container.command)[-2:] == ["/opt/onmemos/agent/job.py", f"/mnt/in/.onmemos/jobs/{JOB.id}"]
    assert not container.env
    assert (task.max_retries, task.timeout.total_seconds()) == (2, 121)
    assert task.service_account == SETTINGS.service_account
    assert [(one.name, one.mount_path) for one in container.volume_mounts] == [
        ("bucket", "/mnt/in"),
        ("filestore", "/mnt/filestore"),
    ]
    assert task.volumes[0].gcs.bucket == BUCKET
    assert task.vpc_access.network_interfaces[0].subnetwork == SETTINGS.filestore_subnetwork


async def test_without_egress_there_is_no_way_out_and_the_longest_timeout_is_the_platforms(rig: Rig) -> None:
    job = replace(JOB, spec=replace(JOB.spec, timeout_s=604_800))
    await adapter(rig).start(a_session(egress=False), job, BUCKET)
    task = (await rig.jobs.get_job(name=f"{PARENT}/jobs/onmemos-{JOB.id}")).template.template
    assert task.timeout.total_seconds() == 604_800
    assert task.vpc_access.egress == run_v2.VpcAccess.VpcEgress.ALL_TRAFFIC
    assert task.vpc_access.network_interfaces[0].subnetwork == SETTINGS.closed_subnetwork


async def test_a_job_that_is_tried_again_is_over_after_the_last_attempt(rig: Rig) -> None:
    runs = adapter(rig)
    await runs.start(a_session(), replace(JOB, spec=replace(JOB.spec, retries=1)), BUCKET)
    (await rig.runtime.have_started(1)).crash(1)
    second = await rig.runtime.have_started(2)
    run = await runs.inspect(JOB.id)
    assert run is not None
    assert not run.is_over
    second.crash(0)
    assert (await over(runs)).progress is Progress.SUCCEEDED


async def test_what_cloud_run_refuses_is_said_in_its_words(rig: Rig) -> None:
    with pytest.raises(ProvisioningFailed, match="image"):
        await begun(adapter(rig), a_session(image="Not An Image"))


async def test_a_job_of_others_is_not_listed(rig: Rig) -> None:
    await rig.create_job("theirs")
    await rig.create_job("onmemos-other", adapter(rig)._job(a_session(), JOB, BUCKET))
    assert await ids(adapter(rig)) == []


async def test_a_cloud_run_that_does_not_answer_is_unavailable() -> None:
    # Port 9 (discard) of the loopback: nothing listens there, and connecting is refused at once.
    async with grpc.aio.insecure_channel("127.0.0.1:9") as channel:
        jobs = run_v2.JobsAsyncClient(transport=JobsGrpcAsyncIOTransport(channel=channel))
        executions = run_v2.ExecutionsAsyncClient(transport=ExecutionsGrpcAsyncIOTransport(channel=channel))
        runs = CloudRunJobs(lambda: jobs, lambda: executions, SETTINGS, patience_s=0.2)
        for call in (runs.inspect(JOB.id), runs.cancel(JOB.id), runs.remove(JOB.id), begun(runs), ids(runs)):
            with pytest.raises(ProviderUnavailable):
                await call
