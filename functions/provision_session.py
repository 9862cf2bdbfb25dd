"""Step of Cloud Tasks: start a session's workspace."""

from typing import Any

from shared.http import Access, Call, endpoint
from shared.schemas import Step
from shared.wiring import Services


@endpoint("POST", "/", access=Access.TASK, body=Step, timeout_s=1800)
async def provision_session(call: Call, app: Services) -> dict[str, Any]:
    """Start a session's workspace."""
    await app.steps.provision(call.body["session_id"])
    return {}
