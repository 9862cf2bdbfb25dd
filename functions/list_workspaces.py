"""GET /v1/cloudrun/workspaces."""

from typing import Any

from shared.answer_schema import WorkspacePageAnswer
from shared.answers import page_json
from shared.http import Call, endpoint
from shared.schemas import ListWorkspaces
from shared.wiring import Services


@endpoint("GET", "/v1/cloudrun/workspaces", query=ListWorkspaces, answer=WorkspacePageAnswer)
async def list_workspaces(call: Call, app: Services) -> dict[str, Any]:
    """List your workspaces on Cloud Run, newest first, a page at a time."""
    where, size, after = call.query
    return page_json(await app.workspaces.list(call.caller, where, size, after), "workspaces")
