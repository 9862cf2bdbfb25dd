"""DELETE /v1/keys/{key_id}."""

from typing import Any

from shared.answer_schema import RevokedKeyAnswer
from shared.answers import key_json
from shared.callers import Scope
from shared.http import Call, endpoint
from shared.wiring import Services


@endpoint("DELETE", "/v1/keys/{key_id}", scope=Scope.ADMIN, answer=RevokedKeyAnswer)
async def revoke_key(call: Call, app: Services) -> dict[str, Any]:
    """Revoke an API key: within half a minute it opens nothing any more."""
    return {**key_json(await app.keys.revoke(call.caller, call.path["key_id"])), "success": True}
