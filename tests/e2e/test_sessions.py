"""A session's life through the gateway, as the SDK's user and as curl's user see it: real sandboxes, real emulators."""

import concurrent.futures
import json
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from sdk.python.errors import BadRequest, Conflict, NotFound, Unauthorized

CONTRACT_FIELDS = {"id", "provider", "namespace", "user", "status", "url", "websocket", "ssh", "details"}
ADDED_FIELDS = {
    "auto_resume",
    "created_at",
    "expires_at",
    "idle_timeout_minutes",
    "labels",
    "long_lived",
    "storage",
    "suspended_at",
    "template",
    "ttl_left_seconds",
}


@pytest.fixture
def client(stack: Stack) -> Iterator[OnMemOSClient]:
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        yield client


@pytest.fixture
def namespace() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def session(client: OnMemOSClient, namespace: str) -> Iterator[Any]:
    session = client.create_session({"template": "python", "namespace": namespace, "user": "dev"})
    yield session
    try:
        client.delete_session(session["id"])
    except NotFound:
        return


def test_the_contracts_python_example_runs(stack: Stack) -> None:
    client = OnMemOSClient(stack.base_url, stack.api_key)
    session = client.create_session({"template": "python", "namespace": "my-project", "user": "developer"})
    result = client.execute_session(session["id"], "python --version")
    assert result["stdout"].startswith("Python 3")
    assert (result["returncode"], result["success"]) == (0, True)
    client.delete_session(session["id"])
    with pytest.raises(NotFound, match="Session not found"):
        client.get_session(session["id"])


def test_the_contracts_curl_examples_run(stack: Stack) -> None:
    def curl(*words: str) -> Any:
        printed = subprocess.run(["curl", "-sS", *words], check=True, capture_output=True, text=True, timeout=60)
        return json.loads(printed.stdout)

    key, kind = ["-H", f"X-API-Key: {stack.api_key}"], ["-H", "Content-Type: application/json"]
    sessions = f"{stack.base_url}/v1/sessions"
    body = (
        '{"provider": "cloud_run", "template": "python", "namespace": "test", "user": "developer", "ttl_minutes": 30}'
    )
    session = curl("-X", "POST", sessions, *key, *kind, "-d", body)
    assert set(session) == CONTRACT_FIELDS | ADDED_FIELDS
    assert (session["provider"], session["status"], session["ssh"]) == ("cloud_run", "running", False)
    assert session["details"]["service_name"] == f"onmemos-{session['id']}"
    assert session["details"]["bucket_name"] == f"onmemos-{session['id'].removeprefix('ws-')}"
    one = f"{sessions}/{session['id']}"
    assert curl(one, *key) == session
    command = '{"command": "python --version", "timeout": 30}'
    result = curl("-X", "POST", f"{one}/execute", *key, *kind, "-d", command)
    assert result["stdout"].startswith("Python 3")
    assert curl("-X", "DELETE", one, *key)["success"] is True
    assert curl(one, *key) == {"detail": "Session not found", "code": "session_not_found"}
    assert curl(f"{stack.base_url}/health")["status"] == "healthy"


def test_work_stays_in_the_session_from_command_to_command(client: OnMemOSClient, session: Any) -> None:
    client.execute_session(session["id"], "echo kept > note.txt")
    assert client.execute_session(session["id"], "cat note.txt; pwd")["stdout"] == "kept\n/workspace\n"


def test_the_session_knows_itself(client: OnMemOSClient, session: Any, namespace: str) -> None:
    printed = client.execute_session(session["id"], "echo $WORKSPACE_ID $NAMESPACE $USER $BUCKET_NAME; id -u")["stdout"]
    assert printed == f"{session['id']} {namespace} dev {session['details']['bucket_name']}\n1000\n"


def test_a_command_that_fails_says_how(client: OnMemOSClient, session: Any) -> None:
    result = client.execute_session(session["id"], "echo out; echo err >&2; exit 3")
    assert (result["stdout"], result["stderr"]) == ("out\n", "err\n")
    assert (result["returncode"], result["success"]) == (3, False)


def test_a_command_whose_time_is_up_returns_what_it_printed(client: OnMemOSClient, session: Any) -> None:
    result = client.execute_session(session["id"], "echo before; sleep 60; echo after", timeout=0.5)
    assert (result["returncode"], result["timed_out"], result["stdout"]) == (124, True, "before\n")


def test_stdin_cwd_and_env_reach_the_command(client: OnMemOSClient, session: Any) -> None:
    result = client.execute_session(session["id"], "cat; pwd; echo $A", stdin="in\n", cwd="/tmp", env={"A": "x"})
    assert result["stdout"] == "in\n/tmp\nx\n"


def test_a_folder_that_is_not_there_is_the_callers_fault(client: OnMemOSClient, session: Any) -> None:
    with pytest.raises(BadRequest, match="nowhere"):
        client.execute_session(session["id"], "ls", cwd="nowhere")


def test_the_agent_opens_to_no_one_without_a_ticket(session: Any) -> None:
    answer = httpx.post(f"{session['url']}/v1/execute", json={"command": "id"})
    assert answer.status_code == 401


