"""Where jobs are: the Protocol, and Firestore behind it. As for sessions, every write is conditional."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, cast

from google.cloud.firestore_v1 import AsyncClient

from shared.collection import Collection, Snapshot
from shared.documents import DocumentReader, fields_of
from shared.errors import JobNotFound
from shared.job_models import Job, JobPage, JobSpec, JobState
from shared.models import Position


class JobStore(Protocol):
    """Every method may raise ProviderUnavailable."""

    async def create(self, job: Job) -> Job:
        """Raises AlreadyExists."""

    async def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""

    async def get_many(self, job_ids: list[str]) -> dict[str, Job]:
        """Those that exist, by id."""

    async def update(self, job: Job) -> Job:
        """Write `job` if its document is still of `job.version`; WriteConflict if it isn't or is gone."""

    async def delete(self, job_id: str) -> None:
        """Forget a job; one that is gone is not an error."""

    async def page(self, session_id: str, size: int, after: Position | None) -> JobPage:
        """A session's jobs, newest first; reads `size + 1` documents at the most."""

    async def unfinished_of(self, session_id: str, limit: int) -> list[Job]:
        """At most `limit` of a session's jobs that are not final."""

    def of_session(self, session_id: str) -> AsyncIterator[Job]:
        """All jobs of a session."""

    def unfinished(self) -> AsyncIterator[Job]:
        """Every job that is not final, of all sessions."""


class FirestoreJobs:
    """The JobStore on Firestore: collection `jobs`.

    Its listing needs one composite index: session_id ascending, created_at descending.
    """

    def __init__(self, client: AsyncClient, reader: DocumentReader) -> None:
        self._jobs = Collection(client, reader, "jobs")

    async def create(self, job: Job) -> Job:
        return replace(job, version=await self._jobs.create(job.id, _fields(job)))

    async def get(self, job_id: str) -> Job:
        document = await self._jobs.read(job_id)
        if document is None:
            raise JobNotFound
        return _job(job_id, fields_of(document), document.update_time)

    async def get_many(self, job_ids: list[str]) -> dict[str, Job]:
        return {found.id: _job_of(found) for found in await self._jobs.many(job_ids)}

    async def update(self, job: Job) -> Job:
        return replace(job, version=await self._jobs.update(job.id, _fields(job), job.version))

    async def delete(self, job_id: str) -> None:
        await self._jobs.delete(job_id)

    async def page(self, session_id: str, size: int, after: Position | None) -> JobPage:
        found, is_cut = await self._jobs.page(self._jobs.where({"session_id": session_id}), size, after)
        jobs = tuple(map(_job_of, found))
        return JobPage(jobs, Position(jobs[-1].created_at, jobs[-1].id) if is_cut else None)

    async def unfinished_of(self, session_id: str, limit: int) -> list[Job]:
        query = self._jobs.where({"session_id": session_id, "final": False})
        return list(map(_job_of, await self._jobs.found(query.limit(limit))))

    async def of_session(self, session_id: str) -> AsyncIterator[Job]:
        async for found in self._jobs.sweep(self._jobs.where({"session_id": session_id})):
            yield _job_of(found)

    async def unfinished(self) -> AsyncIterator[Job]:
        async for found in self._jobs.sweep(self._jobs.where({"final": False})):
            yield _job_of(found)


def _fields(job: Job) -> dict[str, Any]:
    spec = job.spec
    return {
        "session_id": job.session_id,
        # As one text: Firestore indexes each element of an array and each key of a map, and has a limit of those.
        "spec": json.dumps({"line": spec.line, "argv": spec.argv, "env": dict(spec.env)}, ensure_ascii=False),
        "timeout_s": spec.timeout_s,
        "retries": spec.retries,
        "created_at": job.created_at,
        "state": str(job.state),
        "final": job.state.is_final,
        "claimed_at": job.claimed_at,
        "started": job.started,
        "cancelling": job.cancelling,
        "attempts": job.attempts,
        "returncode": job.returncode,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "error": job.error,
    }


def _job(job_id: str, fields: Mapping[str, Any], written_at: datetime | None) -> Job:
    spec = json.loads(fields["spec"])
    argv = None if spec["argv"] is None else tuple(spec["argv"])
    return Job(
        id=job_id,
        session_id=fields["session_id"],
        spec=JobSpec(spec["line"], argv, fields["timeout_s"], spec["env"], fields["retries"]),
        created_at=fields["created_at"],
        state=JobState(fields["state"]),
        claimed_at=fields["claimed_at"],
        started=fields["started"],
        cancelling=fields["cancelling"],
        attempts=fields["attempts"],
        returncode=fields["returncode"],
        started_at=fields["started_at"],
        finished_at=fields["finished_at"],
        error=fields["error"],
        version=written_at,
    )


def _job_of(snapshot: Snapshot) -> Job:
    return _job(snapshot.id, cast("dict[str, Any]", snapshot.to_dict()), snapshot.update_time)
