"""The agent's HTTP face: who may come in, and what is refused with which words."""

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.contract.agent.rig import KEY, NO_TLS, SESSION, Agent, Client, claims, running, settings, start, ticket


async def test_health_is_open_and_names_this_process(client: Client) -> None:
    first, second = await client.http.get("/health"), await client.http.get("/health")
    assert first.status_code == 200
    assert first.json()["status"] == "ok"
    assert len(first.json()["boot_id"]) == 32
    assert first.json()["boot_id"] == second.json()["boot_id"]
    assert first.json()["idle_s"] >= 0
    assert first.headers["X-Boot-Id"] == first.json()["boot_id"]
    assert (await client.http.head("/health")).status_code == 200


async def test_a_web_socket_by_http_is_told_to_upgrade(client: Client) -> None:
    for path in ("/v1/shell", "/v1/terminal"):
        answer = await client.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
        assert answer.headers["Upgrade"] == "websocket"


async def test_every_answer_carries_the_boot_id(client: Client) -> None:
    boot_id = (await client.http.get("/health")).json()["boot_id"]
    answers = [await client.post(command="true"), await client.post(), await client.http.get("/nowhere")]
    assert [answer.headers["X-Boot-Id"] for answer in answers] == [boot_id] * 3


async def test_unknown_paths_and_methods_are_refused(client: Client) -> None:
    unknown, wrong = await client.http.get("/v2"), await client.http.get("/v1/execute")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["Allow"]) == (405, "method_not_allowed", "POST")


@pytest.mark.parametrize(
    "made",
    [
        lambda: "nonsense",
        lambda: "a.b.c",
        lambda: ticket(aud="ws-another"),
        lambda: ticket(aud=[SESSION, "ws-another"]),
        lambda: ticket(iss="somebody"),
        lambda: ticket(exp=int(time.time()) - 30),
        lambda: ticket(exp=None),
        lambda: ticket(iat=int(time.time()) + 60),
        lambda: ticket(sub=None),
        lambda: ticket(jti=None),
        lambda: ticket(kid="unknown"),
        lambda: ticket(kid=None),
        lambda: ticket(key=Ed25519PrivateKey.generate()),
        lambda: jwt.encode(claims(), "", "none", headers={"kid": "k1"}),
        lambda: jwt.encode(claims(), KEY.public_key().public_bytes_raw().ljust(64), "HS256", headers={"kid": "k1"}),
    ],
)
async def test_only_a_valid_ticket_of_this_session_opens_it(
    client: Client, agent: Agent, made: Callable[[], str]
) -> None:
    response = await client.http.post(
        "/v1/execute", json={"command": "touch entered"}, headers={"Authorization": f"Bearer {made()}"}
    )
    assert response.status_code == 401
    assert response.json()["code"] == "bad_ticket"
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert not (agent.folder / "entered").exists()


async def test_without_a_header_nothing_opens(client: Client) -> None:
    response = await client.http.post("/v1/execute", json={"command": "true"})
    assert response.status_code == 401
    assert "Authorization: Bearer" in response.json()["detail"]


async def test_clocks_may_be_five_seconds_apart(client: Client) -> None:
    now = int(time.time())
    for token in (ticket(exp=now - 2), ticket(iat=now + 3)):
        response = await client.http.post(
            "/v1/execute", json={"command": "true"}, headers={"Authorization": f"bearer {token}"}
        )
        assert response.status_code == 200


async def test_our_own_header_wins_over_authorization(client: Client) -> None:
    headers = {"Authorization": "Bearer a-token-of-google", "X-OnMemOS-Ticket": ticket()}
    response = await client.http.post("/v1/execute", json={"command": "true"}, headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 100_000, b"\xff"])
async def test_a_body_that_is_no_json_object_is_a_bad_request(client: Client, body: bytes) -> None:
    response = await client.http.post("/v1/execute", content=body, headers={"Authorization": f"Bearer {ticket()}"})
    assert response.status_code == 400
    assert response.json()["code"] == "bad_request"


async def test_a_body_above_the_limit_is_refused_and_not_kept(client: Client, agent: Agent) -> None:
    body = json.dumps({"command": "cat", "stdin": "x" * 60_000_000}).encode()
    response = await client.http.post("/v1/execute", content=body, headers={"Authorization": f"Bearer {ticket()}"})
    assert response.status_code == 400
    assert "33554432 bytes" in response.json()["detail"]
    assert agent.resident_mb() < 130


async def test_wrong_fields_are_all_named_at_once(client: Client) -> None:
    response = await client.post(argv=[], timeout=0, comand="x")
    assert response.status_code == 400
    assert response.json()["errors"].keys() == {"argv", "timeout", "comand"}


def test_on_a_tcp_port_as_in_cloud_run(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = settings(tmp_path, tmp_path / "unused.sock") | {"PORT": str(port), "K_SERVICE": "s"}
    del environment["ONMEMOS_AGENT_SOCKET"]
    process = start(environment)
    try:
        with httpx.Client(
            transport=httpx.HTTPTransport(retries=8, verify=NO_TLS), base_url=f"http://127.0.0.1:{port}", timeout=10
        ) as http:
            assert http.get("/health").json()["status"] == "ok"
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_a_wrong_environment_is_named_and_exits_2(tmp_path: Path) -> None:
    environment = settings(tmp_path, tmp_path / "s") | {"ONMEMOS_TICKET_KEYS": "{}"}
    process = start(environment)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 2
    assert b"ONMEMOS_TICKET_KEYS" in stderr


def test_a_work_folder_that_is_missing_is_named_and_exits_1(tmp_path: Path) -> None:
    process = start(settings(tmp_path / "missing", tmp_path / "s"))
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 1
    assert str(tmp_path / "missing").encode() in stderr


def test_the_socket_of_a_dead_agent_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        first.process.kill()
        first.process.wait()
        assert first.socket.exists()
        second = start(settings(tmp_path, first.socket))
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(first.socket), retries=8, verify=NO_TLS)) as http:
                assert http.get("http://agent/health").status_code == 200
        finally:
            second.terminate()
            assert second.wait(10) == 0
            assert not first.socket.exists()


def test_the_agent_can_be_imported_without_the_project() -> None:
    agents = Path(__file__).parents[3] / "infra" / "workspace" / "agent"
    found = subprocess.run(["grep", "-rnE", "^(from|import) (infra|shared)", str(agents)], capture_output=True)
    assert found.stdout == b""
