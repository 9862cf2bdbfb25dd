"""In-memory ports of jobs. Each passes the contract tests of the adapter that it stands for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from shared.errors import AlreadyExists, JobNotFound, WriteConflict
from shared.job_models import Job, JobPage, JobSpec
from shared.job_runs import Progress, Run
from shared.models import Position, Session
from tests.fakes import START, Clock


def a_job(**changes: Any) -> Job:
    """A job that nobody has started, apart from the changes."""
    job = Job(
        id="job-0123456789abcdef",
        session_id="ws-test-developer-1761998400",
        spec=JobSpec("make", env={"A": "1"}),
        created_at=START,
    )
    return replace(job, **changes)


class MemoryJobs:
    """The JobStore in a dictionary; versions are the clock's time, told apart by microseconds."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._writes = 0
        self.documents: dict[str, Job] = {}
        self.before_update: Any = None

    async def create(self, job: Job) -> Job:
        if job.id in self.documents:
            raise AlreadyExists(job.id)
        return self._write(job)

    async def get(self, job_id: str) -> Job:
        if job_id not in self.documents:
            raise JobNotFound
        return self.documents[job_id]

    async def get_many(self, job_ids: list[str]) -> dict[str, Job]:
        return {one: self.documents[one] for one in job_ids if one in self.documents}

    async def update(self, job: Job) -> Job:
        meddle, self.before_update = self.before_update, None
        if meddle:
            await meddle()
        current = self.documents.get(job.id)
        if current is None or current.version != job.version:
            raise WriteConflict(job.id)
        return self._write(job)

    async def delete(self, job_id: str) -> None:
        self.documents.pop(job_id, None)

    async def page(self, session_id: str, size: int, after: Position | None) -> JobPage:
        found = [job for job in self.documents.values() if job.session_id == session_id]
        found.sort(key=lambda job: (job.created_at, job.id), reverse=True)
        if after is not None:
            found = [job for job in found if (job.created_at, job.id) < (after.created_at, after.session_id)]
        page = tuple(found[:size])
        return JobPage(page, Position(page[-1].created_at, page[-1].id) if len(found) > size else None)

    async def unfinished_of(self, session_id: str, limit: int) -> list[Job]:
        found = [job for job in self.documents.values() if job.session_id == session_id and not job.state.is_final]
        return found[:limit]

    async def of_session(self, session_id: str) -> AsyncIterator[Job]:
        for job in list(self.documents.values()):
            if job.session_id == session_id:
                yield job

    async def unfinished(self) -> AsyncIterator[Job]:
        for job in list(self.documents.values()):
            if not job.state.is_final:
                yield job

    def _write(self, job: Job) -> Job:
        self._writes += 1
        written = replace(job, version=self._clock() + timedelta(microseconds=self._writes))
        self.documents[job.id] = written
        return written


@dataclass
class MemoryRuns:
    """Runs by job, as a test says they are. `fault` is raised by the next start only, `late_fault` after it began.

    `stubborn`: cancelling does not end a run.
    """

    runs: dict[str, Run] = field(default_factory=dict)
    begun: list[tuple[Session, Job, str]] = field(default_factory=list)
    sessions: dict[str, str] = field(default_factory=dict)
    fault: BaseException | None = None
    late_fault: Exception | None = None
    remove_fault: Exception | None = None
    on_start: Any = None
    stubborn: bool = False

    async def start(self, session: Session, job: Job, bucket: str) -> None:
        fault, self.fault = self.fault, None
        if fault:
            raise fault
        if self.on_start:
            await self.on_start(job)
        self.sessions[job.id] = session.id
        if job.id not in self.runs:
            self.begun.append((session, job, bucket))
            self.runs[job.id] = Run(Progress.PENDING)
        late, self.late_fault = self.late_fault, None
        if late:
            raise late

    async def inspect(self, job_id: str) -> Run | None:
        return self.runs.get(job_id)

    async def cancel(self, job_id: str) -> None:
        run = self.runs.get(job_id)
        if run is not None and not run.is_over and not self.stubborn:
            self.runs[job_id] = replace(run, progress=Progress.CANCELLED, finished_at=START + timedelta(minutes=2))

    async def remove(self, job_id: str) -> None:
        fault, self.remove_fault = self.remove_fault, None
        if fault:
            raise fault
        self.runs.pop(job_id, None)
        self.sessions.pop(job_id, None)

    async def job_ids(self) -> AsyncIterator[tuple[str, str]]:
        for job_id, session_id in list(self.sessions.items()):
            yield session_id, job_id

    def is_now(self, job_id: str, progress: Progress, reason: str = "") -> None:
        """Say how the run is."""
        over = progress not in {Progress.PENDING, Progress.RUNNING}
        began = None if progress is Progress.PENDING else START + timedelta(seconds=5)
        self.runs[job_id] = Run(progress, began, START + timedelta(minutes=1) if over else None, reason)
