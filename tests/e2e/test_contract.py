"""The contract, example by example: every request, program and dialogue of docs/api-reference.md, as printed there.

A printed address, key and id stand for this stack's; nothing else is changed.
"""

import json
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import Client as Firestore
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from sdk.python.errors import NotFound

ROOT = Path(__file__).parents[2]
BLOCKS = re.MULTILINE | re.DOTALL
CONTRACT = (ROOT / "docs" / "api-reference.md").read_text(encoding="utf-8")
PRINTED_URL, PRINTED_KEY, PRINTED_ID = "http://localhost:8080", "your-api-key", "ws-test-developer-123"
PATIENCE_S = 60.0


def section(title: str, level: str = "##") -> str:
    """What stands below a heading, up to the next of the same level or above."""
    found = re.search(
        rf"^{level} {re.escape(title)}\n(.*?)(?=^#{{2,{len(level)}}} |\Z)", CONTRACT, re.MULTILINE | re.DOTALL
    )
    assert found, title
    return found[1]


def block(title: str, kind: str, level: str = "###") -> str:
    found = re.search(rf"```{kind}\n(.*?)```", section(title, level), re.DOTALL)
    assert found, title
    return found[1]


def printed_requests() -> dict[str, str]:
    """The requests of the two APIs, by heading: "Legacy: Execute Command" where both have one of that name."""
    found: dict[str, str] = {}
    for chapter in ("Unified Sessions API (`/v1/sessions/*`)", "Legacy Cloud Run API (`/v1/cloudrun/*`)"):
        for title, request in re.findall(r"^### (.*?)\n```http\n(.*?)```", section(chapter), BLOCKS):
            found[f"{chapter.split()[0]}: {title}"] = request
    return found


REQUESTS = printed_requests()


