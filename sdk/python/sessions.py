"""Sessions as objects: `client.sessions.create(...)` gives one that knows its id, and that `with` deletes."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Unpack

from .errors import SESSION_UNCHANGED, NotFound, OnMemOSError, SessionUnchanged
from .faces import AsyncContext, Blocking, BlockingContext, fact, iteration_giving, operation, operation_giving
from .jobs import AsyncJobs, Jobs
from .operations import Operations
from .paths import SERVICE_WAIT_S
from .settling import FAILED, RUNNING, SUSPENDED, WAIT_S, failure, looks, running
from .shapes import ConnectionDict, DeletedDict, ExecutionDict, SessionDict, SessionSpecDict
from .shells import AsyncShell, Shell


class SessionFace:
    """What both faces of a session can do."""

    def __init__(self, operations: Operations, info: SessionDict) -> None:
        self._operations = operations
        self._info = info

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"

    @fact
    def id(self) -> str:
        """The session's id, which every operation takes."""
        return self._info["id"]

    @fact
    def status(self) -> str:
        """As last seen: provisioning, running, suspending, suspended, moving or failed; `refresh` looks again."""
        return self._info["status"]

    @fact
    def provider(self) -> str:
        """Where it is, as last seen: cloud_run, gke or workstations."""
        return self._info["provider"]

    @fact
    def expires_at(self) -> datetime | None:
        """When its time is up, as last seen; None while it is suspended: its time stands still."""
        return _moment(self._info["expires_at"])

    @fact
    def suspended_at(self) -> datetime | None:
        """Since when it is suspended; None: it is not."""
        return _moment(self._info.get("suspended_at"))

    @fact
    def ttl_left_seconds(self) -> float | None:
        """What will be left of its time when it is resumed; None while it is not suspended."""
        return self._info.get("ttl_left_seconds")

    @fact
    def long_lived(self) -> bool:
        """Whether it was made to stay for long."""
        return bool(self._info.get("long_lived"))

    @fact
    def auto_resume(self) -> bool:
        """Whether a command resumes it when it is suspended."""
        return bool(self._info.get("auto_resume"))

    @fact
    def info(self) -> SessionDict:
        """All of the session, as it was last seen."""
        return self._info

    @operation
    async def execute(
        self,
        command: str | None = None,
        timeout: float = 120,
        *,
        argv: Sequence[str] | None = None,
        stdin: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = False,
    ) -> ExecutionDict:
        """Run a command and return what it did; everything is as in the client's execute_session."""
        return await self._operations.execute_session(
            self.id, command, timeout, argv=argv, stdin=stdin, cwd=cwd, env=env, check=check
        )

    @operation
    async def connect(self) -> ConnectionDict:
        """How to reach the session's agent directly, and a ticket for it."""
        return await self._operations.connect_session(self.id)

    @operation_giving(Shell)
    async def shell(self) -> AsyncShell:
        """A shell in the session, to use with `with`: its state lasts from command to command."""
        return await self._operations.open_shell(self.id)

    @operation
    async def refresh(self) -> SessionDict:
        """Look at the session again; `info`, which is returned, and `status` are of now. Raises NotFound."""
        self._info = await self._operations.get_session(self.id)
        return self._info

    @operation
    async def wait(self, timeout: float = WAIT_S) -> SessionDict:
        """Wait until the session runs, `timeout` seconds at most.

        Raises SessionFailed, SessionSuspended (it does not run by itself), Unavailable, NotFound.
        """
        if self.status == SUSPENDED:
            await self.refresh()  # somebody may have resumed it
        await self._settle(timeout)
        return running(self._info, timeout)

    @operation
    async def suspend(self, wait: float = WAIT_S) -> SessionDict:
        """Let the session rest: its files are kept, its processes end, its TTL stands still, and little is paid.

        Returns when it is suspended, or after `wait` seconds with what it is then; 0 does not wait. `info["details"]`
        says in `notice` what was ended. Raises NotFound, Conflict, SessionUnchanged (it runs on).
        """
        await self._turn(self._operations.suspend_session(self.id, wait=_at_once(wait)), wait)
        return self._unless_it_is_told_why(self.status == RUNNING)

    @operation
    async def resume(self, wait: float = WAIT_S) -> SessionDict:
        """Start the session again, with its files, where it was.

        Returns when it runs, or after `wait` seconds with what it is then; 0 does not wait. Raises NotFound, Conflict,
        SessionFailed, SessionUnchanged (it is still suspended).
        """
        await self._turn(self._operations.resume_session(self.id, wait=_at_once(wait)), wait)
        return self._unless_it_is_told_why(self.status == SUSPENDED)

    @operation
    async def move(self, provider: str, wait: float = WAIT_S) -> SessionDict:
        """Take the session to another provider: cloud_run, gke or workstations. Id and files stay, processes end.

        Returns when it runs there, or after `wait` seconds with what it is then; 0 does not wait. Raises NotFound,
        BadRequest (that provider cannot have it), Conflict, SessionUnchanged (it runs on where it was).
        """
        await self._turn(self._operations.move_session(self.id, provider, wait=_at_once(wait)), wait)
        return self._unless_it_is_told_why(self.status == RUNNING and self.provider != provider)

    @operation
    async def update(
        self,
        *,
        ttl_minutes: int | None = None,
        labels: Mapping[str, str] | None = None,
        auto_resume: bool | None = None,
    ) -> SessionDict:
        """Change what is given; everything is as in the client's update_session. Raises NotFound, BadRequest."""
        self._info = await self._operations.update_session(
            self.id, ttl_minutes=ttl_minutes, labels=labels, auto_resume=auto_resume
        )
        return self._info

    @operation
    async def extend(self, ttl_minutes: int) -> SessionDict:
        """Let the session live for so long from now. Raises NotFound, BadRequest."""
        self._info = await self._operations.update_session(self.id, ttl_minutes=ttl_minutes)
        return self._info

    @operation
    async def delete(self) -> DeletedDict:
        """Delete the session: from now on it is gone for everybody. Raises NotFound."""
        return await self._operations.delete_session(self.id)

    async def _leave(self, exc: BaseException | None) -> None:
        await leave(self.delete, exc, self.id)

    async def _turn(self, asked: Awaitable[SessionDict], wait_s: float) -> None:
        """Until it is what was asked for, or is not to be; `wait_s` seconds in all."""
        clock = self._operations._link.clock  # noqa: SLF001
        began = clock()
        self._info = await asked
        await self._settle(wait_s - (clock() - began))

    async def _settle(self, timeout_s: float) -> None:
        async for info in looks(self._operations, self._info, timeout_s):
            self._info = info

    def _unless_it_is_told_why(self, is_as_before: bool) -> SessionDict:
        """What it is now. Raises SessionFailed, SessionUnchanged.

        One that is as before without a reason was turned, and turned back since: a command resumed it, for one.
        """
        if self.status == FAILED:
            raise failure(self._info)
        notice = self._info["details"].get("notice") if is_as_before else None
        if notice:
            raise SessionUnchanged(409, f"{self.id} is as it was: {notice}", SESSION_UNCHANGED)
        return self._info


