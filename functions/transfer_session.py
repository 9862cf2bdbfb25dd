"""Step of Cloud Tasks: carry a session to another provider."""

from typing import Any

from shared.http import Access, Call, endpoint
from shared.schemas import Step
from shared.wiring import Services


@endpoint("POST", "/", access=Access.TASK, body=Step, timeout_s=1800)
async def transfer_session(call: Call, app: Services) -> dict[str, Any]:
    """Carry a session to another provider."""
    await app.moving.step(call.body["session_id"], call.body["turn"])
    return {}
