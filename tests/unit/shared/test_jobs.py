"""Jobs over fakes: what callers see, and what survives crashes, lost answers and others who look at the same time."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.answers import job_json
from shared.callers import Caller
from shared.errors import (
    IdempotencyConflict,
    InvalidRequest,
    JobNotFound,
    ProviderNotConfigured,
    ProviderUnavailable,
    ProvisioningFailed,
    QuotaExceeded,
    SessionFailed,
    SessionNotFound,
    TooManyJobs,
)
from shared.job_files import SHOWN_BYTES
from shared.job_life import CLAIM_LASTS, START_DEADLINE, JobLife
from shared.job_models import Job, JobOutput, JobSpec, JobState
from shared.job_runs import Progress
from shared.jobs import MAX_UNFINISHED, Jobs
from shared.models import ProviderName, Resources, Session, State, Storage
from shared.names import bucket_name
from shared.ports import JobPorts
from shared.reconcile import Deed, Reconciler
from shared.steps import Steps
from tests.fakes import START
from tests.job_fakes import MemoryJobs, MemoryRuns
from tests.unit.shared.test_sessions import ME, SPEC, House

MAKE = JobSpec("make all", env={"A": "job's", "LEVEL": "3"}, timeout_s=60)


class JobHouse(House):
    """The use cases of jobs and everything below them, with a session that runs."""

    session: Session

    def __post_init__(self) -> None:
        super().__post_init__()
        self.job_store, self.runs = MemoryJobs(self.clock), MemoryRuns()
        self.ports = replace(self.ports, jobs=JobPorts(self.job_store, self.runs))
        self.steps, self.jobs, self.life = Steps(self.ports), Jobs(self.ports), JobLife(self.ports)

    async def create(self, spec: JobSpec = MAKE, **more: Any) -> Job:
        return await self.jobs.create(ME, self.session.id, spec, **more)

    async def get(self, job: Job) -> Job:
        return (await self.jobs.get(ME, self.session.id, job.id))[0]

    def file(self, job: Job, name: str) -> bytes | None:
        return self.buckets.objects.get((bucket_name(self.session.id), f".onmemos/jobs/{job.id}/{name}"))

    def write(self, job: Job, files: Mapping[str, bytes | dict[str, Any]]) -> None:
        """What the runner would."""
        for name, content in files.items():
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.buckets.objects[bucket_name(self.session.id), f".onmemos/jobs/{job.id}/{name}"] = raw

    def end(self, job: Job, returncode: int) -> None:
        """The runner's result, and the run's end."""
        self.write(job, {"0/result.json": {"returncode": returncode, "timed_out": False}})
        self.runs.is_now(job.id, Progress.SUCCEEDED if returncode == 0 else Progress.FAILED)

    async def put(self, **changes: Any) -> None:
        """Change the session as something else would."""
        self.session = await self.store.update(replace(await self.store.get(self.session.id), **changes))

    async def reconciled(self) -> list[tuple[Deed, str]]:
        return [(one.deed, one.target) async for one in Reconciler(self.ports).run()]


@pytest.fixture
async def house() -> AsyncIterator[JobHouse]:
    house = JobHouse()
    house.session = await house.running()
    yield house
    assert {job_id for job_id in house.runs.runs if job_id not in house.job_store.documents} == set()


async def test_a_job_is_pending_then_runs_then_has_succeeded(house: JobHouse) -> None:
    job = await house.create()
    assert (job.state, job.attempts, job.returncode) == (JobState.PENDING, 0, None)
    house.runs.is_now(job.id, Progress.RUNNING)
    house.write(job, {"0/attempt.json": {}, "0/stdout-000000.log": b"half"})
    running, output = await house.jobs.get(ME, house.session.id, job.id)
    assert (running.state, running.attempts, output) == (JobState.RUNNING, 1, JobOutput(b"half"))
    house.end(job, 0)
    done = await house.get(job)
    assert (done.state, done.returncode, done.error) == (JobState.SUCCEEDED, 0, None)
    assert (done.started_at, done.finished_at) == (START + timedelta(seconds=5), START + timedelta(minutes=1))


async def test_the_runner_is_told_what_to_run_in_the_bucket_and_no_longer_than_needed(house: JobHouse) -> None:
    job = await house.create()
    command = json.loads(house.file(job, "command.json") or b"")
    assert (command["command"], command["argv"], command["timeout_s"], command["cwd"]) == (
        "make all",
        None,
        60,
        "/data",
    )
    assert command["env"] == {
        "A": "job's",
        "LEVEL": "3",
        "WORKSPACE_ID": house.session.id,
        "NAMESPACE": "test",
        "USER": "developer",
        "BUCKET_NAME": bucket_name(house.session.id),
        "PYTHONUNBUFFERED": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    house.end(job, 0)
    await house.get(job)
    assert house.file(job, "command.json") is None
    assert job.id not in house.runs.runs


@pytest.mark.parametrize(
    ("progress", "result", "state", "returncode"),
    [
        (Progress.FAILED, {"returncode": 2, "timed_out": False}, JobState.FAILED, 2),
        (Progress.FAILED, {"returncode": 124, "timed_out": True}, JobState.TIMED_OUT, 124),
        (Progress.CANCELLED, {"returncode": 143, "timed_out": False}, JobState.CANCELLED, 143),
        (Progress.FAILED, None, JobState.FAILED, None),
        (Progress.FAILED, [], JobState.FAILED, None),
        (Progress.FAILED, {"returncode": "x" * 5000}, JobState.FAILED, None),
        (Progress.FAILED, {"returncode": True}, JobState.FAILED, None),
    ],
)
async def test_how_a_job_ended(
    house: JobHouse, progress: Progress, result: Any, state: JobState, returncode: int | None
) -> None:
    job = await house.create()
    if result is not None:
        house.write(job, {"0/result.json": result})
    house.runs.is_now(job.id, progress, "Memory limit of 512 MiB exceeded")
    done = await house.get(job)
    assert (done.state, done.returncode) == (state, returncode)
    assert (done.error == "Memory limit of 512 MiB exceeded") == (state is JobState.FAILED and returncode is None)
    assert (done.error == "it did not end within 60 s") == (state is JobState.TIMED_OUT)
    assert await house.get(job) == done


async def test_the_newest_attempt_counts_and_its_output_is_shown(house: JobHouse) -> None:
    job = await house.create(replace(MAKE, retries=2))
    house.write(job, {"0/stdout-000000.log": b"first", "0/result.json": {"returncode": 1}})
    last: dict[str, Any] = {
        "10/stdout-000000.log": b"last ",
        "10/stdout-000001.log": b"part",
        "10/result.json": {"returncode": 3},
    }
    house.write(job, last)
    house.runs.is_now(job.id, Progress.FAILED)
    done, output = await house.jobs.get(ME, house.session.id, job.id)
    assert (done.attempts, done.returncode, output.stdout) == (11, 3, b"last part")


async def test_an_attempt_that_left_no_result_does_not_get_that_of_the_one_before(house: JobHouse) -> None:
    job = await house.create(replace(MAKE, retries=1))
    house.write(job, {"0/result.json": {"returncode": 1}, "1/attempt.json": {}})
    house.runs.is_now(job.id, Progress.FAILED, "it was killed")
    done = await house.get(job)
    assert (done.attempts, done.returncode, done.error) == (2, None, "it was killed")


@pytest.mark.parametrize(
    ("parts", "shown", "truncated"),
    [
        ({0: b"a" * SHOWN_BYTES}, b"a" * SHOWN_BYTES, False),
        ({0: b"a" * SHOWN_BYTES, 1: b"bb"}, b"a" * (SHOWN_BYTES - 2) + b"bb", True),
        ({0: b"a", 1: b"b" * SHOWN_BYTES}, b"b" * SHOWN_BYTES, True),
        ({0: b"a", 7: b"b", 8: b"c"}, b"bc", True),
        ({0: b"", 1: b"b"}, b"b", False),
        ({}, b"", False),
    ],
)
async def test_the_newest_of_long_output_is_shown(
    house: JobHouse, parts: dict[int, bytes], shown: bytes, truncated: bool
) -> None:
    job = await house.create()
    house.write(job, {f"0/stderr-{number:06}.log": content for number, content in parts.items()})
    _, output = await house.jobs.get(ME, house.session.id, job.id)
    assert output.stderr == shown
    assert output.truncated is truncated


async def test_output_is_readable_when_the_job_is_over(house: JobHouse) -> None:
    job = await house.create()
    house.write(job, {"0/stdout-000000.log": b"out"})
    house.end(job, 0)
    for _ in range(2):
        assert (await house.jobs.get(ME, house.session.id, job.id))[1].stdout == b"out"


def test_an_answer_shows_bytes_as_text_from_a_whole_character_on() -> None:
    tail = "ä€".encode()[1:] + b"\xff"
    answer = job_json(Job("job-1", "ws-1", JobSpec(argv=("a", "b")), START), JobOutput(tail, b"", truncated=True))
    assert (answer["stdout"], answer["stderr"], answer["truncated"]) == ("€\ufffd", "", True)
    assert (answer["argv"], "command" in answer) == (["a", "b"], False)


async def test_another_tenants_session_or_another_sessions_job_does_not_exist(house: JobHouse) -> None:
    job = await house.create()
    stranger = Caller("other", "key")
    for call in (house.jobs.get, house.jobs.cancel):
        with pytest.raises(SessionNotFound):
            await call(stranger, house.session.id, job.id)
    with pytest.raises(SessionNotFound):
        await house.jobs.create(stranger, house.session.id, MAKE)
    with pytest.raises(SessionNotFound):
        await house.jobs.list(Caller("default", "key", namespaces=frozenset({"x"})), house.session.id, 10, None)
    house.clock.advance(seconds=2)
    other = await house.running(replace(SPEC, user="other"))
    for lookup in (house.jobs.get, house.jobs.cancel):
        with pytest.raises(JobNotFound):
            await lookup(ME, other.id, job.id)


@pytest.mark.parametrize("state", [State.SUSPENDED, State.SUSPENDING, State.MOVING, State.PROVISIONING])
async def test_a_session_that_does_not_run_may_have_jobs(house: JobHouse, state: State) -> None:
    await house.put(state=state)
    assert (await house.create()).state is JobState.PENDING
    assert len(house.runs.begun) == 1


async def test_a_failed_session_has_none(house: JobHouse) -> None:
    await house.put(state=State.FAILED, error="no image")
    with pytest.raises(SessionFailed, match="no image"):
        await house.create()


async def test_a_deployment_without_cloud_run_says_so(house: JobHouse) -> None:
    jobs = Jobs(replace(house.ports, jobs=None))
    with pytest.raises(ProviderNotConfigured, match="Cloud Run"):
        await jobs.create(ME, house.session.id, MAKE)
    assert (await jobs.list(ME, house.session.id, 10, None)).jobs == ()
    with pytest.raises(JobNotFound):
        await jobs.get(ME, house.session.id, "job-0123456789abcdef")
    await JobLife(jobs.ports).remove_all(house.session)


async def test_jobs_of_a_session_elsewhere_run_on_cloud_run_if_they_fit_there(house: JobHouse) -> None:
    await house.put(provider=ProviderName.GKE)
    await house.create()
    assert house.runs.begun[0][0].id == house.session.id
    house.provider.most_memory_bytes = 1 << 30
    await house.put(resources=Resources(memory_bytes=2 << 30))
    with pytest.raises(InvalidRequest, match=r"jobs run on Cloud Run, .*resources\.memory"):
        await house.create()


async def test_a_bucket_that_is_not_the_sessions_own_is_used(house: JobHouse) -> None:
    await house.put(storage=Storage("shared-data", "/mnt/in"))
    job = await house.create()
    assert house.runs.begun[0][2] == "shared-data"
    assert ("shared-data", f".onmemos/jobs/{job.id}/command.json") in house.buckets.objects


async def test_a_key_makes_one_job_and_another_body_with_it_is_refused(house: JobHouse) -> None:
    first = await house.create(idempotency_key="k")
    again = await house.create(idempotency_key="k")
    assert again.id == first.id
    assert len(house.runs.begun) == 1
    with pytest.raises(IdempotencyConflict):
        await house.create(JobSpec("other"), idempotency_key="k")
    assert (await house.create(idempotency_key="l")).id != first.id


async def test_two_calls_with_a_key_at_the_same_time_make_one_job(house: JobHouse) -> None:
    jobs = await asyncio.gather(*(house.create(idempotency_key="k") for _ in range(5)))
    assert len({job.id for job in jobs}) == 1
    assert len(house.runs.begun) == 1


async def test_jobs_beyond_the_limit_are_refused_until_one_is_over(house: JobHouse) -> None:
    jobs = [await house.create() for _ in range(MAX_UNFINISHED)]
    with pytest.raises(TooManyJobs, match="100 unfinished jobs"):
        await house.create()
    house.end(jobs[7], 0)  # nobody has asked since
    assert (await house.create()).state is JobState.PENDING


async def test_a_page_has_the_newest_jobs_as_they_are(house: JobHouse) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(await house.create())
        house.clock.advance(seconds=1)
    house.end(jobs[2], 1)
    page = await house.jobs.list(ME, house.session.id, 2, None)
    assert [(job.id, job.state) for job in page.jobs] == [
        (jobs[2].id, JobState.FAILED),
        (jobs[1].id, JobState.PENDING),
    ]
    rest = await house.jobs.list(ME, house.session.id, 2, page.next)
    assert ([job.id for job in rest.jobs], rest.next) == ([jobs[0].id], None)


async def test_a_running_job_is_cancelled_and_stays_so(house: JobHouse) -> None:
    job = await house.create()
    house.runs.is_now(job.id, Progress.RUNNING)
    for _ in range(2):
        cancelled, _ = await house.jobs.cancel(ME, house.session.id, job.id)
        assert cancelled.state is JobState.CANCELLED
    assert not house.runs.runs


async def test_a_run_that_does_not_end_at_once_is_cancelled_when_it_does(house: JobHouse) -> None:
    job = await house.create()
    house.runs.is_now(job.id, Progress.RUNNING)
    house.runs.stubborn = True
    assert (await house.jobs.cancel(ME, house.session.id, job.id))[0].state is JobState.RUNNING
    house.runs.stubborn = False
    assert (await house.get(job)).state is JobState.CANCELLED


async def test_a_job_that_is_over_is_not_cancelled(house: JobHouse) -> None:
    job = await house.create()
    house.end(job, 0)
    assert (await house.jobs.cancel(ME, house.session.id, job.id))[0].state is JobState.SUCCEEDED


async def test_a_job_that_is_cancelled_while_it_is_started_leaves_no_run(house: JobHouse) -> None:
    async def cancel(job: Job) -> None:
        assert (await house.jobs.cancel(ME, house.session.id, job.id))[0].state is JobState.CANCELLED

    house.runs.on_start = cancel
    job = await house.create()
    assert job.state is JobState.CANCELLED
    assert job.finished_at is not None
    assert not house.runs.runs


async def test_a_fault_that_may_pass_leaves_a_pending_job_that_the_next_look_starts(house: JobHouse) -> None:
    house.runs.fault = ProviderUnavailable("Cloud Run is away")
    job = await house.create()
    assert job.state is JobState.PENDING
    assert not house.runs.begun
    await house.get(job)
    assert len(house.runs.begun) == 1


async def test_a_start_whose_answer_was_lost_is_found_and_not_made_again(house: JobHouse) -> None:
    house.runs.late_fault = ProviderUnavailable("no answer")
    job = await house.create()
    for _ in range(3):
        assert (await house.get(job)).state is JobState.PENDING
    assert len(house.runs.begun) == 1


async def test_a_start_that_crashed_is_taken_over_when_its_claim_is_old(house: JobHouse) -> None:
    house.runs.fault = asyncio.CancelledError()  # the function's instance went away
    with pytest.raises(asyncio.CancelledError):
        await house.create()
    (job,) = house.job_store.documents.values()
    assert (await house.get(job)).state is JobState.PENDING
    assert not house.runs.begun
    house.clock.advance(seconds=CLAIM_LASTS.total_seconds())
    await asyncio.gather(*(house.get(job) for _ in range(5)))
    assert len(house.runs.begun) == 1


async def test_a_job_that_cannot_be_started_for_long_has_failed(house: JobHouse) -> None:
    house.runs.fault = ProviderUnavailable("Cloud Run is away")
    job = await house.create()
    house.clock.advance(seconds=START_DEADLINE.total_seconds() + 1)
    failed = await house.get(job)
    assert (failed.state, failed.error) == (JobState.FAILED, "it could not be started within 15 minutes")


async def test_what_cloud_run_refuses_is_a_failed_job_with_its_words(house: JobHouse) -> None:
    house.runs.fault = ProvisioningFailed("Cloud Run could not start the job: Image 'x' not found")
    job = await house.create()
    assert (job.state, job.error) == (JobState.FAILED, "Cloud Run could not start the job: Image 'x' not found")


async def test_a_quota_refuses_the_call_and_leaves_nothing(house: JobHouse) -> None:
    house.runs.fault = QuotaExceeded("Cloud Run refused the job: quota")
    with pytest.raises(QuotaExceeded):
        await house.create()
    assert not house.job_store.documents
    assert not [name for _, name in house.buckets.objects if "jobs" in name]


async def test_a_run_that_somebody_else_deleted_is_a_failed_job(house: JobHouse) -> None:
    job = await house.create()
    house.runs.runs.clear()
    failed = await house.get(job)
    assert (failed.state, failed.error) == (JobState.FAILED, "its Cloud Run job is gone")


async def test_two_who_look_at_a_jobs_end_write_it_once(house: JobHouse) -> None:
    job = await house.create()
    house.end(job, 5)
    seen: list[Job] = []

    async def look() -> None:
        seen.append(await house.get(job))

    house.job_store.before_update = look
    assert (await house.get(job)).returncode == 5
    assert seen[0].state is JobState.FAILED


async def test_jobs_end_with_their_session_and_its_bucket_stays_as_long_as_they_write(house: JobHouse) -> None:
    jobs = [await house.create() for _ in range(3)]
    house.runs.is_now(jobs[0].id, Progress.RUNNING)
    await house.jobs.get(ME, house.session.id, jobs[1].id)
    await house.sessions.delete(ME, house.session.id)
    with pytest.raises(SessionNotFound):
        await house.get(jobs[0])
    await house.deliver()
    assert not house.runs.runs
    assert not house.job_store.documents
    assert house.is_empty()


async def test_a_kept_bucket_keeps_output_and_no_command(house: JobHouse) -> None:
    await house.put(storage=Storage(keep=True))
    job = await house.create()
    house.write(job, {"0/stdout-000000.log": b"out"})
    await house.life.remove_all(house.session)
    assert house.file(job, "0/stdout-000000.log") == b"out"
    assert house.file(job, "command.json") is None


async def test_a_job_of_a_session_that_is_deleted_meanwhile_is_not_left_running(house: JobHouse) -> None:
    async def delete(_: Job) -> None:
        await house.sessions.delete(ME, house.session.id)

    house.runs.on_start = delete
    with pytest.raises(SessionNotFound):
        await house.create()
    assert not house.runs.runs
    assert not house.job_store.documents


async def test_the_reconciler_settles_what_nobody_asks_about_and_leaves_what_runs(house: JobHouse) -> None:
    over, running, unstarted = [await house.create() for _ in range(3)]
    house.end(over, 0)
    house.runs.is_now(running.id, Progress.RUNNING)
    del house.runs.runs[unstarted.id]
    house.job_store.documents[unstarted.id] = replace(
        house.job_store.documents[unstarted.id], started=False, claimed_at=None
    )
    assert await house.reconciled() == []  # what is young may be on its way
    house.clock.advance(minutes=3)
    assert sorted(await house.reconciled()) == sorted([(Deed.SETTLE_JOB, over.id), (Deed.SETTLE_JOB, unstarted.id)])
    assert house.job_store.documents[over.id].state is JobState.SUCCEEDED
    assert unstarted.id in house.runs.runs


async def test_the_reconciler_removes_runs_that_are_over_or_have_no_session(house: JobHouse) -> None:
    untidy, lost = await house.create(), await house.create()
    house.end(untidy, 0)
    house.runs.remove_fault = ProviderUnavailable("Cloud Run is away")
    await house.get(untidy)
    assert untidy.id in house.runs.runs
    await house.store.delete(house.session.id)
    await house.tasks.delete(next(iter(house.tasks.queued)))
    house.provider.made.clear()
    deeds = await house.reconciled()
    assert (Deed.DELETE_JOB, untidy.id) in deeds
    assert (Deed.DELETE_JOB, lost.id) in deeds
    assert not house.runs.runs
    assert lost.id not in house.job_store.documents
