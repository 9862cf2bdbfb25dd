"""Step of Cloud Tasks: remove everything of a deleted session."""

from typing import Any

from shared.http import Access, Call, endpoint
from shared.schemas import Step
from shared.wiring import Services


@endpoint("POST", "/", access=Access.TASK, body=Step, timeout_s=600)
async def teardown_session(call: Call, app: Services) -> dict[str, Any]:
    """Remove everything of a deleted session."""
    await app.steps.teardown(call.body["session_id"])
    return {}
