"""A Cloud Run workspace for the length of a `with` block."""

from collections.abc import AsyncGenerator
from typing import Unpack

from .faces import Blocking, fact, operation, operation_giving, scope_giving
from .operations import Operations
from .sessions import leave
from .settling import WAIT_S, looks, running
from .shapes import ExecutionDict, SessionDict, SessionOptionsDict
from .shells import AsyncShell, Shell


class WorkspaceFace:
    """What both faces of a workspace can do."""

    def __init__(self, operations: Operations, info: SessionDict) -> None:
        self._operations = operations
        self._info = info

    @fact
    def id(self) -> str:
        """The workspace's id, which is its session's."""
        return self._info["id"]

    @fact
    def info(self) -> SessionDict:
        """All of the workspace, as it was when it began to run."""
        return self._info

    @operation
    async def execute(self, command: str, timeout: float = 120) -> ExecutionDict:
        """Run a command line with `/bin/sh -c` and return what it did, as the client's execute_session."""
        return await self._operations.execute_session(self.id, command, timeout)

    @operation
    async def runpython(self, code: str, timeout: float = 120) -> ExecutionDict:
        """Run Python code as a file. An exception is a traceback in `stderr` and returncode 1; `sys.exit(3)` is 3."""
        return await self._operations.runpython_cloudrun_workspace(self.id, code, timeout)

    @operation
    async def runsh(self, command: str, timeout: float = 120) -> ExecutionDict:
        """Run shell code, which may be longer than a URL: the older API's name for what execute does."""
        return await self._operations.execute_session(self.id, command, timeout)

    @operation_giving(Shell)
    async def shell(self) -> AsyncShell:
        """A shell in the workspace, to use with `with`: its state lasts from command to command."""
        return await self._operations.open_shell(self.id)


class AsyncWorkspace(WorkspaceFace):
    """A workspace whose calls are awaited."""


class Workspace(Blocking, WorkspaceFace):
    """A workspace whose calls block."""


class WithWorkspaces(Operations):
    """The operations, and workspaces as contexts."""

    @scope_giving(Workspace)
    async def cloudrun_workspace_session(
        self, template: str, namespace: str, user: str, **options: Unpack[SessionOptionsDict]
    ) -> AsyncGenerator[AsyncWorkspace, None]:
        """A new workspace that runs, for `with` (or `async with`): it is deleted at the end, whatever happened.

            with client.cloudrun_workspace_session("python", "demo", "me", ttl_minutes=10) as workspace:
                print(workspace.execute("python --version")["stdout"])
                workspace.runpython("print(6 * 7)")

        `options` are create_session's other fields. Raises BadRequest, and SessionFailed with the reason when it
        cannot start, Unavailable when it does not run within 300 s.
        """
        info = await self.create_cloudrun_workspace(template=template, namespace=namespace, user=user, **options)
        workspace_id = info["id"]
        try:
            async for look in looks(self, info, WAIT_S):
                info = look
            yield AsyncWorkspace(self, running(info, WAIT_S))
        except BaseException as exc:
            await self._removed(workspace_id, exc)
            raise
        await self._removed(workspace_id, None)

    async def _removed(self, workspace_id: str, exc: BaseException | None) -> None:
        async def delete() -> object:
            return await self.delete_cloudrun_workspace(workspace_id)

        await leave(delete, exc, workspace_id)
