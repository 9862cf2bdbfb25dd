"""DELETE /v1/sessions/{session_id}."""

from typing import Any

from shared.answer_schema import DeletedSessionAnswer
from shared.answers import deleted_json
from shared.http import Call, endpoint
from shared.wiring import Services


@endpoint("DELETE", "/v1/sessions/{session_id}", answer=DeletedSessionAnswer)
async def delete_session(call: Call, app: Services) -> dict[str, Any]:
    """Delete a session: it is gone at once, its resources follow."""
    return deleted_json(await app.sessions.delete(call.caller, call.path["session_id"]))
