"""Jobs as objects: `session.jobs.create(...)` gives one that knows how it goes, and that can be waited for."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from .errors import Timeout
from .faces import Blocking, fact, iteration_giving, operation, operation_giving
from .job_calls import JOB_TIMEOUT_S
from .operations import Operations
from .shapes import JobDict
from .tails import Tail

OVER = frozenset({"succeeded", "failed", "cancelled", "timed_out"})
START_S = 600.0  # what each attempt may take beside its own time: a place, and the image
FIRST_LOOK_S, LOOK_GROWTH, LONGEST_LOOK_S = 0.5, 1.5, 5.0

OnOutput = Callable[[str, str], object]  # new stdout, new stderr


class JobFace:
    """What both faces of a job can do."""

    def __init__(self, operations: Operations, info: JobDict) -> None:
        self._operations = operations
        self._info = info

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}>"

    @fact
    def id(self) -> str:
        """The job's id, within its session."""
        return self._info["id"]

    @fact
    def session_id(self) -> str:
        """Whose job it is."""
        return self._info["session_id"]

    @fact
    def info(self) -> JobDict:
        """All of the job, as it was last seen; one that was listed is without its output until it is refreshed."""
        return self._info

    @fact
    def state(self) -> str:
        """As last seen: pending, running, succeeded, failed, cancelled or timed_out; `refresh` looks again."""
        return self._info["state"]

    @fact
    def returncode(self) -> int | None:
        """How the command ended; None: it has not, or was ended before it could."""
        return self._info["returncode"]

    @fact
    def stdout(self) -> str:
        """What it wrote, as last seen: the newest 1 MiB."""
        return self._info.get("stdout") or ""

    @fact
    def stderr(self) -> str:
        """What it wrote to stderr, as last seen: the newest 1 MiB."""
        return self._info.get("stderr") or ""

    @fact
    def output(self) -> str:
        """stdout, and after it stderr."""
        return self.stdout + self.stderr

    @operation
    async def refresh(self) -> JobDict:
        """Look at the job again; `info`, which is returned, and all the others are of now. Raises NotFound."""
        self._info = await self._operations.get_job(self.session_id, self.id)
        return self._info

    @operation
    async def wait(self, timeout: float | None = None, *, on_output: OnOutput | None = None) -> JobDict:
        """Wait until the job is over, `timeout` seconds at most; if not given, as long as its attempts may take.

        `on_output(stdout, stderr)` is called with what is new of them whenever something is, at first with all that is
        there; each attempt begins anew. The job goes on when nobody waits. Raises Timeout, NotFound (it ended with its
        session).
        """
        clock, sleep = self._operations._link.clock, self._operations._link.transport.sleep  # noqa: SLF001
        timeout_s = _longest_s(self._info) if timeout is None else timeout
        deadline, pause_s = clock() + timeout_s, FIRST_LOOK_S
        attempt, tails = 0, (Tail(), Tail())
        while True:
            info, left_s = await self.refresh(), deadline - clock()
            if 0 < attempt < info["attempts"]:
                tails = Tail(), Tail()  # each attempt writes anew
            attempt = info["attempts"]
            ended, cut = info["state"] in OVER, bool(info.get("truncated"))
            parts = zip(tails, (self.stdout, self.stderr), strict=True)
            stdout, stderr = (tail.new(part, cut=cut, ended=ended) for tail, part in parts)
            if on_output is not None and (stdout or stderr):
                on_output(stdout, stderr)
            if ended:
                return info
            if left_s <= 0:
                raise Timeout(f"{self.id} is {self.state} after {timeout_s:g} s")
            await sleep(min(pause_s, left_s))
            pause_s = min(LOOK_GROWTH * pause_s, LONGEST_LOOK_S)

    @operation
    async def cancel(self) -> JobDict:
        """End the job. One that has ended stays as it is. Raises NotFound."""
        self._info = await self._operations.cancel_job(self.session_id, self.id)
        return self._info


class AsyncJob(JobFace):
    """A job whose calls are awaited.

    job = await session.jobs.create("python train.py", timeout=12 * 3600)
    await job.wait(on_output=lambda stdout, stderr: print(stdout, end=""))
    """


class Job(Blocking, JobFace):
    """A job whose calls block.

    job = session.jobs.create("python train.py", timeout=12 * 3600)
    job.wait(on_output=lambda stdout, stderr: print(stdout, end=""))
    """


class JobsFace:
    """What both faces of `session.jobs` can do."""

    def __init__(self, operations: Operations, session_id: str) -> None:
        self._operations = operations
        self._session_id = session_id

    @operation_giving(Job)
    async def create(
        self,
        command: str | None = None,
        timeout: float = JOB_TIMEOUT_S,
        *,
        argv: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        retries: int = 0,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        """Start a command that may take up to 168 hours; everything is as in the client's create_job."""
        info = await self._operations.create_job(
            self._session_id,
            command,
            timeout,
            argv=argv,
            env=env,
            retries=retries,
            idempotency_key=idempotency_key,
        )
        return AsyncJob(self._operations, info)

    @operation_giving(Job)
    async def get(self, job_id: str) -> AsyncJob:
        """The job of this id. Raises NotFound."""
        return AsyncJob(self._operations, await self._operations.get_job(self._session_id, job_id))

    @iteration_giving(Job)
    async def list(self, *, page_size: int | None = None) -> AsyncGenerator[AsyncJob, None]:
        """All jobs of the session; a page is fetched when its first job is wanted."""
        async for info in self._operations.iter_jobs(self._session_id, page_size=page_size):
            yield AsyncJob(self._operations, info)


class AsyncJobs(JobsFace):
    """A session's jobs as objects whose calls are awaited."""


class Jobs(Blocking, JobsFace):
    """A session's jobs as objects whose calls block."""


def _longest_s(job: JobDict) -> float:
    return (job["retries"] + 1) * (job["timeout"] + START_S)
