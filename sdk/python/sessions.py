"""Sessions as objects: `client.sessions.create(...)` gives one that knows its id, and that `with` deletes."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Unpack

from .errors import SESSION_FAILED, SESSION_NOT_READY, NotFound, OnMemOSError, SessionFailed, Unavailable
from .faces import AsyncContext, Blocking, BlockingContext, fact, iteration_giving, operation, operation_giving
from .operations import Operations
from .shapes import ConnectionDict, DeletedDict, ExecutionDict, SessionDict, SessionSpecDict
from .shells import AsyncShell, Shell

WAIT_S = 300.0
FIRST_LOOK_S = 0.25
LONGEST_LOOK_S = 2.0


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
        """As it was last seen: provisioning, running, suspended, deleting or failed; `refresh` looks again."""
        return self._info["status"]

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
        """Wait until the session runs, `timeout` seconds at most. Raises SessionFailed, Unavailable, NotFound."""
        async for info in looks(self._operations, self._info, timeout):
            self._info = info
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


class AsyncSession(SessionFace, AsyncContext):
    """A session whose calls are awaited; `async with` deletes it at its end, also when the body raised.

    async with await client.sessions.create(template="python", namespace="demo", user="me") as session:
        print((await session.execute("python --version"))["stdout"])
    """


class Session(BlockingContext, SessionFace):
    """A session whose calls block; `with` deletes it at its end, also when the body raised.

    with client.sessions.create(template="python", namespace="demo", user="me") as session:
        print(session.execute("python --version")["stdout"])
    """


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


async def looks(operations: Operations, session: SessionDict, timeout_s: float) -> AsyncGenerator[SessionDict, None]:
    """A session as it is now and again, until it runs. Raises SessionFailed, Unavailable, NotFound."""
    clock, sleep = operations._link.clock, operations._link.transport.sleep  # noqa: SLF001
    deadline, pause_s = clock() + timeout_s, FIRST_LOOK_S
    while session["status"] != "running":
        if session["status"] == "failed":
            reason = session.get("error") or "no reason is given"
            raise SessionFailed(409, f"{session['id']} failed: {reason}", SESSION_FAILED)
        left_s = deadline - clock()
        if left_s <= 0:
            detail = f"{session['id']} is {session['status']} after {timeout_s:g} s"
            raise Unavailable(503, detail, SESSION_NOT_READY)
        await sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, LONGEST_LOOK_S)
        session = await operations.get_session(session["id"])
        yield session


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