def test_sessions_are_isolated_from_each_other_and_the_host(
    client: OnMemOSClient, session: Any, namespace: str
) -> None:
    other = client.create_session({"namespace": namespace, "user": "other"})
    client.execute_session(session["id"], "echo secret > /workspace/mine; echo secret > /tmp/mine; sleep 300 &")
    seen = client.execute_session(
        other["id"], "ls /workspace /tmp; ps ax 2>/dev/null || ls /proc; ls /root /home 2>&1; cat /etc/shadow 2>&1"
    )
    assert "mine" not in seen["stdout"]
    assert "sleep" not in seen["stdout"]
    assert "root:" not in seen["stdout"]
    client.delete_session(other["id"])


def test_a_closed_network_is_closed(client: OnMemOSClient, namespace: str) -> None:
    session = client.create_session({"namespace": namespace, "user": "closed", "network": {"egress": False}})
    assert session["details"]["egress"] == "none"
    program = "import socket; socket.create_connection(('1.1.1.1', 53), 2)"
    result = client.execute_session(session["id"], argv=["python3", "-c", program])
    assert "Network is unreachable" in result["stderr"]
    client.delete_session(session["id"])


def test_the_hosts_loopback_is_out_of_reach(client: OnMemOSClient, session: Any, stack: Stack) -> None:
    port = httpx.URL(stack.base_url).port
    program = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
    result = client.execute_session(session["id"], argv=["python3", "-c", program])
    assert "Connection refused" in result["stderr"]


def test_create_without_waiting_and_execute_that_waits(client: OnMemOSClient, namespace: str) -> None:
    session = client.create_session({"namespace": namespace, "user": "quick"}, wait=0)
    assert session["status"] == "provisioning"
    assert session["url"] is None
    assert client.execute_session(session["id"], "echo ready")["stdout"] == "ready\n"
    assert client.get_session(session["id"])["status"] == "running"
    client.delete_session(session["id"])


def test_an_idempotency_key_makes_one_session(client: OnMemOSClient, namespace: str) -> None:
    key, spec = uuid.uuid4().hex, {"namespace": namespace, "user": "dev"}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: client.create_session(spec, idempotency_key=key), range(4)))
    assert len({session["id"] for session in made}) == 1
    with pytest.raises(Conflict):
        client.create_session({**spec, "user": "other"}, idempotency_key=key)
    client.delete_session(made[0]["id"])
    with pytest.raises(Conflict, match="gone"):
        client.create_session(spec, idempotency_key=key)


def test_listing_pages_through_what_matches_newest_first(client: OnMemOSClient, namespace: str) -> None:
    made = [
        client.create_session({"namespace": namespace, "user": f"u{n}", "labels": {"team": "x" if n else "y"}}, wait=0)
        for n in range(3)
    ]
    listed = list(client.iter_sessions(namespace=namespace, page_size=2))
    assert [session["id"] for session in listed] == [session["id"] for session in reversed(made)]
    assert [session["user"] for session in client.iter_sessions(namespace=namespace, label="team=y")] == ["u0"]
    assert list(client.iter_sessions(namespace=namespace, status="failed")) == []
    for session in made:
        client.delete_session(session["id"])
    assert list(client.iter_sessions(namespace=namespace)) == []


@pytest.mark.parametrize(
    ("body", "field", "wanted"),
    [
        ({"template": "cobol"}, "template", "got 'cobol', wanted one of base, python, nodejs, go"),
        ({"ttl_minutes": 0}, "ttl_minutes", "got 0, wanted an integer from 1 to 43,200"),
        ({"user": "a/b"}, "user", 'got "a/b"'),
        ({"colour": "red"}, "colour", "unknown field"),
        (
            {"provider": "cloud_run", "resources": {"cpu": 3}},
            "resources.cpu",
            "got 3, wanted one of 1, 2, 4, 6, 8 on cloud_run",
        ),
        ({"provider": "gke", "needs_ssh": True}, "needs_ssh", "got true, wanted false: gke offers no SSH"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_made(
    client: OnMemOSClient, namespace: str, body: dict[str, Any], field: str, wanted: str
) -> None:
    with pytest.raises(BadRequest, match=field) as refusal:
        client.create_session({"namespace": namespace, "user": "dev", **body})
    assert wanted in refusal.value.errors[field][0]
    assert list(client.iter_sessions(namespace=namespace)) == []


@pytest.mark.parametrize("key", ["", "wrong-key"])
def test_without_the_key_nothing_opens(stack: Stack, key: str) -> None:
    for method, path in (("GET", "/v1/sessions"), ("POST", "/v1/sessions"), ("DELETE", "/v1/sessions/ws-x")):
        answer = httpx.request(method, stack.base_url + path, headers={"X-API-Key": key})
        assert answer.status_code == 401
    with pytest.raises(Unauthorized):
        OnMemOSClient(stack.base_url, key or "none", retries=0).list_sessions()


def test_a_task_function_takes_no_call_but_cloud_tasks(stack: Stack) -> None:
    url = stack.environment["ONMEMOS_FUNCTION_URL"].format(function="teardown_session")
    answer = httpx.post(url, json={"session_id": "ws-x"})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert httpx.post(f"{stack.base_url}/teardown_session", json={}).status_code == 404


def test_pip_installs_in_a_session_that_has_a_way_out(client: OnMemOSClient, session: Any) -> None:
    if session["details"]["egress"] == "none":
        pytest.skip("this machine gives sessions no egress")
    installed = client.execute_session(
        session["id"], "pip install --quiet --target lib six && PYTHONPATH=lib python -c 'import six; print(six)'", 120
    )
    assert installed["returncode"] == 0, installed["stderr"]
    assert "/workspace/" in installed["stdout"]
