"""GET /v1/sessions/{session_id}/connect."""

from typing import Any

from shared.answer_schema import ConnectionAnswer
from shared.answers import connection_json
from shared.http import Call, endpoint
from shared.schemas import CONNECT_TIMEOUT_S
from shared.wiring import Services


@endpoint("GET", "/v1/sessions/{session_id}/connect", timeout_s=CONNECT_TIMEOUT_S, answer=ConnectionAnswer)
async def connect_session(call: Call, app: Services) -> dict[str, Any]:
    """Say how to reach a session's workspace directly, with a ticket for some minutes."""
    return connection_json(await app.sessions.connect(call.caller, call.path["session_id"]))
