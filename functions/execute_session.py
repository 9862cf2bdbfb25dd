"""POST /v1/sessions/{session_id}/execute."""

from typing import Any

from shared.answer_schema import ExecutionAnswer
from shared.answers import execution_json
from shared.http import REQUEST_LIMIT_BYTES, REQUEST_LIMIT_S, Call, endpoint
from shared.schemas import ExecuteCommand
from shared.wiring import Services


@endpoint(
    "POST",
    "/v1/sessions/{session_id}/execute",
    body=ExecuteCommand,
    timeout_s=REQUEST_LIMIT_S,
    max_body_bytes=REQUEST_LIMIT_BYTES,
    answer=ExecutionAnswer,
)
async def execute_session(call: Call, app: Services) -> dict[str, Any]:
    """Run a command in a session and wait for its end."""
    return execution_json(await app.sessions.execute(call.caller, call.path["session_id"], call.body))
