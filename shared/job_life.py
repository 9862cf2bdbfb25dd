"""A job from its start to its end, and what tidies up after it.

A job is written first and started then. Whoever starts it has claimed it; a claim that nothing came of is taken over by
the next one who looks, who finds the run if there was one after all. How a job is, its run says and the result that its
runner left; what is final is written, and the run removed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from shared.errors import (
    JobNotFound,
    OnMemOSError,
    ProviderNotConfigured,
    ProviderUnavailable,
    ProvisioningFailed,
    QuotaExceeded,
    WriteConflict,
)
from shared.job_files import JobFiles, Result
from shared.job_models import Job, JobState
from shared.job_runs import Progress, Run
from shared.models import Session
from shared.names import bucket_name
from shared.ports import JobPorts, Ports

log = logging.getLogger(__name__)

NO_CLOUD_RUN = "jobs run on Cloud Run, which this deployment does not have"
START_TIMEOUT_S = 90.0
CLAIM_LASTS = timedelta(minutes=2)  # longer than a start may take
START_DEADLINE = timedelta(minutes=15)  # transient faults are retried for so long, then the job has failed
AT_ONCE = 16  # jobs that are asked about, or ended, at the same time
LOOKED_UP_AT_ONCE = 100
FINAL = {
    Progress.SUCCEEDED: JobState.SUCCEEDED,
    Progress.FAILED: JobState.FAILED,
    Progress.CANCELLED: JobState.CANCELLED,
}
GOING_ON = {Progress.PENDING: JobState.PENDING, Progress.RUNNING: JobState.RUNNING}


@dataclass(frozen=True, slots=True)
class JobLife:
    """Moves jobs on. Every method may raise ProviderUnavailable and can be repeated."""

    ports: Ports

    async def settled(self, job: Job, session: Session) -> Job:
        """The job as its run is now, written if that is news; started if nobody is about to start it."""
        if job.state.is_final:
            return job
        run = await self.jobs.runs.inspect(job.id)
        if run is None and not job.started and not job.cancelling:
            return await self._started_again(session, job)
        if job.cancelling and run is not None and not run.is_over:
            await self.jobs.runs.cancel(job.id)
            run = await self.jobs.runs.inspect(job.id)
        files = self.files(session, job)
        listing = await files.listing()
        current = replace(job, started=job.started or run is not None, attempts=listing.attempts)
        if run is not None:
            current = replace(current, started_at=run.started_at)
        if run is None or run.is_over:
            current = _ended(current, run, await files.result(listing))
            current = replace(current, finished_at=(run and run.finished_at) or self.ports.clock())
        else:
            # A platform may say that it runs a moment after the runner has begun to write.
            state = JobState.RUNNING if listing.attempts else GOING_ON[run.progress]
            current = replace(current, state=state)
        return await self._written(session, job, current)

    async def started(self, session: Session, job: Job) -> Job:
        """Start a job that the caller has claimed. Raises QuotaExceeded.

        After a transient fault it is still pending, and nobody's.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                bucket = session.storage.bucket or await self.ports.buckets.ensure(session.id, session.tenant)
                await self.files(session, job).write_command(session, job)
                await self.jobs.runs.start(session, job, bucket)
            current = replace(job, started=True)
        except ProvisioningFailed as exc:
            current = replace(job, state=JobState.FAILED, error=str(exc), finished_at=self.ports.clock())
        except (ProviderUnavailable, TimeoutError) as exc:
            log.warning("job not started", extra={"job_id": job.id, "error": str(exc)})
            current = replace(job, claimed_at=None)
        return await self._written(session, job, current)

    async def remove_all(self, session: Session) -> None:
        """End and forget all jobs of a session that is deleted; what they wrote stays in its bucket."""
        if self.ports.jobs is None:
            return
        turn = asyncio.Semaphore(AT_ONCE)

        async def removed(job: Job) -> None:
            async with turn:
                await self.remove(session, job)

        await asyncio.gather(*[removed(job) async for job in self.jobs.store.of_session(session.id)])

    async def remove(self, session: Session, job: Job) -> None:
        """End the job and forget it; what it wrote stays."""
        await self.jobs.runs.remove(job.id)
        await self.files(session, job).forget_command()
        await self.jobs.store.delete(job.id)

    async def unsettled(self) -> AsyncIterator[tuple[Job, Session | None]]:
        """Every job that is not as it is recorded, with its session; None: that is gone."""
        if self.ports.jobs is None:
            return
        async for job in self.jobs.store.unfinished():
            session = await self.ports.stored(job.session_id)
            run = None if session is None else await self.jobs.runs.inspect(job.id)
            if run is None or run.is_over or job.cancelling:
                yield job, session

    async def orphans(self) -> AsyncIterator[str]:
        """The ids of jobs that Cloud Run still has although they are over, or gone."""
        if self.ports.jobs is None:
            return
        batch = []
        async for _, job_id in self.jobs.runs.job_ids():
            batch.append(job_id)
            if len(batch) == LOOKED_UP_AT_ONCE:
                for orphan in await self._over(batch):
                    yield orphan
                batch = []
        for orphan in await self._over(batch):
            yield orphan

    async def forget(self, job_id: str) -> None:
        """Remove a job that has no session any more, or its run when it is over."""
        await self.jobs.runs.remove(job_id)
        job = (await self.jobs.store.get_many([job_id])).get(job_id)
        if job is not None and await self.ports.stored(job.session_id) is None:
            await self.jobs.store.delete(job_id)

    def files(self, session: Session, job: Job) -> JobFiles:
        """The job's files, in the bucket that the session has mounted."""
        return JobFiles(self.ports.buckets, session.storage.bucket or bucket_name(session.id), job.id)

    @property
    def jobs(self) -> JobPorts:
        """Raises ProviderNotConfigured: there is no Cloud Run."""
        if self.ports.jobs is None:
            raise ProviderNotConfigured(NO_CLOUD_RUN)
        return self.ports.jobs

    async def _over(self, job_ids: Sequence[str]) -> Sequence[str]:
        """Those of the jobs that are final or gone."""
        known = await self.jobs.store.get_many([*job_ids])
        return [one for one in job_ids if one not in known or known[one].state.is_final]

    async def _started_again(self, session: Session, job: Job) -> Job:
        now = self.ports.clock()
        if job.claimed_at is not None and now - job.claimed_at < CLAIM_LASTS:
            return job
        if now - job.created_at > START_DEADLINE:
            error = f"it could not be started within {START_DEADLINE.total_seconds() / 60:g} minutes"
            failed = replace(job, state=JobState.FAILED, error=error, finished_at=now)
            return await self._written(session, job, failed)
        try:
            claimed = await self.jobs.store.update(replace(job, claimed_at=now))
        except WriteConflict:
            return await self.jobs.store.get(job.id)
        try:
            return await self.started(session, claimed)
        except QuotaExceeded as exc:
            failed = replace(claimed, state=JobState.FAILED, error=str(exc), finished_at=now)
            return await self._written(session, claimed, failed)

    async def _written(self, session: Session, before: Job, after: Job) -> Job:
        """`after`, recorded; or the job as somebody else has recorded it meanwhile."""
        if after != before:
            try:
                after = await self.jobs.store.update(after)
            except WriteConflict:
                after = await self._overtaken(session, before)
        if after.state.is_final and not before.state.is_final:
            log.info("job over", extra={"job_id": after.id, "state": after.state, "returncode": after.returncode})
            await self._tidied(session, after)
        return after

    async def _overtaken(self, session: Session, job: Job) -> Job:
        """Somebody wrote first. One that was forgotten meanwhile leaves no run behind."""
        try:
            return await self.jobs.store.get(job.id)
        except JobNotFound:
            await self.remove(session, job)
            raise

    async def _tidied(self, session: Session, job: Job) -> None:
        """The run of a job that is over, and its command, are of no more use; the reconciler finds what is left."""
        try:
            await self.jobs.runs.remove(job.id)
            await self.files(session, job).forget_command()
        except OnMemOSError as exc:
            log.warning("job not tidied up", extra={"job_id": job.id, "error": str(exc)})


def _ended(job: Job, run: Run | None, result: Result | None) -> Job:
    """The job, final. Without a run it was cancelled before it had one, or somebody else deleted it."""
    attempts = max(job.attempts, 1 if run is not None and run.started_at else 0)
    job = replace(job, attempts=attempts, returncode=None if result is None else result.returncode)
    if run is None:
        if job.cancelling:
            return replace(job, state=JobState.CANCELLED)
        return replace(job, state=JobState.FAILED, error="its Cloud Run job is gone")
    state, error = FINAL[run.progress], None
    if state is JobState.SUCCEEDED:
        job = replace(job, returncode=0)
    elif state is JobState.FAILED and result is not None and result.timed_out:
        state, error = JobState.TIMED_OUT, f"it did not end within {job.spec.timeout_s:g} s"
    elif state is JobState.FAILED and result is None:
        error = run.reason or "it ended without saying how"
    return replace(job, state=state, error=error)
