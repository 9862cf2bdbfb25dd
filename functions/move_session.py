"""POST /v1/sessions/{session_id}/move."""

from typing import Any

from shared.answer_schema import SessionAnswer
from shared.answers import session_json
from shared.http import Call, endpoint
from shared.schemas import MAX_WAIT_S, MoveSession, WaitQuery
from shared.wiring import Services


@endpoint(
    "POST",
    "/v1/sessions/{session_id}/move",
    body=MoveSession,
    query=WaitQuery,
    timeout_s=2 * MAX_WAIT_S + 60,
    answer=SessionAnswer,
)
async def move_session(call: Call, app: Services) -> dict[str, Any]:
    """Carry a session with its files to another provider, and wait up to `wait` seconds for that."""
    session_id, wait_s = call.path["session_id"], call.query["wait"]
    return session_json(await app.sessions.move(call.caller, session_id, call.body, wait_s=wait_s))
