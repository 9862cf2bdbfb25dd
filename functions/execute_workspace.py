"""POST /v1/cloudrun/workspaces/{workspace_id}/execute."""

from typing import Any

from shared.answer_schema import ExecutionAnswer
from shared.answers import execution_json
from shared.http import REQUEST_LIMIT_S, Call, endpoint
from shared.schemas import RunShell
from shared.wiring import Services


@endpoint(
    "POST",
    "/v1/cloudrun/workspaces/{workspace_id}/execute",
    query=RunShell,
    timeout_s=REQUEST_LIMIT_S,
    answer=ExecutionAnswer,
)
async def execute_workspace(call: Call, app: Services) -> dict[str, Any]:
    """Run a command in a workspace and wait for its end."""
    return execution_json(await app.workspaces.execute(call.caller, call.path["workspace_id"], call.query))
