"""Every operation on sessions, written once; the clients are its faces."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Unpack

from .calls import Calls
from .errors import CommandFailed
from .faces import iteration, operation
from .job_calls import JobOperations
from .keys import KeyOperations
from .legacy import WorkspaceOperations
from .openings import ShellOperations
from .paths import SERVICE_START_S, given, path_to
from .shapes import (
    ConnectionDict,
    DeletedDict,
    ExecutionDict,
    HealthDict,
    PlanDict,
    SessionDict,
    SessionPageDict,
    SessionSpecDict,
    TemplateListDict,
)
from .suspension import SuspensionOperations


class SessionOperations(Calls):
    """Sessions, and what runs in them."""

    @operation
    async def health(self) -> HealthDict:
        """Whether the service is up. Needs no API key."""
        return await self._link.call(HealthDict, "GET", "/health", idempotent=True)

    @operation
    async def list_templates(self) -> TemplateListDict:
        """What sessions can be made from: `{"templates": [...]}`."""
        return await self._link.call(TemplateListDict, "GET", "/v1/templates", idempotent=True)

    @operation
    async def create_session(
        self,
        spec: Mapping[str, Any] | None = None,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[SessionSpecDict],
    ) -> SessionDict:
        """A new session, from a dict, from keywords, or both (keywords win): `create_session(template="python", ...)`.

        `wait`: seconds to wait for `running`, 30 if not given, 0 for not at all; what is not ready by then comes back
        as `provisioning`, and execute_session waits for it. The call is repeated after a connection fault and still
        makes one session: it carries an `idempotency_key`, a new one if none is given.

        Raises BadRequest (`errors` names the fields), Conflict (the key was used for another request).
        """
        return await self._create("/v1/sessions", {**(spec or {}), **fields}, wait, idempotency_key)

    @operation
    async def plan_session(self, spec: Mapping[str, Any] | None = None, **fields: Unpack[SessionSpecDict]) -> PlanDict:
        """What create_session would choose for this, why, how soon it runs and what it costs; nothing is made.

        Raises BadRequest where the creation would.
        """
        return await self._link.call(
            PlanDict, "POST", "/v1/sessions:plan", json={**(spec or {}), **fields}, idempotent=True
        )

    @operation
    async def get_session(self, session_id: str) -> SessionDict:
        """The session as it is now. Raises NotFound."""
        return await self._link.call(SessionDict, "GET", path_to("sessions", session_id=session_id), idempotent=True)

    @operation
    async def list_sessions(
        self,
        *,
        namespace: str | None = None,
        user: str | None = None,
        status: str | None = None,
        provider: str | None = None,
        label: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> SessionPageDict:
        """A page of your sessions, newest first: `{"sessions": [...], "next_page_token": str or None}`.

        `label` is `key=value`. `page_size` is at most 1000; a page may hold fewer, even none, and yet not be the last.
        """
        query = given(
            namespace=namespace,
            user=user,
            status=status,
            provider=provider,
            label=label,
            page_size=page_size,
            page_token=page_token,
        )
        return await self._link.call(SessionPageDict, "GET", "/v1/sessions", query=query, idempotent=True)

    @iteration
    async def iter_sessions(
        self,
        *,
        namespace: str | None = None,
        user: str | None = None,
        status: str | None = None,
        provider: str | None = None,
        label: str | None = None,
        page_size: int | None = None,
    ) -> AsyncGenerator[SessionDict, None]:
        """All your sessions that match, newest first; a page is fetched when its first session is wanted."""
        page_token: str | None = None
        while True:
            page = await self.list_sessions(
                namespace=namespace,
                user=user,
                status=status,
                provider=provider,
                label=label,
                page_size=page_size,
                page_token=page_token,
            )
            for session in page["sessions"]:
                yield session
            page_token = page.get("next_page_token")
            if not page_token:
                return

    @operation
    async def update_session(
        self,
        session_id: str,
        *,
        ttl_minutes: int | None = None,
        labels: Mapping[str, str] | None = None,
        auto_resume: bool | None = None,
    ) -> SessionDict:
        """Let the session live for `ttl_minutes` from now, give it other labels, or say whether commands resume it.

        Raises NotFound, BadRequest.
        """
        return await self._link.call(
            SessionDict,
            "PATCH",
            path_to("sessions", session_id=session_id),
            json=given(
                ttl_minutes=ttl_minutes,
                labels=None if labels is None else dict(labels),
                auto_resume=auto_resume,
            ),
            idempotent=True,  # twice is a moment later
        )

    @operation
    async def connect_session(self, session_id: str) -> ConnectionDict:
        """How to reach the session's agent directly, and a ticket for it. execute_session does this by itself.

        Raises NotFound, Conflict or Unavailable (the session failed, is suspended, or is not ready).
        """
        return await self._link.call(
            ConnectionDict,
            "GET",
            path_to("sessions", "connect", session_id=session_id),
            idempotent=True,
            takes_s=SERVICE_START_S,
        )

    @operation
    async def execute_session(
        self,
        session_id: str,
        command: str | None = None,
        timeout: float = 120,
        *,
        argv: Sequence[str] | None = None,
        stdin: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = False,
    ) -> ExecutionDict:
        """Run a command line with `/bin/sh -c`, or `argv` without a shell, and return what it did.

        A command that fails is a result like any other: `returncode`, `stdout`, `stderr`, `success`; with `check` it
        raises CommandFailed. `timeout` is in seconds, at most 3400; past it the command is killed and the result has
        `timed_out` and what was printed so far. A session that is still starting, or on its way to another provider, is
        waited for; one that is suspended is resumed where it has `auto_resume`. `cwd` is relative to /workspace; `env`
        is added to the session's own.

        It goes to the session's agent directly where that can be reached, else through the service. Sent again only
        when it surely did not run. After Timeout or ConnectionLost it may have run.
        Raises NotFound, SessionSuspended, SessionFailed, Unavailable (the session is not ready).
        """
        path = path_to("sessions", "execute", session_id=session_id)
        body = given(command=command, timeout=timeout, stdin=stdin, cwd=cwd)
        if argv is not None:
            body["argv"] = list(argv)
        if env is not None:
            body["env"] = dict(env)
        result = await self._execute(session_id, path, body, timeout)
        if check and result["returncode"] != 0:
            raise CommandFailed(result)
        return result

    async def _execute(self, session_id: str, path: str, body: Mapping[str, Any], timeout_s: float) -> ExecutionDict:
        if self._direct is not None:
            result = await self._direct.execute(session_id, body, timeout_s)
            if result is not None:
                return result
        return await self._link.call(
            ExecutionDict, "POST", path, json=body, idempotent=False, takes_s=timeout_s + SERVICE_START_S
        )

    @operation
    async def delete_session(self, session_id: str) -> DeletedDict:
        """Delete the session: from now on it is gone for everybody, and its resources follow. Raises NotFound."""
        return await self._delete(session_id, path_to("sessions", session_id=session_id))

    @operation
    async def close(self) -> None:
        """Close the connections. Idempotent; an `http_client` that was brought along stays open."""
        await self._link.transport.close()

    async def _leave(self, exc: BaseException | None) -> None:
        await self.close()


class Operations(
    SessionOperations, SuspensionOperations, ShellOperations, JobOperations, WorkspaceOperations, KeyOperations
):
    """What can be asked of OnMemOS. Every call raises the errors of `onmemos.errors`; none of them is httpx's."""
