"""GET /v1/sessions/{session_id}."""

from typing import Any

from shared.answer_schema import SessionAnswer
from shared.answers import session_json
from shared.http import Call, endpoint
from shared.wiring import Services


@endpoint("GET", "/v1/sessions/{session_id}", answer=SessionAnswer)
async def get_session(call: Call, app: Services) -> dict[str, Any]:
    """Look at a session as it is now."""
    return session_json(await app.sessions.get(call.caller, call.path["session_id"]))
