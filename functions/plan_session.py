"""POST /v1/sessions:plan."""

from typing import Any

from shared.answer_schema import PlanAnswer
from shared.answers import plan_json
from shared.http import Call, endpoint
from shared.schemas import CreateSession
from shared.wiring import Services


@endpoint("POST", "/v1/sessions:plan", body=CreateSession, answer=PlanAnswer)
async def plan_session(call: Call, app: Services) -> dict[str, Any]:
    """Say where a session would run, why there, and what it would cost; create nothing."""
    return plan_json(app.sessions.plan(call.body))
