"""The contract's calls over real HTTP."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import sdk.python as onmemos
from tests.contract.sdk.conftest import Face
from tests.contract.sdk.service import KEY, Stack


def test_a_session_is_created_used_and_deleted(client: Face, stack: Stack) -> None:
    assert client("health") == {"status": "ok"}
    session = client("create_session", {"template": "python", "namespace": "my-project", "user": "developer"})
    assert client("get_session", session["id"])["namespace"] == "my-project"
    result = client("execute_session", session["id"], "python --version")
    assert result == {"stdout": "hi\n" * 1000, "stderr": "", "returncode": 0, "success": True}
    assert client("delete_session", session["id"])["status"] == "deleting"
    with pytest.raises(onmemos.NotFound):
        client("get_session", session["id"])
    assert stack.wire.connections == 1


def test_a_creation_says_how_long_it_waits(client: Face) -> None:
    assert client("create_session", template="python")["wait"] is None
    assert client("create_session", template="python", wait=0)["wait"] == "0"
    assert client("create_session", template="python", wait=2.5)["wait"] == "2.5"


def test_a_wrong_key_is_unauthorized(kind: str, stack: Stack) -> None:
    client = Face(kind, stack.url, api_key="wrong")
    with pytest.raises(onmemos.Unauthorized, match=r"401 unauthenticated: X-API-Key: wrong \(request r-42\)"):
        client("create_session", template="python")
    client.close()


def test_a_bad_request_names_its_fields(client: Face) -> None:
    with pytest.raises(onmemos.BadRequest) as caught:
        client("create_session", namespace="n")
    assert caught.value.errors == {"template": ["missing"]}
    assert caught.value.request_id == "r-42"


def test_all_pages_are_read(client: Face, stack: Stack) -> None:
    for n in range(7):
        stack.service.sessions[f"ws-{n}"] = {"id": f"ws-{n}"}
    assert [session["id"] for session in client("iter_sessions", page_size=3)] == [f"ws-{n}" for n in range(7)]
    assert stack.wire.requests == 3


def test_the_same_key_gives_the_same_session(client: Face) -> None:
    first = client("create_session", template="python", idempotency_key="mine")
    assert client("create_session", template="python", idempotency_key="mine")["id"] == first["id"]


def test_one_blocking_client_serves_many_threads(stack: Stack) -> None:
    start = threading.Barrier(8)

    def work(n: int) -> None:
        start.wait(5)
        for step in range(5):
            client.execute_session("ws-0", f"{n}.{step}")

    with onmemos.OnMemOSClient(stack.url, KEY, direct=False) as client, ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert sorted(stack.service.commands) == sorted(f"{n}.{step}" for n in range(8) for step in range(5))
