"""Step of Cloud Tasks: a session's time may be up."""

from typing import Any

from shared.http import Access, Call, endpoint
from shared.schemas import Step
from shared.wiring import Services


@endpoint("POST", "/", access=Access.TASK, body=Step)
async def expire_session(call: Call, app: Services) -> dict[str, Any]:
    """Delete a session whose time is up."""
    await app.steps.expire(call.body["session_id"], call.body["generation"])
    return {}