class AsyncSession(SessionFace, AsyncContext):
    """A session whose calls are awaited; `async with` deletes it at its end, also when the body raised.

    async with await client.sessions.create(template="python", namespace="demo", user="me") as session:
        print((await session.execute("python --version"))["stdout"])
    """

    @property
    def jobs(self) -> AsyncJobs:
        """Commands that outlive a request: `create`, `list`, `get`."""
        return AsyncJobs(self._operations, self.id)


class Session(BlockingContext, SessionFace):
    """A session whose calls block; `with` deletes it at its end, also when the body raised.

    with client.sessions.create(template="python", namespace="demo", user="me") as session:
        print(session.execute("python --version")["stdout"])
    """

    @property
    def jobs(self) -> Jobs:
        """Commands that outlive a request: `create`, `list`, `get`."""
        return Jobs(self._core.jobs)


class SessionsFace:
    """What both faces of `client.sessions` can do."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation_giving(Session)
    async def create(
        self,
        spec: Mapping[str, Any] | None = None,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[SessionSpecDict],
    ) -> AsyncSession:
        """A new session; everything is as in the client's create_session."""
        info = await self._operations.create_session(spec, wait=wait, idempotency_key=idempotency_key, **fields)
        return AsyncSession(self._operations, info)

    @operation_giving(Session)
    async def get(self, session_id: str) -> AsyncSession:
        """The session of this id. Raises NotFound."""
        return AsyncSession(self._operations, await self._operations.get_session(session_id))

    @iteration_giving(Session)
    async def list(
        self,
        *,
        namespace: str | None = None,
        user: str | None = None,
        status: str | None = None,
        provider: str | None = None,
        label: str | None = None,
        page_size: int | None = None,
    ) -> AsyncGenerator[AsyncSession, None]:
        """All your sessions that match, newest first; a page is fetched when its first session is wanted."""
        async for info in self._operations.iter_sessions(
            namespace=namespace, user=user, status=status, provider=provider, label=label, page_size=page_size
        ):
            yield AsyncSession(self._operations, info)


class AsyncSessions(SessionsFace):
    """Sessions as objects whose calls are awaited."""


class Sessions(Blocking, SessionsFace):
    """Sessions as objects whose calls block."""


async def leave(delete: Callable[[], Awaitable[object]], exc: BaseException | None, session_id: str) -> None:
    """Delete at the end of a block. What the block raised is never hidden; that the session is gone is fine."""
    try:
        await delete()
    except NotFound:
        pass
    except OnMemOSError as failure:
        if exc is None:
            raise
        exc.add_note(f"{session_id} could not be deleted either: {failure}")


def _at_once(wait_s: float) -> float:
    """What of the waiting the service does in the call itself."""
    return min(wait_s, SERVICE_WAIT_S)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
