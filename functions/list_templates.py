"""GET /v1/templates."""

from typing import Any

from shared.answer_schema import TemplatesAnswer
from shared.answers import template_json
from shared.http import Call, endpoint
from shared.wiring import Services


@endpoint("GET", "/v1/templates", answer=TemplatesAnswer)
async def list_templates(_: Call, app: Services) -> dict[str, Any]:
    """List what a session can start from, and what cannot start here and why."""
    return {"templates": [template_json(template) for template in app.templates]}
