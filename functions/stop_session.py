"""Step of Cloud Tasks: save a session's files and stop its workspace."""

from typing import Any

from shared.http import Access, Call, endpoint
from shared.schemas import Step
from shared.wiring import Services


@endpoint("POST", "/", access=Access.TASK, body=Step, timeout_s=1800)
async def stop_session(call: Call, app: Services) -> dict[str, Any]:
    """Save a session's files and stop its workspace."""
    await app.suspension.step(call.body["session_id"], call.body["turn"])
    return {}
