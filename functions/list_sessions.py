"""GET /v1/sessions."""

from typing import Any

from shared.answer_schema import SessionPageAnswer
from shared.answers import page_json
from shared.http import Call, endpoint
from shared.schemas import ListQuery
from shared.wiring import Services


@endpoint("GET", "/v1/sessions", query=ListQuery, answer=SessionPageAnswer)
async def list_sessions(call: Call, app: Services) -> dict[str, Any]:
    """List your sessions, newest first, a page at a time."""
    where, size, after = call.query
    return page_json(await app.sessions.list(call.caller, where, size, after))
