"""A page of an allowed origin may call and read; any other may not, and nothing else changes."""

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from shared.http import Access, Call, Route, serve
from shared.wiring import Services
from tests.unit.shared.test_http import App

CONSOLE = "https://console.example"
SESSIONS = Route("list_things", "GET", "/v1/things", Access.KEY, "")
STEP = Route("later_thing", "POST", "/", Access.TASK, "")


async def answer(call: Call, _: Services) -> dict[str, Any]:
    return {"tenant": call.caller.tenant}


async def ask(
    *allowed: str, origin: str | None = CONSOLE, method: str = "OPTIONS", path: str = "/v1/things",
    key: str | None = None, route: Route = SESSIONS
) -> Response:  # fmt: skip
    sent = {"origin": origin, "x-api-key": key, "access-control-request-method": "GET" if method == "OPTIONS" else None}
    headers = [(name.encode(), value.encode()) for name, value in sent.items() if value is not None]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    app = App(settings=SimpleNamespace(allowed_origins=allowed))
    return await serve(route, answer, Request(scope), app)  # type: ignore[arg-type]


async def test_a_browser_asks_without_a_key_and_is_told_what_it_may_send() -> None:
    response = await ask(CONSOLE)
    assert response.status_code == 204
    assert not response.body
    assert response.headers["access-control-allow-origin"] == CONSOLE
    assert {"X-API-Key", "Content-Type", "Idempotency-Key"} <= _words(response, "access-control-allow-headers")
    assert {"GET", "POST", "PATCH", "DELETE"} == _words(response, "access-control-allow-methods")
    assert response.headers["vary"] == "Origin"


async def test_an_answer_can_be_read_by_the_page_that_asked() -> None:
    response = await ask(CONSOLE, "https://other.example", method="GET", key="secret")
    assert (response.status_code, response.body) == (200, b'{"tenant":"default"}')
    assert response.headers["access-control-allow-origin"] == CONSOLE
    assert "X-Request-Id" in _words(response, "access-control-expose-headers")
    assert "access-control-allow-credentials" not in response.headers


async def test_a_refusal_can_be_read_too() -> None:
    response = await ask(CONSOLE, method="GET", key="wrong")
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == CONSOLE


@pytest.mark.parametrize("allowed", [(), ("https://other.example",), ("http://console.example",)])
@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
async def test_an_origin_that_is_not_allowed_finds_no_permission(allowed: tuple[str, ...], method: str) -> None:
    response = await ask(*allowed, method=method, key="secret")
    assert response.status_code == {"OPTIONS": 204, "GET": 200}[method]
    assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_caches_are_told_that_the_origin_decides_also_where_it_is_refused() -> None:
    assert (await ask(CONSOLE, origin="https://other.example")).headers["vary"] == "Origin"
    assert (await ask(CONSOLE, origin=None, method="GET", key="secret")).headers["vary"] == "Origin"
    assert "vary" not in (await ask("*")).headers


async def test_a_star_allows_every_origin() -> None:
    assert (await ask("*")).headers["access-control-allow-origin"] == "*"


async def test_a_caller_that_is_no_browser_sees_none_of_it() -> None:
    response = await ask(CONSOLE, "*", origin=None, method="GET", key="secret")
    assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_a_path_that_is_not_the_functions_is_404_for_a_browser_too() -> None:
    assert (await ask(CONSOLE, path="/v1/other")).status_code == 404


async def test_no_browser_calls_what_cloud_tasks_calls() -> None:
    assert (await ask("*", path="/", route=STEP)).status_code == 405


def _words(response: Response, header: str) -> set[str]:
    return set(response.headers[header].split(", "))
