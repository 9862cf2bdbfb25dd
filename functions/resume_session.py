"""POST /v1/sessions/{session_id}/resume."""

from typing import Any

from shared.answer_schema import SessionAnswer
from shared.answers import session_json
from shared.http import Call, endpoint
from shared.schemas import MAX_WAIT_S, WaitQuery
from shared.wiring import Services


@endpoint(
    "POST", "/v1/sessions/{session_id}/resume", query=WaitQuery, timeout_s=2 * MAX_WAIT_S + 60, answer=SessionAnswer
)
async def resume_session(call: Call, app: Services) -> dict[str, Any]:
    """Start a suspended session again with its files, and wait up to `wait` seconds until it runs."""
    session_id, wait_s = call.path["session_id"], call.query["wait"]
    return session_json(await app.sessions.resume(call.caller, session_id, wait_s=wait_s))
