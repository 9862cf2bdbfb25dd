"""One operation over HTTP: statuses, bodies of errors, and every kind of bad input, with no network and no cloud."""

import base64
import json
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from marshmallow import Schema
from starlette.requests import Request

from shared import errors
from shared.answers import position
from shared.callers import ApiKey, Scope
from shared.http import Access, Call, Route, serve
from shared.key_schema import CreateKey
from shared.keys import Keys, digest
from shared.schemas import CreateSession, ExecuteCommand, ListQuery, RunPython, UpdateSession, WaitQuery
from shared.wiring import Services
from tests.fakes import START, Clock, MemoryKeys

GOOD = {"namespace": "test", "user": "developer"}
CREATE = Route("create", "POST", "/v1/sessions", Access.KEY, "", 201, CreateSession, WaitQuery)


@dataclass
class App:
    """The part of the services that a function's HTTP side needs."""

    key_store: MemoryKeys = field(default_factory=MemoryKeys)
    clock: Clock = field(default_factory=Clock)
    settings: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(allowed_origins=()))

    @property
    def keys(self) -> Keys:
        return Keys(self.key_store, "secret", clock=self.clock)


async def ask(
    route: Route,
    body: Any = None,
    *,
    path: str = "/v1/sessions",
    query: str = "",
    method: str = "POST",
    headers: dict[str, str] | None = None,
    handler: Any = None,
    app: App | None = None,
) -> tuple[int, dict[str, Any]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"x-api-key": "secret", "content-length": str(len(raw)), **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in sent.items() if value],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def echo(call: Call, _: Services) -> dict[str, Any]:
        return {
            "body": repr(call.body),
            "query": repr(call.query),
            "path": dict(call.path),
            "tenant": call.caller.tenant,
        }

    response = await serve(route, handler or echo, Request(scope, receive), app or App())  # type: ignore[arg-type]
    assert response.headers["x-request-id"]
    return response.status_code, json.loads(bytes(response.body))


async def test_a_good_request_reaches_the_handler() -> None:
    status, answer = await ask(CREATE, GOOD, query="wait=0")
    assert status == 201
    assert answer["tenant"] == "default"
    assert "ttl_minutes=60" in answer["body"]


@pytest.mark.parametrize(
    ("field_name", "value", "wanted"),
    [
        ("ttl_minutes", 0, "got 0, wanted an integer from 1 to 43,200"),
        ("ttl_minutes", 43_201, "got 43201, wanted an integer from 1 to 43,200"),
        ("ttl_minutes", "60", 'got "60", wanted an integer from 1 to 43,200'),
        ("ttl_minutes", 1.5, "got 1.5, wanted an integer"),
        ("ttl_minutes", True, "got true, wanted an integer"),
        ("ttl_minutes", None, "got null, wanted a value"),
        ("provider", "aws", 'got "aws", wanted one of auto, cloud_run, gke, workstations'),
        ("namespace", "", 'got "", wanted 1 to 63 letters'),
        ("namespace", "a b", 'got "a b", wanted 1 to 63 letters'),
        ("namespace", 7, "got 7, wanted 1 to 63 letters"),
        ("user", "x" * 64, "wanted 1 to 63 letters"),
        ("user", "../etc", 'got "../etc"'),
        ("colour", "red", 'unknown field, got "red"; wanted one of'),
        ("env", {"1A": "x"}, 'got the name "1A"'),
        ("env", {"A": 1}, 'got 1 for "A", wanted a string'),
        ("env", {"PORT": "1"}, "wanted one that is not reserved"),
        ("env", {"A": "x" * 40_000}, "wanted at most 32768 in all"),
        ("env", [], "got [], wanted an object of strings"),
        ("labels", {"Team": "x"}, 'got the key "Team"'),
        ("labels", {"team": "X"}, 'got "X" for "team"'),
        ("labels", {"onmemos-session": "x"}, "not beginning with onmemos"),
        ("labels", {f"l{n}": "x" for n in range(33)}, "got 33 labels, wanted at most 32"),
        ("long_lived", "yes", 'got "yes", wanted true or false'),
        ("needs_ssh", 1, "got 1, wanted true or false"),
        ("expected_duration_minutes", 0, "got 0, wanted an integer from 1"),
        ("resources", {"cpu": "many"}, 'got "many", wanted a number of vCPUs'),
        ("resources", {"memory": "2 gigs"}, 'got "2 gigs", wanted a quantity such as 512Mi or 2Gi'),
        ("resources", {"disk": 1}, "unknown field, got 1; wanted one of cpu, memory"),
        ("resources", 4, "got 4, wanted a JSON object"),
        ("network", {"egress": "no"}, 'got "no", wanted true or false'),
    ],
)
async def test_bad_input_names_the_field_the_value_seen_and_the_value_wanted(
    field_name: str, value: Any, wanted: str
) -> None:
    status, answer = await ask(CREATE, {**GOOD, field_name: value})
    assert status == 400
    assert answer["code"] == "invalid_request"
    (named, complaints), *_ = answer["errors"].items()
    assert named.split(".")[0] == field_name
    assert wanted in complaints[0]
    assert complaints[0] in answer["detail"]


