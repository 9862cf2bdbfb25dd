"""The functions in Firebase's emulators are the stack's: the same answers, on the same documents."""

import secrets
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from tests.contract.agent.rig import NO_TLS
from tests.firebase.rig import PROJECT, Firebase

TIMEOUT_S = 60.0  # the first call of a function starts its process


def called(
    firebase: Firebase, function: str, method: str, path: str, key: str = "", body: Any = None
) -> httpx.Response:
    headers = {"X-API-Key": key} if key else {}
    url = firebase.url(function, path)
    return httpx.request(method, url, headers=headers, json=body, verify=NO_TLS, timeout=TIMEOUT_S)


def through_gateway(stack: Stack, path: str, key: str) -> httpx.Response:
    return httpx.get(f"{stack.base_url}{path}", headers={"X-API-Key": key}, verify=NO_TLS, timeout=TIMEOUT_S)


def test_health_is_open(firebase: Firebase, stack: Stack) -> None:
    answer = called(firebase, "health", "GET", "/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")


def test_nothing_else_is(firebase: Firebase, stack: Stack) -> None:
    assert called(firebase, "list_sessions", "GET", "/v1/sessions").status_code == 401
    assert called(firebase, "expire_session", "POST", "/", body={}).status_code in {401, 403}


def test_a_key_that_one_function_made_opens_another_and_the_gateway(firebase: Firebase, stack: Stack) -> None:
    wanted = {"name": f"k{secrets.token_hex(4)}", "scopes": ["sessions"]}
    made = called(firebase, "create_key", "POST", "/v1/keys", stack.api_key, wanted)
    assert made.status_code == 201
    secret = made.json()["key"]
    assert called(firebase, "list_sessions", "GET", "/v1/sessions", secret).status_code == 200
    assert through_gateway(stack, "/v1/sessions", secret).status_code == 200


def test_a_session_runs_a_command_and_goes(firebase: Firebase, stack: Stack) -> None:
    spec = {"namespace": "firebase", "user": "tester", "template": "base"}
    made = called(firebase, "create_session", "POST", "/v1/sessions", stack.api_key, spec)
    assert made.status_code in {200, 201}, made.text
    path = f"/v1/sessions/{made.json()['id']}"
    ran = called(firebase, "execute_session", "POST", f"{path}/execute", stack.api_key, {"command": "echo $NAMESPACE"})
    assert ran.json()["stdout"] == "firebase\n"
    assert through_gateway(stack, path, stack.api_key).json()["status"] == "running"
    assert called(firebase, "delete_session", "DELETE", path, stack.api_key).is_success
    assert called(firebase, "get_session", "GET", path, stack.api_key).status_code == 404


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0."}])
def test_no_user_of_firebase_reads_a_document(firebase: Firebase, headers: dict[str, str]) -> None:
    for collection in ("sessions", "keys", "anything"):
        url = f"http://{firebase.firestore}/v1/projects/{PROJECT}/databases/(default)/documents/{collection}"
        for method, body in (("GET", None), ("POST", {"fields": {}})):
            answer = httpx.request(method, url, headers=headers, json=body, verify=NO_TLS, timeout=TIMEOUT_S)
            assert answer.status_code == 403
