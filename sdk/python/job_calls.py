"""The calls for jobs: commands that outlive a request, beside their session and on its bucket."""

import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence

from .calls import Calls
from .faces import iteration, operation
from .paths import SERVICE_WAIT_S, given, path_to
from .shapes import JobDict, JobPageDict

JOB_TIMEOUT_S = 3600.0


class JobOperations(Calls):
    """Jobs run on Cloud Run in the session's image, with its bucket mounted; they see no /workspace."""

    @operation
    async def create_job(
        self,
        session_id: str,
        command: str | None = None,
        timeout: float = JOB_TIMEOUT_S,
        *,
        argv: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        retries: int = 0,
        idempotency_key: str | None = None,
    ) -> JobDict:
        """Start a command line with `/bin/sh -c`, or `argv` without a shell, that may take up to 168 hours.

        `timeout`: seconds for each attempt. `retries`: how often it is started again after it failed, 10 at most.
        `env` is added to the session's own. Output is kept in the session's bucket, at /data/.onmemos/jobs/<id>/.
        The job ends with its session. The call is repeated after a connection fault and still makes one job: it
        carries an `idempotency_key`, a new one if none is given. Raises NotFound, BadRequest, Conflict, RateLimited.
        """
        body = given(
            command=command,
            argv=None if argv is None else list(argv),
            timeout=timeout,
            env=None if env is None else dict(env),
            retries=retries,
        )
        path = path_to("sessions", "jobs", session_id=session_id)
        return await self._link.call(
            JobDict,
            "POST",
            path,
            json=body,
            headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
            idempotent=True,
            takes_s=SERVICE_WAIT_S,
        )

    @operation
    async def get_job(self, session_id: str, job_id: str) -> JobDict:
        """The job as it is now, with the newest of its output. Raises NotFound."""
        return await self._link.call(JobDict, "GET", _path(session_id, job_id), idempotent=True)

    @operation
    async def list_jobs(
        self, session_id: str, *, page_size: int | None = None, page_token: str | None = None
    ) -> JobPageDict:
        """A page of the session's jobs, without their output: `{"jobs": [...], "next_page_token": str or None}`."""
        path = path_to("sessions", "jobs", session_id=session_id)
        query = given(page_size=page_size, page_token=page_token)
        return await self._link.call(JobPageDict, "GET", path, query=query, idempotent=True)

    @iteration
    async def iter_jobs(self, session_id: str, *, page_size: int | None = None) -> AsyncGenerator[JobDict, None]:
        """All jobs of the session, without their output; a page is fetched when its first job is wanted."""
        page_token: str | None = None
        while True:
            page = await self.list_jobs(session_id, page_size=page_size, page_token=page_token)
            for job in page["jobs"]:
                yield job
            page_token = page.get("next_page_token")
            if not page_token:
                return

    @operation
    async def cancel_job(self, session_id: str, job_id: str) -> JobDict:
        """End the job. One that has ended is given as it is. Raises NotFound."""
        return await self._link.call(JobDict, "POST", _path(session_id, job_id, "cancel"), idempotent=True)


def _path(session_id: str, job_id: str, action: str = "") -> str:
    jobs = path_to("sessions", "jobs", session_id=session_id).removeprefix("/v1/")
    return path_to(jobs, action, job_id=job_id)
