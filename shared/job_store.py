"""Where jobs are: the Protocol, and Firestore behind it. As for sessions, every write is conditional."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, cast

from google.api_core import exceptions
from google.cloud.firestore_v1 import AsyncClient, AsyncCollectionReference, DocumentSnapshot
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.cloud import unavailable
from shared.documents import DocumentReader, fields_of
from shared.errors import AlreadyExists, JobNotFound, WriteConflict
from shared.job_models import Job, JobPage, JobSpec, JobState
from shared.models import Position

TIMEOUT_S = 15.0
SWEEP_PAGE = 300


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
        self._client = client
        self._reader = reader

    async def create(self, job: Job) -> Job:
        try:
            result = await self._jobs.document(job.id).create(_fields(job), timeout=TIMEOUT_S)
        except exceptions.Conflict as exc:
            raise AlreadyExists(job.id) from exc
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc
        return replace(job, version=result.update_time)

    async def get(self, job_id: str) -> Job:
        try:
            document = await self._reader.read(f"jobs/{job_id}")
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc
        if document is None:
            raise JobNotFound
        return _job(job_id, fields_of(document), document.update_time)

    async def get_many(self, job_ids: list[str]) -> dict[str, Job]:
        if not job_ids:
            return {}
        references = [self._jobs.document(one) for one in job_ids]
        try:
            found = [s async for s in self._client.get_all(references, timeout=TIMEOUT_S) if s.exists]
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc
        return {snapshot.id: _job_of(snapshot) for snapshot in found}

    async def update(self, job: Job) -> Job:
        condition = self._client.write_option(last_update_time=job.version)
        try:
            result = await self._jobs.document(job.id).update(_fields(job), option=condition, timeout=TIMEOUT_S)
        except (exceptions.FailedPrecondition, exceptions.NotFound, exceptions.Aborted) as exc:
            raise WriteConflict(job.id) from exc
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc
        return replace(job, version=result.update_time)

    async def delete(self, job_id: str) -> None:
        try:
            await self._jobs.document(job_id).delete(timeout=TIMEOUT_S)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc

    async def page(self, session_id: str, size: int, after: Position | None) -> JobPage:
        query = self._jobs.where(filter=FieldFilter("session_id", "==", session_id))
        query = query.order_by("created_at", direction="DESCENDING").order_by("__name__", direction="DESCENDING")
        if after is not None:
            place = {"created_at": after.created_at, "__name__": self._jobs.document(after.session_id)}
            query = query.start_after(place)
        found = await self._found(query.limit(size + 1))
        jobs = tuple(found[:size])
        return JobPage(jobs, Position(jobs[-1].created_at, jobs[-1].id) if len(found) > size else None)

    async def unfinished_of(self, session_id: str, limit: int) -> list[Job]:
        query = self._jobs.where(filter=FieldFilter("session_id", "==", session_id))
        return await self._found(query.where(filter=FieldFilter("final", "==", False)).limit(limit))

    async def of_session(self, session_id: str) -> AsyncIterator[Job]:
        async for job in self._sweep(self._jobs.where(filter=FieldFilter("session_id", "==", session_id))):
            yield job

    async def unfinished(self) -> AsyncIterator[Job]:
        async for job in self._sweep(self._jobs.where(filter=FieldFilter("final", "==", False))):
            yield job

    @property
    def _jobs(self) -> AsyncCollectionReference:
        return self._client.collection("jobs")

    async def _found(self, query: Any) -> list[Job]:
        try:
            return [_job_of(snapshot) for snapshot in await query.get(timeout=TIMEOUT_S)]
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Firestore", exc) from exc

    async def _sweep(self, query: Any) -> AsyncIterator[Job]:
        """Page by page, by id: a job whose document changes meanwhile is not seen twice."""
        query = query.order_by("__name__")
        last: str | None = None
        while True:
            page = query if last is None else query.start_after({"__name__": self._jobs.document(last)})
            jobs = await self._found(page.limit(SWEEP_PAGE))
            for job in jobs:
                yield job
            if len(jobs) < SWEEP_PAGE:
                return
            last = jobs[-1].id


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


def _job_of(snapshot: "DocumentSnapshot[Any]") -> Job:
    return _job(snapshot.id, cast("dict[str, Any]", snapshot.to_dict()), snapshot.update_time)
