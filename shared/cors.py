"""Who may call from a browser: the answer to its question before a call, and what every answer then says (CORS).

API Gateway passes both on as they are. Keys travel in a header and not in cookies, so any origin may be allowed.
"""

from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response

ANY = "*"
METHODS = "GET, POST, PATCH, DELETE"
HEADERS = "Content-Type, Idempotency-Key, X-API-Key, X-Request-Id"
EXPOSED = "Retry-After, X-Request-Id"
MAX_AGE_S = 7200  # the longest that every browser remembers: fetch.spec.whatwg.org/#http-access-control-max-age


def preflight(request: Request, allowed: Collection[str]) -> Response:
    """204. A browser whose origin is not allowed finds no permission in it, and does not call."""
    response = Response(status_code=204)
    if _permission(request, allowed):
        response.headers["Access-Control-Allow-Methods"] = METHODS
        response.headers["Access-Control-Allow-Headers"] = HEADERS
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
    return response


def permit(request: Request, response: Response, allowed: Collection[str]) -> None:
    """Let the page that asked read the answer, where its origin is allowed."""
    if ANY not in allowed and allowed:
        response.headers["Vary"] = "Origin"  # a cache must not give one origin's answer to another
    permission = _permission(request, allowed)
    if permission:
        response.headers["Access-Control-Allow-Origin"] = permission
        response.headers["Access-Control-Expose-Headers"] = EXPOSED


def _permission(request: Request, allowed: Collection[str]) -> str | None:
    origin = request.headers.get("origin")
    if origin is None:
        return None
    if ANY in allowed:
        return ANY
    return origin if origin in allowed else None
