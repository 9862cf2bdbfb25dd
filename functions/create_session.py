"""POST /v1/sessions."""

from typing import Any

from shared.answer_schema import SessionAnswer
from shared.answers import session_json
from shared.http import Call, endpoint
from shared.schemas import MAX_WAIT_S, CreateSession, WaitQuery
from shared.wiring import Services


@endpoint(
    "POST",
    "/v1/sessions",
    status=201,
    body=CreateSession,
    query=WaitQuery,
    timeout_s=MAX_WAIT_S + 60,
    answer=SessionAnswer,
    is_idempotent=True,
)
async def create_session(call: Call, app: Services) -> dict[str, Any]:
    """Create a session, and wait up to `wait` seconds until it runs."""
    key = call.headers.get("idempotency-key")
    session = await app.sessions.create(call.caller, call.body, wait_s=call.query["wait"], idempotency_key=key)
    return session_json(session)
