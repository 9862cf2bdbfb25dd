"""The OpenAPI document: Swagger 2.0, for that is what API Gateway reads, and as JSON a template of Terraform's.

One operation per public function of the route table, and one per path for what browsers ask before a call.
`${address.<function>}` is where Terraform says that the function answers. The relay is not in it: API Gateway passes no
WebSockets on.
"""

import re
from typing import Any

from apispec import APISpec

import main  # noqa: F401  enters every function into the route table
from infra.openapi.examples import ANSWERS, BODIES, PATHS
from infra.openapi.properties import Plugin, definition_name
from infra.openapi.refusals import refusals
from sdk.python.version import __version__
from shared.answer_schema import ErrorAnswer, GatewayErrorAnswer
from shared.http import REQUEST_ID, ROUTES, Access, Route

PARAMETER = re.compile(r"\{(\w+)\}")
JSON = "application/json"
ABOUT = (
    "Isolated sessions where commands run. Every call but /health wants an API key in the header X-API-Key. "
    "What fails is answered with a sentence (`detail`) and a stable `code`."
)
TAGS = {
    "sessions": "Places where commands run, on any provider.",
    "jobs": "Commands that outlive a request.",
    "workspaces": "The older API for the same sessions, those on Cloud Run.",
    "templates": "What a session can start from.",
    "keys": "API keys, for a key with the scope admin.",
    "health": "Whether the control plane answers.",
}
PATH_PARAMETERS = {
    "session_id": "the session's id",
    "workspace_id": "the workspace's id",
    "job_id": "the job's id",
    "key_id": "the key's id, not its secret",
}
KEY = {
    "in": "header", "name": "X-API-Key", "type": "string", "required": True, "description": "an API key",
    "x-example": "your-api-key",
}  # fmt: skip
REPEATED = {
    "in": "header", "name": "Idempotency-Key", "type": "string",
    "description": "any text of your own: the same key and body give the same answer, not another one of it",
}  # fmt: skip
REQUEST_ID_SENT = {
    "in": "header", "name": "X-Request-Id", "type": "string", "pattern": f"^{REQUEST_ID.pattern}$",
    "description": "what the log shall know the request by; any other text is replaced",
}  # fmt: skip
REQUEST_ID_GIVEN = {"type": "string", "description": "what the log knows the request by"}
RETRY_AFTER = {"type": "integer", "description": "after how many seconds to try again"}
INTERNAL = "`internal`: something is wrong with the service, whose log knows more by X-Request-Id."
GATEWAY_TIMEOUT = "The function took longer than it may; API Gateway's own answer."


def public() -> list[Route]:
    """The routes of the document: every function's but those of Cloud Tasks."""
    return sorted((route for route in ROUTES.values() if route.access is not Access.TASK), key=lambda route: route.name)


def document() -> dict[str, Any]:
    """The whole of it."""
    spec = APISpec(
        "OnMemOS", __version__, "2.0",
        plugins=[Plugin()],
        info={"description": ABOUT},
        schemes=["https"],
        consumes=[JSON],
        produces=[JSON],
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )  # fmt: skip
    paths: dict[str, list[Route]] = {}
    for route in public():
        paths.setdefault(route.path, []).append(route)
    for path, routes in sorted(paths.items()):
        operations = {route.method.lower(): _operation(route) for route in routes}
        spec.path(path, operations={**operations, "options": _preflight(path, routes[0])})
    whole: dict[str, Any] = spec.to_dict()
    for schema, example in BODIES.items():
        whole["definitions"][definition_name(schema)]["example"] = example
    first = ("swagger", "info", "schemes", "consumes", "produces", "tags", "paths", "definitions")
    return {name: whole[name] for name in first}


def tag(path: str) -> str:
    """The group that a path belongs to: the innermost of the nouns that are one."""
    return next(word for word in reversed(re.split(r"[/:]", path)) if word in TAGS)


def _operation(route: Route) -> dict[str, Any]:
    return {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [tag(route.path)],
        "parameters": _parameters(route),
        "responses": _responses(route),
        "x-google-backend": _backend(route),
    }


def _parameters(route: Route) -> list[dict[str, Any]]:
    found = _path_parameters(route.path)
    if route.access is Access.KEY:
        found.append(KEY)
    if route.is_idempotent:
        found.append(REPEATED)
    found.append(REQUEST_ID_SENT)
    if route.query is not None:
        found.append({"in": "query", "schema": route.query})
    if route.body is not None:
        found.append({"in": "body", "name": "body", "required": route.needs_body, "schema": route.body})
    return found


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "in": "path", "name": name, "type": "string", "required": True, "description": PATH_PARAMETERS[name],
            "x-example": PATHS[name],
        }
        for name in PARAMETER.findall(path)
    ]  # fmt: skip


def _responses(route: Route) -> dict[str, Any]:
    if route.answer is None:
        raise ValueError(f"{route.name}: got no answer, wanted a schema: what others call answers something")
    given = {"X-Request-Id": REQUEST_ID_GIVEN}
    found: dict[str, Any] = {
        str(route.status): {
            "description": "Done." if route.status == 200 else "Created.",
            "headers": given,
            "schema": route.answer,
            "examples": {JSON: ANSWERS[route.answer]},
        }
    }
    for status, kinds in refusals(route).items():
        found[str(status)] = {
            "description": " ".join(f"`{kind.code}`: {sentence(kind)}" for kind in kinds),
            "headers": {**given, **({"Retry-After": RETRY_AFTER} if status == 503 else {})},
            "schema": ErrorAnswer,
            "x-codes": [kind.code for kind in kinds],
        }
    found["500"] = {"description": INTERNAL, "headers": given, "schema": ErrorAnswer, "x-codes": ["internal"]}
    found["504"] = {"description": GATEWAY_TIMEOUT, "schema": GatewayErrorAnswer}
    return dict(sorted(found.items()))


def sentence(kind: type[Exception]) -> str:
    """What an error says, in its own class's words."""
    return " ".join((kind.__doc__ or "").partition("\n\n")[0].split())


def _preflight(path: str, route: Route) -> dict[str, Any]:
    """Any function of the path answers it, and no key is asked for."""
    return {
        "operationId": f"preflight_{route.name}",
        "summary": "Say to a browser whose pages may call this path.",
        "tags": [tag(path)],
        "parameters": _path_parameters(path),
        "responses": {"204": {"description": "Said, in the headers Access-Control-Allow-…."}},
        "x-google-backend": _backend(route),
    }


def _backend(route: Route) -> dict[str, Any]:
    """`deadline` is in seconds. A function's audience is its address, not the host that the gateway would take."""
    address = f"${{address.{route.name}}}"
    return {
        "address": address,
        "path_translation": "APPEND_PATH_TO_ADDRESS",
        "deadline": float(route.timeout_s),
        "jwt_audience": address,
    }
