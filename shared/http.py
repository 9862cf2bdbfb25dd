"""One operation over HTTP: `@endpoint` turns a thin coroutine into a Cloud Function and enters it into the route table.

The route table is the one source of the OpenAPI document, of Terraform's function map and of the local gateway. Here,
and nowhere else, errors become statuses, callers are made out, input is checked and requests are logged.
"""

import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, NoReturn

from marshmallow import Schema, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from shared import errors
from shared.callers import Caller, Scope
from shared.cors import permit, preflight
from shared.fields import flat
from shared.names import function_url
from shared.wiring import Services, services

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
REQUEST_LIMIT_S = 3600  # Cloud Run's longest request: cloud.google.com/run/docs/configuring/request-timeout
REQUEST_LIMIT_BYTES = 32 << 20  # Cloud Run's largest request over HTTP/1: cloud.google.com/run/quotas
HALF_CHARACTERS = (b"\\ud", b"\\uD")  # how JSON writes surrogates: alone they are no text, and nothing can hold them
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


class Access(StrEnum):
    """Who may call: anybody, the holder of an API key, or Cloud Tasks alone."""

    OPEN = "open"
    KEY = "key"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Route:
    """An operation. `name` is the module's, the function's and the OpenAPI document's operationId.

    `path` holds `{parameters}`; a task's is whatever Cloud Tasks was given. `scope` is what a key must have. `answer`
    is what success gives; None: nothing. `is_idempotent`: it heeds an Idempotency-Key. Without `needs_body` a request
    may come without one. `timeout_s` is the function's own limit.
    """

    name: str
    method: str
    path: str
    access: Access
    summary: str
    status: int = 200
    body: type[Schema] | None = None
    query: type[Schema] | None = None
    answer: type[Schema] | None = None
    is_idempotent: bool = False
    scope: Scope = Scope.SESSIONS
    needs_body: bool = True
    timeout_s: int = 60
    max_body_bytes: int = MAX_BODY_BYTES

    def match(self, path: str) -> dict[str, str] | None:
        """The path's parameters; None when the path is not this route's."""
        found = _pattern(self.path).fullmatch(path)
        return None if found is None else found.groupdict()


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template))


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was checked: `body` and `query` are what their schemas load, `path` the path's parameters."""

    caller: Caller
    path: Mapping[str, str] = field(default_factory=dict)
    query: Any = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call, Services], Awaitable[dict[str, Any]]]
Function = Callable[[Request], Awaitable[Response]]

ROUTES: dict[str, Route] = {}
FUNCTIONS: dict[str, Function] = {}

NOBODY = Caller(tenant="", key_id="", scopes=frozenset())

STATUSES: Mapping[type[errors.OnMemOSError], int] = {
    errors.InvalidRequest: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.KeyNotFound: 404,
    errors.SessionNotFound: 404,
    errors.JobNotFound: 404,
    errors.RouteNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.IdempotencyConflict: 409,
    errors.SessionFailed: 409,
    errors.SessionSuspended: 409,
    errors.QuotaExceeded: 429,
    errors.WorkspaceLost: 502,
    errors.SessionNotReady: 503,
    errors.WorkspaceUnreachable: 503,
    errors.WorkspaceExhausted: 503,
    errors.ProviderUnavailable: 503,
}


def endpoint(method: str, path: str, *, access: Access = Access.KEY, **options: Any) -> Callable[[Handler], Function]:
    """Make a handler the HTTP function of its name. `options` are Route's other fields.

    The handler's docstring is the operation's summary; what it returns is the answer's JSON.
    """

    def decorate(handler: Handler) -> Function:
        summary = (handler.__doc__ or "").partition("\n")[0]
        route = Route(handler.__name__, method, path, access, summary, **options)

        async def function(request: Request) -> Response:
            return await serve(route, handler, request, services())

        function.__name__ = function.__qualname__ = route.name
        function.__doc__ = handler.__doc__
        ROUTES[route.name] = route
        FUNCTIONS[route.name] = function
        return function

    return decorate


