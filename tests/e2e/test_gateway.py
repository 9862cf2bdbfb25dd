"""The gateway in the running stack: what it lets through, and what a workspace's own URL gives."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient


@pytest.fixture
def session(stack: Stack) -> Iterator[Any]:
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        session = client.create_session(template="python", namespace="gateway", user="dev")
        yield session
        client.delete_session(session["id"])


def test_what_the_api_does_not_define_is_refused_as_api_gateway_does(stack: Stack) -> None:
    unknown = httpx.get(f"{stack.base_url}/v2/sessions")
    assert (unknown.status_code, unknown.json()["code"]) == (404, 404)
    method = httpx.put(f"{stack.base_url}/v1/sessions/ws-1")
    assert (method.status_code, method.json()["code"]) == (405, 405)
    assert "/v1/sessions/{session_id}" in method.json()["message"]


def test_a_workspace_is_reached_at_its_own_url(session: Any) -> None:
    answer = httpx.get(f"{session['url']}/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_the_url_of_a_session_that_is_gone_says_that_nothing_was_sent(stack: Stack) -> None:
    answer = httpx.post(f"{stack.base_url}/run/onmemos-ws-nobody-1/v1/execute", json={"command": "id"})
    assert (answer.status_code, answer.json()["code"]) == (503, "workspace_unreachable")


def test_a_function_answers_at_its_own_address_too(stack: Stack) -> None:
    url = stack.environment["ONMEMOS_FUNCTION_URL"]
    assert httpx.get(f"{url.format(function='health')}/health").json()["status"] == "healthy"
    listed = httpx.get(f"{url.format(function='list_sessions')}/v1/sessions", headers={"X-API-Key": stack.api_key})
    assert listed.status_code == 200
