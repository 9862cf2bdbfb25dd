"""The use cases of jobs, commands that outlive a request: create, get, list, cancel."""

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.callers import Caller
from shared.errors import (
    AlreadyExists,
    IdempotencyConflict,
    InvalidRequest,
    JobNotFound,
    ProviderNotConfigured,
    ProviderUnavailable,
    QuotaExceeded,
    SessionFailed,
    SessionNotFound,
    TooManyJobs,
    WriteConflict,
)
from shared.job_life import AT_ONCE, NO_CLOUD_RUN, JobLife
from shared.job_models import Job, JobOutput, JobPage, JobSpec
from shared.models import Position, ProviderName, Session, State
from shared.ports import Ports
from shared.providers.base import Wanted

MAX_UNFINISHED = 100  # jobs of a session; a region's Cloud Run has 1000: cloud.google.com/run/quotas
MAX_WRITE_TRIES = 8


@dataclass(frozen=True, slots=True)
class Jobs:
    """What may be asked about jobs. Those of another tenant's session do not exist.

    Every method may raise ProviderUnavailable.
    """

    ports: Ports

    async def create(
        self, caller: Caller, session_id: str, spec: JobSpec, *, idempotency_key: str | None = None
    ) -> Job:
        """A new job of the session, or with a key that was used in it before the one it made.

        What Cloud Run cannot do now is done when the job is next looked at. Raises SessionNotFound, SessionFailed,
        InvalidRequest, ProviderNotConfigured, TooManyJobs, QuotaExceeded, IdempotencyConflict: nothing was started.
        """
        session = await self._usable(caller, session_id)
        now = self.ports.clock()
        job = Job(_id(session, idempotency_key), session.id, spec, created_at=now, claimed_at=now)
        former = await self._made_before(job) if idempotency_key else None
        if former is not None:
            return await self._life.settled(former, session)
        await self._make_room(session)
        try:
            job = await self._life.jobs.store.create(job)
        except AlreadyExists:
            former = await self._made_before(job)
            if former is None:
                raise ProviderUnavailable(f"job {job.id} came and went while it was created") from None
            return await self._life.settled(former, session)
        try:
            started = await self._life.started(session, job)
        except QuotaExceeded:
            await self._life.remove(session, job)
            raise
        current = await self.ports.stored(session_id)
        if current is None or not current.is_visible_at(self.ports.clock()):
            # Its teardown may have come too early to find the job.
            await self._life.remove(session, started)
            raise SessionNotFound
        return started

    async def get(self, caller: Caller, session_id: str, job_id: str) -> tuple[Job, JobOutput]:
        """The job as it is now, with its newest output. Raises SessionNotFound, JobNotFound."""
        session = await self.ports.visible(caller, session_id)
        job = await self._life.settled(await self._of(session, job_id), session)
        files = self._life.files(session, job)
        return job, await files.output(await files.listing())

    async def list(self, caller: Caller, session_id: str, size: int, after: Position | None) -> JobPage:
        """A page of the session's jobs, newest first, each as `get` would give it. Raises SessionNotFound."""
        session = await self.ports.visible(caller, session_id)
        if self.ports.jobs is None:
            return JobPage(())
        page = await self._life.jobs.store.page(session.id, size, after)
        return JobPage(tuple(await self._all_settled(list(page.jobs), session)), page.next)

    async def cancel(self, caller: Caller, session_id: str, job_id: str) -> tuple[Job, JobOutput]:
        """End the job; one that is final stays what it is. Raises SessionNotFound, JobNotFound."""
        session = await self.ports.visible(caller, session_id)
        for _ in range(MAX_WRITE_TRIES):
            job = await self._of(session, job_id)
            if not job.state.is_final and not job.cancelling:
                try:
                    await self._life.jobs.store.update(replace(job, cancelling=True))
                except WriteConflict:
                    continue
            return await self.get(caller, session_id, job_id)
        raise ProviderUnavailable(f"job {job_id} kept changing while it was cancelled")

    @property
    def _life(self) -> JobLife:
        return JobLife(self.ports)

    async def _usable(self, caller: Caller, session_id: str) -> Session:
        """The session, if jobs can run for it: in any state but failed, of a size that Cloud Run has."""
        session = await self.ports.visible(caller, session_id)
        if self.ports.jobs is None or ProviderName.CLOUD_RUN not in self.ports.providers:
            raise ProviderNotConfigured(NO_CLOUD_RUN)
        if session.state is State.FAILED:
            raise SessionFailed(f"session {session.id} failed: {session.error}")
        try:
            self.ports.providers[ProviderName.CLOUD_RUN].check(Wanted.of(session))
        except InvalidRequest as exc:
            raise InvalidRequest(f"jobs run on Cloud Run, as large as their session: {exc}", exc.errors) from exc
        return session

    async def _of(self, session: Session, job_id: str) -> Job:
        if self.ports.jobs is None:
            raise JobNotFound
        job = await self._life.jobs.store.get(job_id)
        if job.session_id != session.id:
            raise JobNotFound
        return job

    async def _made_before(self, job: Job) -> Job | None:
        former = (await self._life.jobs.store.get_many([job.id])).get(job.id)
        if former is not None and former.spec != job.spec:
            raise IdempotencyConflict("Idempotency-Key: it was used before with another body; wanted a new key")
        return former

    async def _make_room(self, session: Session) -> None:
        """What is recorded as unfinished may be over: only at the limit it is worth asking. Raises TooManyJobs."""
        unfinished = await self._life.jobs.store.unfinished_of(session.id, MAX_UNFINISHED)
        if len(unfinished) < MAX_UNFINISHED:
            return
        if not any(job.state.is_final for job in await self._all_settled(unfinished, session)):
            raise TooManyJobs(f"session {session.id} has {MAX_UNFINISHED} unfinished jobs, wanted fewer; cancel some")

    async def _all_settled(self, jobs: Sequence[Job], session: Session) -> Sequence[Job]:
        turn = asyncio.Semaphore(AT_ONCE)

        async def settled(job: Job) -> Job:
            async with turn:
                return await self._life.settled(job, session)

        return await asyncio.gather(*map(settled, jobs))


def _id(session: Session, idempotency_key: str | None) -> str:
    """Of a key that was used in the session before, the same."""
    if idempotency_key is None:
        return f"job-{secrets.token_hex(8)}"
    return f"job-{hashlib.sha256(f'{session.id}/{idempotency_key}'.encode()).hexdigest()[:16]}"
