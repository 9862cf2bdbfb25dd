"""The gateway's and the functions host's routing, over functions that say how they were called."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as RelayRoute
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from infra.local.calls import Functions
from infra.local.functions_host import FunctionsHost
from infra.local.gateway import Gateway
from infra.local.workspaces import Workspaces
from shared.http import Access, Route


async def say(request: Request) -> Response:
    return JSONResponse({"path": request.scope["path"], "root": request.scope.get("root_path", "")})


async def hang(request: Request) -> Response:
    await asyncio.Event().wait()
    return Response()


ROUTES = {
    "list_things": Route("list_things", "GET", "/v1/things", Access.KEY, ""),
    "make_thing": Route("make_thing", "POST", "/v1/things", Access.KEY, ""),
    "get_thing": Route("get_thing", "GET", "/v1/things/{thing_id}", Access.KEY, ""),
    "count_things": Route("count_things", "GET", "/v1/things/count", Access.OPEN, ""),
    "slow_thing": Route("slow_thing", "GET", "/v1/slow", Access.OPEN, "", timeout_s=0),
    "later_thing": Route("later_thing", "POST", "/", Access.TASK, ""),
}


class RelayStandIn:
    """Says of what kind it was called, over HTTP and at a WebSocket's handshake."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"relayed": scope["type"]}, 418)(scope, receive, send)


RELAY = Starlette(
    routes=[
        RelayRoute("/v1/things/{thing_id}/agent/{path:path}", RelayStandIn()),
        WebSocketRoute("/v1/things/{thing_id}/shell", RelayStandIn()),
    ]
)
FUNCTIONS = Functions({name: hang if name == "slow_thing" else say for name in ROUTES}, ROUTES)


@pytest.fixture
def gateway(tmp_path: Path) -> httpx.AsyncClient:
    app = Gateway(ROUTES.values(), FUNCTIONS, Workspaces(tmp_path), RELAY)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


@pytest.fixture
def host() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(FunctionsHost(FUNCTIONS)), base_url="http://functions")


@pytest.mark.parametrize("path", ["/v1/things", "/v1/things/count", "/v1/things/ws-1"])
async def test_a_defined_route_reaches_its_function(gateway: httpx.AsyncClient, path: str) -> None:
    answer = await gateway.get(path)
    assert (answer.status_code, answer.json()["path"]) == (200, path)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/things/", "/v1/things/a/b", "/v1/thingsX", "/later_thing"])
async def test_an_unknown_path_is_refused_in_api_gateways_words(gateway: httpx.AsyncClient, path: str) -> None:
    answer = await gateway.post(path)
    assert answer.status_code == 404
    assert answer.json() == {"code": 404, "message": "The current request is not defined by this API."}


async def test_an_unknown_method_is_refused_in_api_gateways_words(gateway: httpx.AsyncClient) -> None:
    answer = await gateway.delete("/v1/things/ws-1")
    message = (
        'The current request is matched to the defined url template "/v1/things/{thing_id}" '
        "but its http method is not allowed"
    )
    assert (answer.status_code, answer.json()) == (405, {"code": 405, "message": message})


async def test_a_browsers_question_reaches_a_function_of_the_path(gateway: httpx.AsyncClient) -> None:
    answer = await gateway.options("/v1/things/ws-1")
    assert (answer.status_code, answer.json()["path"]) == (200, "/v1/things/ws-1")
    assert (await gateway.options("/v1/thingsX")).status_code == 404


async def test_fixed_words_go_before_parameters(gateway: httpx.AsyncClient) -> None:
    answer = await gateway.post("/v1/things/count")
    assert '"/v1/things/count"' in answer.json()["message"]


async def test_a_function_that_takes_too_long_is_cancelled_as_the_platform_does(gateway: httpx.AsyncClient) -> None:
    answer = await gateway.get("/v1/slow")
    assert (answer.status_code, answer.json()["message"]) == (504, "upstream request timeout")


async def handshake(gateway: Gateway, path: str) -> tuple[int, dict[str, Any]]:
    """The HTTP answer to a WebSocket's handshake that is refused."""
    scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await gateway(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    return sent[0]["status"], json.loads(sent[1]["body"])


async def test_the_relays_paths_reach_the_relay(tmp_path: Path) -> None:
    app = Gateway(ROUTES.values(), FUNCTIONS, Workspaces(tmp_path), RELAY)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        assert (await client.delete("/v1/things/1/agent/v1/execute")).json() == {"relayed": "http"}
    assert await handshake(app, "/v1/things/1/shell") == (418, {"relayed": "websocket"})


@pytest.mark.parametrize("path", ["/v1/things", "/v1/things/1", "/v1/things/1/agent/x", "/v2", "/"])
async def test_a_websocket_to_another_path_is_refused_in_api_gateways_words(tmp_path: Path, path: str) -> None:
    app = Gateway(ROUTES.values(), FUNCTIONS, Workspaces(tmp_path), RELAY)
    wanted = {"code": 404, "message": "The current request is not defined by this API."}
    assert await handshake(app, path) == (404, wanted)


async def test_the_path_of_a_websocket_is_unknown_to_http(gateway: httpx.AsyncClient) -> None:
    assert (await gateway.get("/v1/things/1/shell")).status_code == 404


async def test_functions_have_an_address_of_their_own(host: httpx.AsyncClient) -> None:
    assert (await host.post("/later_thing")).json() == {"path": "/later_thing", "root": "/later_thing"}
    assert (await host.get("/get_thing/v1/things/7")).json()["root"] == "/get_thing"
    assert (await host.get("/nothing")).status_code == 404