class Printed:
    """Sends a request as it is printed, to this stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def send(self, title: str, session_id: str = "", **changes: Any) -> httpx.Response:
        """`changes` go into the body: for a choice that the contract leaves open."""
        head, _, body = REQUESTS[title].partition("\n\n")
        first, *lines = head.strip().splitlines()
        method, target = first.split(" ", 1)
        target = re.sub(r"\{(session|workspace)_id\}", session_id, target)
        path, _, query = target.partition("?")
        headers = dict(line.split(": ", 1) for line in lines)
        assert headers["X-API-Key"] == PRINTED_KEY
        return httpx.request(
            method,
            self._stack.base_url + path,
            params=dict(pair.split("=", 1) for pair in query.split("&")) if query else None,
            headers={**headers, "X-API-Key": self._stack.api_key},
            json={**json.loads(body), **changes} if body.strip() else None,
            timeout=PATIENCE_S,
        )


@pytest.fixture
def printed(stack: Stack) -> Printed:
    return Printed(stack)


@pytest.fixture
def client(stack: Stack) -> Iterator[OnMemOSClient]:
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        yield client


@pytest.fixture
def session(client: OnMemOSClient) -> Iterator[Any]:
    session = client.create_session({"template": "python", "namespace": "test", "user": "developer"})
    yield session
    try:
        client.delete_session(session["id"])
    except NotFound:
        return


def here(text: str, stack: Stack, session_id: str = PRINTED_ID) -> str:
    """A printed command or program, for this stack."""
    text = text.replace(PRINTED_URL, stack.base_url).replace(PRINTED_KEY, stack.api_key)
    return text.replace(PRINTED_URL.replace("http", "ws"), stack.base_url.replace("http", "ws")).replace(
        PRINTED_ID, session_id
    )


def fits(seen: Any, shown: Any) -> bool:
    """Whether an answer has every field that is shown, with a value of the same kind."""
    if isinstance(shown, dict):
        return isinstance(seen, dict) and all(name in seen and fits(seen[name], shown[name]) for name in shown)
    return type(seen) is type(shown)


SESSION_RESPONSE = json.loads(block("Session Response", "json"))
EXECUTION_RESPONSE = json.loads(block("Command Execution Response", "json"))
ERROR_RESPONSE = json.loads(block("Error Response", "json"))


def test_every_printed_request_is_one_that_a_test_here_sends() -> None:
    assert list(REQUESTS) == [
        "Unified: Create Session",
        "Unified: Get Session",
        "Unified: Execute Command",
        "Unified: Delete Session",
        "Unified: Get Connection Info",
        "Legacy: Create Workspace",
        "Legacy: List Workspaces",
        "Legacy: Get Workspace",
        "Legacy: Execute Command",
        "Legacy: Run Python",
        "Legacy: Run Shell",
        "Legacy: Delete Workspace",
        "Legacy: WebSocket Shell",
    ]


def test_the_unified_requests(printed: Printed) -> None:
    created = printed.send("Unified: Create Session", provider="auto")
    assert created.status_code == 201, created.text
    assert fits(created.json(), SESSION_RESPONSE)
    assert created.json()["status"] == "running"
    session_id = created.json()["id"]
    assert re.fullmatch(r"ws-my-project-developer-\d{10}(-\w{4})?", session_id)
    seen = printed.send("Unified: Get Session", session_id)
    assert (seen.status_code, seen.json()) == (200, created.json())
    executed = printed.send("Unified: Execute Command", session_id)
    assert executed.status_code == 200
    assert fits(executed.json(), EXECUTION_RESPONSE)
    assert executed.json()["stdout"].startswith("total")
    connection = printed.send("Unified: Get Connection Info", session_id)
    assert connection.status_code == 200
    assert set(connection.json()) == {"url", "websocket", "ticket", "expires_at", "ssh"}
    deleted = printed.send("Unified: Delete Session", session_id)
    assert (deleted.status_code, deleted.json()["success"]) == (200, True)
    gone = printed.send("Unified: Get Session", session_id)
    assert (gone.status_code, gone.json()["detail"]) == (404, ERROR_RESPONSE["detail"])


def test_each_provider_of_the_printed_list_is_known(printed: Printed) -> None:
    body = json.loads(REQUESTS["Unified: Create Session"].partition("\n\n")[2])
    providers = body["provider"].split("|")
    assert providers == ["auto", "cloud_run", "gke", "workstations"]
    for provider in providers[1:]:
        created = printed.send("Unified: Create Session", provider=provider)
        assert (created.status_code, created.json()["provider"]) == (201, provider)
        printed.send("Unified: Delete Session", created.json()["id"])


def test_the_legacy_requests(printed: Printed, client: OnMemOSClient) -> None:
    created = printed.send("Legacy: Create Workspace")
    assert created.status_code == 201, created.text
    assert fits(created.json(), SESSION_RESPONSE)
    assert created.json()["provider"] == "cloud_run"
    workspace_id = created.json()["id"]
    listed = printed.send("Legacy: List Workspaces").json()["workspaces"]
    assert created.json() in listed
    assert {(one["namespace"], one["user"]) for one in listed} == {("my-project", "developer")}
    assert printed.send("Legacy: Get Workspace", workspace_id).json() == created.json()
    assert client.get_session(workspace_id) == created.json()  # one session, two APIs
    executed = printed.send("Legacy: Execute Command", workspace_id)
    assert executed.status_code == 200
    assert fits(executed.json(), EXECUTION_RESPONSE)
    assert executed.json()["stdout"] == "/workspace\n"
    python = printed.send("Legacy: Run Python", workspace_id)
    assert (python.status_code, python.json()["stdout"]) == (200, "Hello World\n")
    shell = printed.send("Legacy: Run Shell", workspace_id)
    assert shell.json()["stdout"].startswith("total")
    deleted = printed.send("Legacy: Delete Workspace", workspace_id)
    assert (deleted.status_code, deleted.json()["success"]) == (200, True)
    for title in ("Get Workspace", "Execute Command", "Run Python", "Run Shell", "Delete Workspace"):
        gone = printed.send(f"Legacy: {title}", workspace_id)
        assert (gone.status_code, gone.json()["detail"]) == (404, "Session not found"), title


def test_the_health_check(stack: Stack) -> None:
    (line,) = re.findall(r"```http\n(.*?)\n```", section("Health Check"), re.DOTALL)
    assert line == "GET /health"
    assert httpx.get(f"{stack.base_url}/health").json()["status"] == "healthy"


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("Create Cloud Run Session", {"status": "running", "provider": "cloud_run"}),
        ("Create GKE Session", {"status": "running", "provider": "gke"}),
        ("Execute Command", {"success": True, "returncode": 0}),
        ("Delete Session", {"success": True}),
    ],
)
def test_the_curl_lines(stack: Stack, session: Any, client: OnMemOSClient, title: str, wanted: dict[str, Any]) -> None:
    (found,) = re.findall(rf"^### {title}\n```bash\n(.*?)```", section("cURL Examples"), BLOCKS)
    words = shlex.split(here(found, stack, session["id"]).replace("\\\n", " "))
    done = subprocess.run([*words, "-sS"], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    answer = json.loads(done.stdout)
    assert {name: answer.get(name) for name in wanted} == wanted
    if title == "Execute Command":
        assert answer["stdout"].startswith("Python 3")
    if answer.get("status") == "running":
        client.delete_session(answer["id"])


@pytest.mark.parametrize(("title", "line"), [("Basic Usage", "Python 3"), ("Context Manager", "Hello from OnMemOS!")])
def test_the_python_programs(stack: Stack, title: str, line: str) -> None:
    (found,) = re.findall(
        rf"^### {title}\n```python\n(.*?)```", section("Python SDK Examples"), re.MULTILINE | re.DOTALL
    )
    done = subprocess.run(
        [sys.executable, "-c", here(found, stack)], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    assert line in done.stdout


def shell_url(stack: Stack, session_id: str) -> str:
    (url,) = re.findall(r"new WebSocket\('(.*?)'\)", block("Connect", "javascript"))
    return here(url, stack, session_id)


def test_the_websocket_dialogue(stack: Stack, session: Any) -> None:
    command = re.search(r"type: '(\w+)',\s*command: '(.*?)'", block("Send Command", "javascript"))
    assert command
    with connect(shell_url(stack, session["id"])) as shell:
        assert json.loads(shell.recv(PATIENCE_S))["type"] == "welcome"
        shell.send(json.dumps({"type": command[1], "command": command[2]}))
        data = json.loads(shell.recv(PATIENCE_S))
        receiver = block("Receive Response", "javascript")
        assert data["type"] == re.search(r"data.type === '(\w+)'", receiver)[1]  # type: ignore[index]
        for name in re.findall(r"data\.(\w+)\)", receiver):
            assert name in data
        assert data["stdout"].startswith("total")
        assert (data["stderr"], data["returncode"], data["success"]) == ("", 0, True)
        shell.send(json.dumps({"type": "ping"}))
        assert json.loads(shell.recv(PATIENCE_S))["type"] == "pong"


def test_the_shell_keeps_its_state_over_the_commands_of_a_connection(stack: Stack, session: Any) -> None:
    def run(shell: Any, command: str) -> Any:
        shell.send(json.dumps({"type": "command", "command": command}))
        return json.loads(shell.recv(PATIENCE_S))

    url = f"{stack.base_url.replace('http', 'ws')}/v1/sessions/{session['id']}/shell?api_key={stack.api_key}"
    with connect(url) as one, connect(url) as other:
        for shell in (one, other):
            assert json.loads(shell.recv(PATIENCE_S))["type"] == "welcome"
        run(one, "cd /tmp; export A=1; f() { echo f of $1; }")
        assert run(one, "pwd; echo $A; f x")["stdout"] == "/tmp\n1\nf of x\n"
        assert run(other, "pwd; echo ${A:-none}")["stdout"] == "/workspace\nnone\n"
        one.send("not JSON")
        assert json.loads(one.recv(PATIENCE_S))["type"] == "error"
        assert run(one, "pwd")["stdout"] == "/tmp\n"
        assert run(one, "echo no >&2; (exit 7)") | {"duration_ms": 0, "cwd": ""} == {
            "type": "command_result", "stdout": "", "stderr": "no\n", "returncode": 7, "success": False,
            "timed_out": False, "truncated": False, "duration_ms": 0, "cwd": "",
        }  # fmt: skip


def closed_with(url: str, **headers: str) -> int | None:
    """The code that a connection is closed with before it has said anything."""
    with connect(url, additional_headers=headers) as shell, pytest.raises(ConnectionClosed) as closed:
        shell.recv(PATIENCE_S)
    return closed.value.rcvd.code if closed.value.rcvd else None


def test_the_shell_opens_to_a_key_in_a_header_and_once_to_a_ticket(
    stack: Stack, session: Any, printed: Printed
) -> None:
    plain = f"{stack.base_url.replace('http', 'ws')}/v1/sessions/{session['id']}/shell"
    with connect(plain, additional_headers={"X-API-Key": stack.api_key}) as shell:
        assert json.loads(shell.recv(PATIENCE_S))["session_id"] == session["id"]
    ticket = printed.send("Unified: Get Connection Info", session["id"]).json()["ticket"]
    with connect(f"{plain}?ticket={ticket}") as shell:
        assert json.loads(shell.recv(PATIENCE_S))["type"] == "welcome"
    assert closed_with(f"{plain}?ticket={ticket}") == 4401
    assert closed_with(plain, **{"X-OnMemOS-Ticket": ticket}) == 4401


def test_the_shell_says_why_it_does_not_open(stack: Stack, session: Any) -> None:
    plain = shell_url(stack, session["id"]).partition("?")[0]
    assert closed_with(plain) == 4401
    assert closed_with(f"{plain}?api_key=wrong") == 4401
    assert closed_with(shell_url(stack, "ws-nobody-x-1756062811")) == 4404


def test_a_shell_whose_session_ends_is_told_so(stack: Stack, session: Any, client: OnMemOSClient) -> None:
    with connect(shell_url(stack, session["id"])) as shell:
        assert json.loads(shell.recv(PATIENCE_S))["type"] == "welcome"
        client.delete_session(session["id"])
        said = json.loads(shell.recv(PATIENCE_S))
        assert (said["type"], said["status"]) == ("status", "deleted")
        with pytest.raises(ConnectionClosed) as closed:
            shell.recv(PATIENCE_S)
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 4410


def test_the_status_codes(stack: Stack, session: Any, printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    printed_codes = {int(code) for code in re.findall(r"- `(\d{3}) ", section("Status Codes"))}
    key = {"X-API-Key": stack.api_key}
    sessions = f"{stack.base_url}/v1/sessions"
    broken = f"ws-broken-{uuid.uuid4().hex[:6]}-1756062811"
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", stack.environment["FIRESTORE_EMULATOR_HOST"])
    firestore = Firestore(project=stack.environment["GOOGLE_CLOUD_PROJECT"], credentials=AnonymousCredentials())
    document = firestore.collection("sessions").document(broken)
    document.set({"tenant": "default"})  # a document that we would never write
    created = printed.send("Unified: Create Session", provider="auto")
    printed.send("Unified: Delete Session", created.json()["id"])
    answers = {
        200: httpx.get(f"{sessions}/{session['id']}", headers=key),
        201: created,
        400: httpx.post(sessions, headers=key, json={"template": "python"}),
        401: httpx.get(sessions),
        404: httpx.get(f"{sessions}/{PRINTED_ID}", headers=key),
        500: httpx.get(f"{sessions}/{broken}", headers=key),
    }
    document.delete()
    assert set(answers) == printed_codes
    assert {code: answer.status_code for code, answer in answers.items()} == {code: code for code in answers}
    for code, answer in answers.items():
        if code >= 400:
            assert fits(answer.json(), ERROR_RESPONSE)
    assert "Traceback" not in answers[500].text
