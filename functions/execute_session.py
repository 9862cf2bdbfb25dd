"""POST /v1/sessions/{session_id}/execute."""

from typing import Any

from shared.answers import execution_json
from shared.http import Call, endpoint
from shared.schemas import ExecuteCommand
from shared.wiring import Services

REQUEST_LIMIT_S = 3600  # Cloud Run's longest request
REQUEST_LIMIT_BYTES = 32 << 20  # Cloud Run's largest request over HTTP/1: cloud.google.com/run/quotas


@endpoint(
    "POST",
    "/v1/sessions/{session_id}/execute",
    body=ExecuteCommand,
    timeout_s=REQUEST_LIMIT_S,
    max_body_bytes=REQUEST_LIMIT_BYTES,
)
async def execute_session(call: Call, app: Services) -> dict[str, Any]:
    """Run a command in a session and wait for its end."""
    return execution_json(await app.sessions.execute(call.caller, call.path["session_id"], call.body))
