"""POST /v1/keys."""

from typing import Any

from shared.answer_schema import NewKeyAnswer
from shared.answers import key_json
from shared.callers import Scope
from shared.http import Call, endpoint
from shared.key_schema import CreateKey
from shared.wiring import Services


@endpoint("POST", "/v1/keys", status=201, scope=Scope.ADMIN, body=CreateKey, answer=NewKeyAnswer)
async def create_key(call: Call, app: Services) -> dict[str, Any]:
    """Create an API key; its secret is in this answer and nowhere else."""
    key, secret = await app.keys.create(call.caller, call.body)
    return {**key_json(key), "key": secret}