async def test_all_complaints_come_at_once() -> None:
    status, answer = await ask(CREATE, {"ttl_minutes": 0, "provider": "aws", "namespace": "x", "user": ""})
    assert status == 400
    assert set(answer["errors"]) == {"ttl_minutes", "provider", "user"}


async def test_missing_fields_are_named() -> None:
    _, answer = await ask(CREATE, {})
    assert answer["errors"] == {
        "namespace": ["missing; it is required"],
        "user": ["missing; it is required"],
    }


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"", "got nothing, wanted a JSON object"),
        (b"{", "wanted a JSON object"),
        (b"\xff\xfe", "wanted a JSON object"),
        (b'{"namespace": "\\uD800"}', "surrogates not allowed"),
        (b"[1]", "got [1], wanted a JSON object"),
        (b"[" * 100_000, "wanted a JSON object"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(raw: bytes, wanted: str) -> None:
    status, answer = await ask(CREATE, raw)
    assert status == 400
    assert wanted in answer["detail"]


async def test_a_body_that_is_too_large_is_refused_by_its_announcement_and_by_its_size() -> None:
    large = json.dumps({**GOOD, "user": "x" * (1 << 20)}).encode()
    for headers in ({}, {"content-length": "5"}):
        status, answer = await ask(CREATE, large, headers=headers)
        assert (status, answer["code"]) == (400, "request_too_large")
        assert "wanted at most 1048576" in answer["detail"]


@pytest.mark.parametrize("query", ["wait=x", "wait=-1", "wait=601", "wait=nan", "wiat=1"])
async def test_bad_queries_are_named_too(query: str) -> None:
    status, answer = await ask(CREATE, GOOD, query=query)
    assert status == 400
    assert list(answer["errors"]) == [query.partition("=")[0]]


@pytest.mark.parametrize(
    "query",
    ["page_size=0", "page_size=1001", "page_size=x", "page_token=%%%", "page_token=YWJj", "status=deleting", "label=x"],
)
async def test_bad_listing_queries_are_named(query: str) -> None:
    route = Route("list", "GET", "/v1/sessions", Access.KEY, "", query=ListQuery)
    status, answer = await ask(route, None, method="GET", query=query)
    assert status == 400
    assert list(answer["errors"]) == [query.partition("=")[0]]


@pytest.mark.parametrize(
    ("body", "field_name"),
    [
        ({}, "command"),
        ({"command": "a", "argv": ["a"]}, "command"),
        ({"command": "  "}, "command"),
        ({"command": 5}, "command"),
        ({"argv": []}, "argv"),
        ({"argv": ["a", 5]}, "argv.1"),
        ({"command": "a", "timeout": 0}, "timeout"),
        ({"command": "a", "timeout": 4000}, "timeout"),
        ({"command": "a", "stdin": 5}, "stdin"),
        ({"command": "a\0b"}, "command"),
        ({"command": "a", "env": {"A": "x\0"}}, "env"),
    ],
)
async def test_bad_commands_are_named(body: dict[str, Any], field_name: str) -> None:
    route = Route("x", "POST", "/v1/sessions/{session_id}/execute", Access.KEY, "", body=ExecuteCommand)
    status, answer = await ask(route, body, path="/v1/sessions/ws-1/execute")
    assert status == 400
    assert list(answer["errors"]) == [field_name]


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_a_missing_or_wrong_key_is_401_before_the_body_is_looked_at(key: str) -> None:
    status, answer = await ask(CREATE, b"nonsense", headers={"x-api-key": key})
    assert (status, answer["code"]) == (401, "unauthenticated")
    assert "API key" in answer["detail"]


async def test_a_wrong_path_or_method_is_404_and_405() -> None:
    assert (await ask(CREATE, GOOD, path="/elsewhere"))[0] == 404
    assert (await ask(CREATE, GOOD, method="PUT"))[0] == 405


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.SessionNotFound(), 404),
        (errors.IdempotencyConflict("x"), 409),
        (errors.SessionFailed("x"), 409),
        (errors.ProviderNotConfigured("x"), 400),
        (errors.WorkspaceLost("x"), 502),
        (errors.ProviderUnavailable("x"), 503),
    ],
)
async def test_each_domain_error_has_its_status_and_code(error: errors.OnMemOSError, status: int) -> None:
    async def fail(*_: Any) -> dict[str, Any]:
        raise error

    got, answer = await ask(CREATE, GOOD, handler=fail)
    assert got == status
    assert answer == {"detail": str(error), "code": error.code}


