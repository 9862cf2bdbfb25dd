"""The OpenAPI document: Swagger 2.0, for that is what API Gateway reads, and as JSON a template of Terraform's.

One operation per public function of the route table. `${address.<function>}` is where Terraform says that it answers.
"""

import re
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

import main  # noqa: F401  enters every function into the route table
from sdk.python.version import __version__
from shared.http import ROUTES, Access, Route

PARAMETER = re.compile(r"\{(\w+)\}")


def public() -> list[Route]:
    """The routes of the document: every function's but those of Cloud Tasks."""
    return sorted((route for route in ROUTES.values() if route.access is not Access.TASK), key=lambda route: route.name)


def document() -> dict[str, Any]:
    """The whole of it."""
    plugin = MarshmallowPlugin()
    spec = APISpec("OnMemOS", __version__, "2.0", plugins=[plugin], schemes=["https"])
    for route in public():
        spec.path(route.path, operations={route.method.lower(): _operation(route)})
    for path in sorted({route.path for route in public()}):
        spec.path(path, operations={"options": _preflight(path)})
    return spec.to_dict()


def _operation(route: Route) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"in": "path", "name": name, "type": "string", "required": True} for name in PARAMETER.findall(route.path)
    ]
    if route.access is Access.KEY:
        parameters.append({"in": "header", "name": "X-API-Key", "type": "string", "required": True})
    if route.query is not None:
        parameters.append({"in": "query", "schema": route.query})
    if route.body is not None:
        parameters.append({"in": "body", "name": "body", "required": route.needs_body, "schema": route.body})
    return {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parameters,
        "responses": {str(route.status): {"description": "OK"}},
        "x-google-backend": _backend(route),
    }


def _preflight(path: str) -> dict[str, Any]:
    route = next(route for route in public() if route.path == path)
    return {
        "operationId": f"preflight_{route.name}",
        "summary": "Say to browsers which origins may call this path (CORS).",
        "parameters": [
            {"in": "path", "name": name, "type": "string", "required": True} for name in PARAMETER.findall(path)
        ],
        "responses": {"204": {"description": "Answered."}},
        "x-google-backend": _backend(route),
    }


def _backend(route: Route) -> dict[str, Any]:
    """Without jwt_audience the gateway would ask for a token of the address with its path, which no function takes."""
    address = f"${{address.{route.name}}}"
    return {
        "address": address,
        "path_translation": "APPEND_PATH_TO_ADDRESS",
        "deadline": float(route.timeout_s),
        "jwt_audience": address,
    }