async def serve(route: Route, handler: Handler, request: Request, app: Services) -> Response:
    """One request, from its arrival to its log line. Whatever goes wrong, no stack trace leaves."""
    began = time.perf_counter()
    response: Response
    given = request.headers.get("x-request-id", "")
    request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    try:
        parameters = _parameters(route, request)
        if request.method == "OPTIONS" and route.access is not Access.TASK:
            response = preflight(request, app.settings.allowed_origins)
        else:
            call = await _checked(route, parameters, request, app)
            response = JSONResponse(await handler(call, app), route.status)
    except errors.OnMemOSError as exc:
        response = refusal(exc)
    except ClientDisconnect:
        response = Response(status_code=499)  # nobody is there to read it; nginx' code for the log
    except Exception:
        log.exception("request failed", extra={"function": route.name, "request_id": request_id})
        body = {"detail": f"Internal error; the log knows it as request {request_id}", "code": "internal"}
        response = JSONResponse(body, 500)
    permit(request, response, app.settings.allowed_origins)
    response.headers["X-Request-Id"] = request_id
    latency_ms = round((time.perf_counter() - began) * 1000, 2)
    facts = {"function": route.name, "status": response.status_code, "latency_ms": latency_ms, "request_id": request_id}
    log.info("request served", extra=facts)
    return response


def _parameters(route: Route, request: Request) -> dict[str, str]:
    path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
    parameters = {} if route.access is Access.TASK else route.match(path)
    if parameters is None:
        raise errors.RouteNotFound(f"path: got '{path}', wanted {route.path}")
    return parameters


async def _checked(route: Route, parameters: dict[str, str], request: Request, app: Services) -> Call:
    if request.method != route.method:
        raise errors.MethodNotAllowed(f"method: got {request.method}, wanted {route.method}")
    caller = await _caller(route, request, app)
    query = _loaded(route.query, dict(request.query_params)) if route.query else None
    body = await _body(route, request)
    return Call(caller, parameters, query, body, request.headers)


async def _body(route: Route, request: Request) -> Any:
    if route.body is None:
        return None
    raw = await _read(request, route.max_body_bytes)
    if not raw and not route.needs_body:
        return None
    return _loaded(route.body, _parsed(raw))


async def _caller(route: Route, request: Request, app: Services) -> Caller:
    match route.access:
        case Access.OPEN:
            return NOBODY
        case Access.KEY:
            caller = await app.keys.caller(request.headers.get("x-api-key"))
            caller.require(route.scope)
            return caller
        case Access.TASK:
            audience = function_url(app.settings.function_url, route.name)
            await app.identity.verify(request.headers.get("authorization"), audience)
            return NOBODY


async def _read(request: Request, limit: int) -> bytes:
    """The body, or RequestTooLarge as soon as that is known: a body is never held that is over its limit."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise errors.RequestTooLarge(f"body: got {announced} bytes, wanted at most {limit}")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise errors.RequestTooLarge(f"body: got more than {limit} bytes, wanted at most {limit}")
        chunks.append(chunk)
    return b"".join(chunks)


def _parsed(raw: bytes) -> Any:
    try:
        body = json.loads(raw)
        if any(escape in raw for escape in HALF_CHARACTERS):
            json.dumps(body, ensure_ascii=False).encode()  # what cannot be encoded is a ValueError, too
    except (ValueError, RecursionError) as exc:
        start = raw[:40].decode(errors="replace")
        detail = (
            f"body: got {start!r}, wanted a JSON object ({exc})" if raw else "body: got nothing, wanted a JSON object"
        )
        raise errors.InvalidRequest(detail, {"body": [detail.removeprefix("body: ")]}) from None
    return body


@cache
def _instance(schema: type[Schema]) -> Schema:
    """Loading keeps nothing in a schema, and making one copies all of its fields."""
    return schema()


def _loaded(schema: type[Schema], data: Any) -> Any:
    try:
        return _instance(schema).load(data)
    except ValidationError as exc:
        _refuse(exc)


def _refuse(exc: ValidationError) -> NoReturn:
    complaints = dict(flat(exc.normalized_messages()))
    detail = "; ".join(f"{name}: {complaint}" for name, all_of in complaints.items() for complaint in all_of)
    raise errors.InvalidRequest(detail, complaints) from exc


def status_of(kind: type[errors.OnMemOSError]) -> int:
    """The HTTP status of a domain error."""
    return next((STATUSES[known] for known in kind.__mro__ if known in STATUSES), 500)


def refusal(exc: errors.OnMemOSError) -> JSONResponse:
    """A domain error as every function answers it."""
    status = status_of(type(exc))
    body: dict[str, Any] = {"detail": str(exc), "code": exc.code}
    if isinstance(exc, errors.InvalidRequest) and exc.errors:
        body["errors"] = exc.errors
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse(body, status, headers)
