"""GET /v1/keys."""

from typing import Any

from shared.answer_schema import KeysAnswer
from shared.answers import key_json
from shared.callers import Scope
from shared.http import Call, endpoint
from shared.wiring import Services


@endpoint("GET", "/v1/keys", scope=Scope.ADMIN, answer=KeysAnswer)
async def list_keys(call: Call, app: Services) -> dict[str, Any]:
    """List API keys, newest first, without their secrets."""
    return {"keys": [key_json(key) for key in await app.keys.list(call.caller)]}
