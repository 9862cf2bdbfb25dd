"""DELETE /v1/cloudrun/workspaces/{workspace_id}."""

from typing import Any

from shared.answer_schema import DeletedSessionAnswer
from shared.answers import deleted_json
from shared.http import Call, endpoint
from shared.wiring import Services


@endpoint("DELETE", "/v1/cloudrun/workspaces/{workspace_id}", answer=DeletedSessionAnswer)
async def delete_workspace(call: Call, app: Services) -> dict[str, Any]:
    """Delete a workspace: it is gone at once, its resources follow."""
    return deleted_json(await app.workspaces.delete(call.caller, call.path["workspace_id"]))
