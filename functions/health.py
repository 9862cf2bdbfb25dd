"""GET /health: is the control plane there?"""

from typing import Any

from shared.answer_schema import HealthAnswer
from shared.http import Access, Call, endpoint
from shared.wiring import Services


@endpoint("GET", "/health", access=Access.OPEN, answer=HealthAnswer)
async def health(_: Call, app: Services) -> dict[str, Any]:
    """Say that the control plane answers, and which providers it offers."""
    return {"status": "healthy", "providers": [str(name) for name in app.providers]}
