"""GET /v1/cloudrun/workspaces/{workspace_id}."""

from typing import Any

from shared.answer_schema import SessionAnswer
from shared.answers import session_json
from shared.http import Call, endpoint
from shared.wiring import Services


@endpoint("GET", "/v1/cloudrun/workspaces/{workspace_id}", answer=SessionAnswer)
async def get_workspace(call: Call, app: Services) -> dict[str, Any]:
    """Look at a workspace as it is now."""
    return session_json(await app.workspaces.get(call.caller, call.path["workspace_id"]))
