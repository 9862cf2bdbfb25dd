"""PATCH /v1/sessions/{session_id}."""

from typing import Any

from shared.answer_schema import SessionAnswer
from shared.answers import session_json
from shared.http import Call, endpoint
from shared.schemas import UpdateSession
from shared.wiring import Services


@endpoint("PATCH", "/v1/sessions/{session_id}", body=UpdateSession, answer=SessionAnswer)
async def update_session(call: Call, app: Services) -> dict[str, Any]:
    """Give a session another TTL, from now, or other labels."""
    return session_json(await app.sessions.update(call.caller, call.path["session_id"], call.body))
