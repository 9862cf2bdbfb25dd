"""API keys through the running stack: made by an admin, shown once, bounded by scope, namespace, tenant and time."""

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import Client as Firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import main as _  # noqa: F401  # fills the route table
from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from sdk.python.errors import BadRequest, Forbidden, NotFound, Unauthorized
from shared.http import ROUTES, Access


@pytest.fixture
def admin(stack: Stack) -> Iterator[OnMemOSClient]:
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        yield client


@pytest.fixture
def tenant() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


Holding = Callable[[str], OnMemOSClient]


@pytest.fixture
def holding(stack: Stack) -> Iterator[Holding]:
    """Clients by the secret that they hold."""
    clients: list[OnMemOSClient] = []

    def client(secret: str) -> OnMemOSClient:
        clients.append(OnMemOSClient(stack.base_url, secret, retries=0))
        return clients[-1]

    yield client
    for one in clients:
        one.close()


def test_a_key_is_shown_once_listed_and_revoked(
    admin: OnMemOSClient, tenant: str, holding: Holding, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = admin.create_key("ci", tenant=tenant)
    assert (created["name"], created["tenant"], created["scopes"]) == ("ci", tenant, ["sessions"])
    secret = created["key"]
    assert list(holding(secret).iter_sessions()) == []
    (listed,) = [one for one in admin.list_keys()["keys"] if one["id"] == created["id"]]
    assert listed == {name: value for name, value in created.items() if name != "key"}
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", stack.environment["FIRESTORE_EMULATOR_HOST"])
    firestore = Firestore(project=stack.environment["GOOGLE_CLOUD_PROJECT"], credentials=AnonymousCredentials())
    of_tenant = firestore.collection("keys").where(filter=FieldFilter("tenant", "==", tenant))
    stored = [one.to_dict() for one in of_tenant.order_by("created_at", direction="DESCENDING").stream()]
    assert len(stored) == 1
    assert secret not in repr(stored)
    assert admin.revoke_key(created["id"])["revoked_at"]
    assert admin.revoke_key(created["id"])["revoked_at"]
    with pytest.raises(Unauthorized):
        holding(secret).list_sessions()


def test_a_key_without_the_admin_scope_makes_no_keys(admin: OnMemOSClient, tenant: str, holding: Holding) -> None:
    plain = holding(admin.create_key("plain", tenant=tenant)["key"])
    for call in (plain.list_keys, lambda: plain.create_key("x"), lambda: plain.revoke_key("0" * 16)):
        with pytest.raises(Forbidden, match="wanted one with the scope admin"):
            call()


def test_an_admin_key_runs_nothing(admin: OnMemOSClient, tenant: str, holding: Holding) -> None:
    keeper = holding(admin.create_key("keeper", tenant=tenant, scopes=["admin"])["key"])
    with pytest.raises(Forbidden, match="wanted one with the scope sessions"):
        keeper.create_session({"namespace": "a", "user": "b"})
    assert keeper.create_key("x")["tenant"] == tenant
    with pytest.raises(Forbidden, match="tenant"):
        keeper.create_key("x", tenant="default")
    assert {one["tenant"] for one in keeper.list_keys()["keys"]} == {tenant}


def test_a_keys_namespaces_bound_what_it_makes_and_sees(admin: OnMemOSClient, tenant: str, holding: Holding) -> None:
    wide = holding(admin.create_key("wide", tenant=tenant)["key"])
    narrow = holding(admin.create_key("narrow", tenant=tenant, namespaces=["mine"])["key"])
    with pytest.raises(Forbidden, match="namespace: got 'theirs', wanted one that this API key may use: mine"):
        narrow.create_session({"namespace": "theirs", "user": "b"})
    theirs = wide.create_session({"namespace": "theirs", "user": "b"}, wait=0)
    mine = narrow.create_session({"namespace": "mine", "user": "b"}, wait=0)
    assert [one["id"] for one in narrow.iter_sessions()] == [mine["id"]]
    assert {one["id"] for one in wide.iter_sessions()} == {mine["id"], theirs["id"]}
    with pytest.raises(NotFound):
        narrow.get_session(theirs["id"])
    for one in (mine, theirs):
        wide.delete_session(one["id"])


def test_an_expiry_that_is_over_is_refused_and_one_to_come_is_kept(admin: OnMemOSClient, tenant: str) -> None:
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert admin.create_key("later", tenant=tenant, expires_at=later)["expires_at"]
    with pytest.raises(BadRequest, match="expires_at"):
        admin.create_key("over", tenant=tenant, expires_at="2020-01-01T00:00:00Z")


def test_no_operation_tells_another_tenant_that_a_session_exists(
    stack: Stack, admin: OnMemOSClient, tenant: str, holding: Holding
) -> None:
    secret = admin.create_key("stranger", tenant=tenant)["key"]
    session = admin.create_session({"namespace": "secret", "user": "me"})
    queries = {"execute_workspace": {"command": "id"}, "run_shell": {"command": "id"}, "run_python": {"code": "1"}}
    bodies: dict[str, Any] = {
        "create_job": {"command": "id"},
        "execute_session": {"command": "id"},
        "move_session": {"provider": "gke"},
        "update_session": {"ttl_minutes": 5},
    }
    tried = []
    for route in ROUTES.values():
        if route.access is not Access.KEY or "_id}" not in route.path or "key_id" in route.path:
            continue
        path = re.sub(r"\{(session|workspace)_id\}", session["id"], route.path)
        path = path.replace("{job_id}", "job-0123456789abcdef")
        answer = httpx.request(
            route.method, stack.base_url + path, headers={"X-API-Key": secret},
            params=queries.get(route.name), json=bodies.get(route.name), timeout=30,
        )  # fmt: skip
        assert (answer.status_code, answer.json()["detail"]) == (404, "Session not found"), route.name
        tried.append(route.name)
    assert len(tried) >= 17
    assert list(holding(secret).iter_sessions()) == []
    sockets = stack.base_url.replace("http", "ws")
    for path in (f"/v1/sessions/{session['id']}/shell", f"/v1/cloudrun/workspaces/{session['id']}/shell"):
        with connect(f"{sockets}{path}?api_key={secret}") as shell, pytest.raises(ConnectionClosed) as closed:
            shell.recv(30)
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 4404
    relayed = httpx.get(f"{stack.base_url}/v1/sessions/{session['id']}/agent/health", headers={"X-API-Key": secret})
    assert relayed.status_code == 404
    assert admin.get_session(session["id"])["status"] == "running"
    admin.delete_session(session["id"])
