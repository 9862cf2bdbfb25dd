"""The calls of the older API, /v1/cloudrun/workspaces: a workspace is a session of provider cloud_run, with its id."""

from collections.abc import Mapping
from typing import Any, Unpack

from .calls import Calls
from .faces import operation
from .paths import SERVICE_START_S, given, path_to
from .shapes import DeletedDict, ExecutionDict, SessionDict, SessionSpecDict, WorkspacePageDict

WORKSPACES = "cloudrun/workspaces"


class WorkspaceOperations(Calls):
    """Workspaces are sessions: what is said of create_session, execute_session and the others holds here."""

    @operation
    async def create_cloudrun_workspace(
        self,
        spec: Mapping[str, Any] | None = None,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[SessionSpecDict],
    ) -> SessionDict:
        """A new workspace, from a dict, from keywords, or both (keywords win). `wait`, repeating: as create_session.

        Raises BadRequest (`errors` names the fields), Conflict (the key was used for another request).
        """
        return await self._create(f"/v1/{WORKSPACES}", {**(spec or {}), **fields}, wait, idempotency_key)

    @operation
    async def list_cloudrun_workspaces(
        self,
        *,
        namespace: str | None = None,
        user: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> WorkspacePageDict:
        """A page of your workspaces, newest first: `{"workspaces": [...], "next_page_token": str or None}`."""
        query = given(namespace=namespace, user=user, page_size=page_size, page_token=page_token)
        return await self._link.call(WorkspacePageDict, "GET", f"/v1/{WORKSPACES}", query=query, idempotent=True)

    @operation
    async def get_cloudrun_workspace(self, workspace_id: str) -> SessionDict:
        """The workspace as it is now. Raises NotFound."""
        return await self._link.call(
            SessionDict, "GET", path_to(WORKSPACES, workspace_id=workspace_id), idempotent=True
        )

    @operation
    async def execute_cloudrun_workspace(self, workspace_id: str, command: str, timeout: float = 120) -> ExecutionDict:
        """Run a command line with `/bin/sh -c`. It travels in the URL: execute_session takes longer ones."""
        return await self._run(workspace_id, "execute", timeout, query={"command": command, "timeout": timeout})

    @operation
    async def runpython_cloudrun_workspace(self, workspace_id: str, code: str, timeout: float = 120) -> ExecutionDict:
        """Run Python code as a file. An exception is a traceback in `stderr` and returncode 1; `sys.exit(3)` is 3."""
        return await self._run(workspace_id, "runpython", timeout, json={"code": code, "timeout": timeout})

    @operation
    async def runsh_cloudrun_workspace(self, workspace_id: str, command: str, timeout: float = 120) -> ExecutionDict:
        """Run shell code. It travels in the URL: execute_session takes longer ones."""
        return await self._run(workspace_id, "runsh", timeout, query={"command": command, "timeout": timeout})

    @operation
    async def delete_cloudrun_workspace(self, workspace_id: str) -> DeletedDict:
        """Delete the workspace, as delete_session does. Raises NotFound."""
        return await self._delete(workspace_id, path_to(WORKSPACES, workspace_id=workspace_id))

    async def _run(
        self,
        workspace_id: str,
        action: str,
        timeout: float,
        *,
        query: Mapping[str, Any] | None = None,
        json: Mapping[str, Any] | None = None,
    ) -> ExecutionDict:
        return await self._link.call(
            ExecutionDict,
            "POST",
            path_to(WORKSPACES, action, workspace_id=workspace_id),
            idempotent=False,
            takes_s=timeout + SERVICE_START_S,
            query=query,
            json=json,
        )
