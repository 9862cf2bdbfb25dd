"""POST /v1/sessions/{session_id}/suspend."""

from typing import Any

from shared.answer_schema import SessionAnswer
from shared.answers import session_json
from shared.http import Call, endpoint
from shared.schemas import MAX_WAIT_S, WaitQuery
from shared.wiring import Services


@endpoint(
    "POST", "/v1/sessions/{session_id}/suspend", query=WaitQuery, timeout_s=2 * MAX_WAIT_S + 60, answer=SessionAnswer
)
async def suspend_session(call: Call, app: Services) -> dict[str, Any]:
    """Stop a session and keep its files, and wait up to `wait` seconds for that."""
    session_id, wait_s = call.path["session_id"], call.query["wait"]
    return session_json(await app.sessions.suspend(call.caller, session_id, wait_s=wait_s))