async def test_no_stack_trace_and_no_text_of_a_bug_ever_leaves(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(*_: Any) -> dict[str, Any]:
        raise RuntimeError("the password is 1234")

    status, answer = await ask(CREATE, GOOD, handler=fail)
    assert (status, answer["code"]) == (500, "internal")
    assert "1234" not in json.dumps(answer)
    assert "1234" in caplog.text


async def test_a_key_is_found_by_its_digest_until_it_is_revoked_or_expires() -> None:
    app = App()
    good = ApiKey(digest("good"), "ci", "acme", frozenset({Scope.SESSIONS}), START)
    for key in (
        good,
        replace(good, digest=digest("revoked"), revoked_at=START),
        replace(good, digest=digest("expired"), expires_at=START),
    ):
        await app.key_store.create(key)
    keys = app.keys
    assert (await keys.caller("good")).tenant == "acme"
    for secret in ("revoked", "expired", None, ""):
        with pytest.raises(errors.Unauthenticated):
            await keys.caller(secret)
    app.key_store.keys.clear()
    assert (await keys.caller("good")).tenant == "acme"
    app.clock.advance(seconds=31)
    with pytest.raises(errors.Unauthenticated):
        await keys.caller("good")


@pytest.mark.parametrize(("raw", "seen"), [(b"", "None"), (b'{"code": "1"}', "PythonCode(code='1', timeout_s=None)")])
async def test_a_body_that_is_not_needed_may_be_there_or_not(raw: bytes, seen: str) -> None:
    route = Route("run", "POST", "/v1/sessions", Access.KEY, "", body=RunPython, needs_body=False)
    status, answer = await ask(route, raw)
    assert (status, answer["body"]) == (200, seen)
    status, answer = await ask(route, b'{"kode": "1"}')
    assert (status, answer["errors"]) == (400, {"kode": ['unknown field, got "1"; wanted one of code, timeout']})


async def test_a_key_without_the_routes_scope_is_forbidden_before_anything_is_read() -> None:
    route = Route("keys", "POST", "/v1/sessions", Access.KEY, "", scope=Scope.ADMIN)
    app = App()
    await app.key_store.create(ApiKey(digest("plain"), "ci", "acme", frozenset({Scope.SESSIONS}), START))
    status, answer = await ask(route, b"{", headers={"x-api-key": "plain"}, app=app)
    assert (status, answer["code"]) == (403, "forbidden")
    assert (await ask(route, {}, app=app))[0] == 200


@pytest.mark.parametrize(
    ("schema", "body", "named"),
    [
        (UpdateSession, {}, "body"),
        (UpdateSession, {"ttl_minutes": 525_601}, "ttl_minutes"),
        (UpdateSession, {"user": "x"}, "user"),
        (CreateKey, {}, "name"),
        (CreateKey, {"name": " "}, "name"),
        (CreateKey, {"name": "x", "scopes": ["root"]}, "scopes.0"),
        (CreateKey, {"name": "x", "scopes": []}, "scopes"),
        (CreateKey, {"name": "x", "namespaces": [f"n{n}" for n in range(31)]}, "namespaces"),
        (CreateKey, {"name": "x", "expires_at": "tomorrow"}, "expires_at"),
        (CreateKey, {"name": "x", "expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        (CreateKey, {"name": "x", "expires_at": "0001-01-01T00:00:00+23:00"}, "expires_at"),
        (CreateKey, {"name": "x", "expires_at": "9999-12-31T23:00:00-23:00"}, "expires_at"),
        (RunPython, {"code": " "}, "code"),
        (RunPython, {"code": 1}, "code"),
    ],
)
async def test_bad_bodies_of_the_other_calls_name_the_field(
    schema: type[Schema], body: dict[str, Any], named: str
) -> None:
    status, answer = await ask(Route("x", "POST", "/v1/sessions", Access.KEY, "", body=schema), body)
    assert (status, list(answer["errors"])) == (400, [named])
    assert "got" in answer["detail"] or "missing" in answer["detail"]


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+23:00 ws-x",
        "2026-01-01T00:00:00 ws-x",
        "2026-01-01T00:00:00Z X",
        f"2026-01-01T00:00:00Z {'a' * 64}",
    ],
)
def test_a_page_token_that_names_no_place_is_none(text: str) -> None:
    assert position(base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")) is None
