"""FirestoreJobs against the embedded Firestore, held to what the use cases rely on; the fake is held to the same."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.errors import AlreadyExists, JobNotFound, WriteConflict
from shared.job_models import JobSpec, JobState
from shared.job_store import FirestoreJobs, JobStore
from tests.fakes import START
from tests.job_fakes import MemoryJobs, a_job

FULL = a_job(
    id="job-00000000000000ff",
    spec=JobSpec(None, ("echo", "ä"), 12.5, {"A": "=\n"}, 3),
    state=JobState.TIMED_OUT,
    claimed_at=START + timedelta(seconds=1),
    started=True,
    cancelling=True,
    attempts=2,
    returncode=124,
    started_at=START + timedelta(seconds=2),
    finished_at=START + timedelta(seconds=3),
    error="it did not end within 12.5 s",
)


@pytest.fixture(params=["memory", "firestore"])
def store(request: pytest.FixtureRequest) -> JobStore:
    if request.param == "memory":
        return MemoryJobs()
    return FirestoreJobs(*request.getfixturevalue("firestore"))


async def test_what_is_written_is_found_whole(store: JobStore) -> None:
    for job in (a_job(), FULL):
        created = await store.create(job)
        assert created.version is not None
        found = await store.get(job.id)
        assert (found, found.version) == (job, created.version)
    assert await store.get_many([FULL.id, "job-none"]) == {FULL.id: FULL}
    assert await store.get_many([]) == {}


async def test_an_id_is_given_once_and_what_is_not_there_is_not_found(store: JobStore) -> None:
    await store.create(a_job())
    with pytest.raises(AlreadyExists):
        await store.create(a_job())
    for missing in ("job-none", "__proto__"):
        with pytest.raises(JobNotFound):
            await store.get(missing)


async def test_only_the_first_of_two_writers_wins(store: JobStore) -> None:
    job = await store.create(a_job())
    written = await store.update(replace(job, state=JobState.RUNNING))
    assert await store.get(job.id) == written
    with pytest.raises(WriteConflict):
        await store.update(replace(job, cancelling=True))
    assert (await store.update(replace(written, attempts=1))).attempts == 1


async def test_a_job_that_is_gone_is_not_written_and_deleting_twice_is_not_an_error(store: JobStore) -> None:
    job = await store.create(a_job())
    for _ in range(2):
        await store.delete(job.id)
    with pytest.raises(WriteConflict):
        await store.update(job)


async def test_a_sessions_jobs_are_listed_newest_first_page_by_page(store: JobStore) -> None:
    for number in range(5):
        at = START + timedelta(seconds=number // 2)  # two have the same time
        await store.create(a_job(id=f"job-{number}", created_at=at))
    await store.create(a_job(id="job-other", session_id="ws-other"))
    first = await store.page("ws-test-developer-1761998400", 2, None)
    second = await store.page("ws-test-developer-1761998400", 2, first.next)
    last = await store.page("ws-test-developer-1761998400", 2, second.next)
    assert [[job.id for job in page.jobs] for page in (first, second, last)] == [
        ["job-4", "job-3"],
        ["job-2", "job-1"],
        ["job-0"],
    ]
    assert last.next is None


async def test_unfinished_jobs_are_found_of_a_session_and_of_all(store: JobStore) -> None:
    await store.create(FULL)
    await store.create(a_job(id="job-1"))
    await store.create(a_job(id="job-2", state=JobState.RUNNING))
    await store.create(a_job(id="job-3", session_id="ws-other"))
    ours = await store.unfinished_of("ws-test-developer-1761998400", 10)
    assert sorted(job.id for job in ours) == ["job-1", "job-2"]
    assert len(await store.unfinished_of("ws-test-developer-1761998400", 1)) == 1
    assert sorted([job.id async for job in store.unfinished()]) == ["job-1", "job-2", "job-3"]
    of_session = [job.id async for job in store.of_session("ws-test-developer-1761998400")]
    assert sorted(of_session) == [FULL.id, "job-1", "job-2"]


async def test_a_sweep_goes_through_more_than_a_page(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.collection.SWEEP_PAGE", 2)
    for number in range(5):
        await store.create(a_job(id=f"job-{number}"))
    assert sorted([job.id async for job in store.unfinished()]) == [f"job-{number}" for number in range(5)]


async def test_an_argument_vector_of_many_words_fits_a_document(store: JobStore) -> None:
    job = a_job(spec=JobSpec(None, ("",) * 130_000))
    await store.create(job)
    assert (await store.get(job.id)).spec == job.spec
