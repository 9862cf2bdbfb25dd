"""Sessions from a warm pool: Pods that were up before their session was, and whose agents it adopts."""

from collections.abc import Iterator

import pytest

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from tests.e2e.conftest import running_stack, settings_in
from tests.e2e.remains import processes_of, until

SPEC = {"template": "python", "namespace": "warm", "user": "dev", "provider": "gke"}


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = settings_in(tmp_path_factory.mktemp("home"), {"ONMEMOS_GKE_WARM_POOL": "pool/{template}"})
    with running_stack(settings) as stack:
        yield stack


def test_a_session_adopts_a_pod_that_was_waiting(pooled: Stack) -> None:
    with OnMemOSClient(pooled.base_url, pooled.api_key) as client:
        session = client.create_session(SPEC, env={"GREETING": "hello"})
        assert session["status"] == "running"
        assert session["details"]["namespace"] == "pool"
        pod = str(session["details"]["pod"])
        assert pod != session["id"]
        said = client.execute_session(session["id"], "echo $GREETING $WORKSPACE_ID; echo kept > note", check=True)
        assert said["stdout"] == f"hello {session['id']}\n"
        other = client.create_session(SPEC, user="other")
        assert other["details"]["pod"] != pod
        client.suspend_session(session["id"])
        assert client.resume_session(session["id"])["status"] == "running"
        assert client.execute_session(session["id"], "cat note; echo $GREETING")["stdout"] == "kept\nhello\n"
        for one in (session, other):
            client.delete_session(one["id"])


def test_an_adopted_agent_that_is_started_again_knows_its_session(pooled: Stack) -> None:
    with OnMemOSClient(pooled.base_url, pooled.api_key) as client:
        session = client.create_session(SPEC, env={"GREETING": "hello"})
        dying = processes_of(str(session["details"]["pod"]))
        assert dying
        for process in dying:
            process.kill()
        until(lambda: client.get_session(session["id"])["details"]["boots"] > 1, "the restart is seen")
        assert client.execute_session(session["id"], "echo $GREETING", check=True)["stdout"] == "hello\n"
        client.delete_session(session["id"])


def test_what_the_pool_cannot_give_gets_a_pod_of_its_own(pooled: Stack) -> None:
    with OnMemOSClient(pooled.base_url, pooled.api_key) as client:
        session = client.create_session(SPEC, network={"egress": False})
        assert session["details"]["pod"] == session["id"]
        client.delete_session(session["id"])
