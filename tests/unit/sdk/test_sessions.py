"""Sessions and workspaces as objects: what they send, and what is left when a block ends."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sdk.python.errors import (
    BadRequest,
    NotFound,
    ServerError,
    SessionFailed,
    SessionSuspended,
    SessionUnchanged,
    Unavailable,
)
from sdk.python.sessions import Session
from sdk.python.settling import WAIT_S
from sdk.python.shells import Shell
from sdk.python.workspaces import Workspace
from tests.unit.sdk.scripted import ScriptedClient, ScriptedSocket, Turn, ok, refusal
from tests.unit.sdk.test_shells import WELCOME

RESULT = {"stdout": "hi", "stderr": "", "returncode": 0, "success": True}
DELETED = {"id": "s", "status": "deleting"}


def told(status: str = "running", **fields: Any) -> Any:
    return ok(id="s", status=status, **fields)


def calls(client: ScriptedClient) -> list[str]:
    return [
        f"{request.method} {request.url.removeprefix('http://service/v1/')}" for request in client.transport.requests
    ]


def session(client: ScriptedClient, status: str = "running") -> Session:
    client.transport.turns.insert(0, told(status))
    return client.sessions.get("s")


def test_a_session_that_was_created_is_used_by_its_methods() -> None:
    client = ScriptedClient(told(), ok(**RESULT), told(expires_at="later"), ok(**DELETED))
    it = client.sessions.create({"template": "python"}, wait=0, user="u", storage={"keep": True}, idempotency_key="k")
    assert client.last.json == {"template": "python", "user": "u", "storage": {"keep": True}}
    assert (client.last.query, client.last.headers["Idempotency-Key"]) == ({"wait": 0}, "k")
    assert (it.id, it.status, it.info["id"]) == ("s", "running", "s")
    assert it.execute("echo hi", 5, cwd="src", check=True) == RESULT
    assert client.last.json == {"command": "echo hi", "timeout": 5, "cwd": "src"}
    assert it.extend(90)["expires_at"] == "later"
    assert client.last.json == {"ttl_minutes": 90}
    assert it.info["expires_at"] == "later"
    assert it.delete() == DELETED
    assert calls(client) == ["POST sessions", "POST sessions/s/execute", "PATCH sessions/s", "DELETE sessions/s"]


def test_a_session_shows_what_was_last_seen_until_it_is_refreshed() -> None:
    client = ScriptedClient(told("running"))
    it = session(client, "provisioning")
    assert it.status == "provisioning"
    assert it.refresh()["status"] == "running"
    assert it.status == "running"
    assert repr(it._core) == "<AsyncSession s running>"


def test_a_session_says_how_to_connect() -> None:
    client = ScriptedClient(ok(url="http://agent", ticket="t"))
    assert session(client).connect()["url"] == "http://agent"
    assert calls(client)[-1] == "GET sessions/s/connect"


def test_sessions_are_listed_page_by_page() -> None:
    client = ScriptedClient(ok(sessions=[{"id": "a"}, {"id": "b"}], next_page_token="1"), ok(sessions=[{"id": "c"}]))
    found = client.sessions.list(user="u", page_size=2)
    first = next(found)
    assert isinstance(first, Session)
    assert len(client.transport.requests) == 1
    assert [first.id, *(it.id for it in found)] == ["a", "b", "c"]


def test_waiting_looks_again_until_the_session_runs() -> None:
    client = ScriptedClient(told("provisioning"), told("moving"), told("running"))
    it = session(client, "provisioning")
    assert it.wait()["status"] == "running"
    assert it.status == "running"
    assert client.transport.pauses == [0.25, 0.5, 1.0]


def test_a_session_that_runs_is_not_waited_for() -> None:
    client = ScriptedClient()
    assert session(client).wait()["id"] == "s"
    assert len(client.transport.requests) == 1


def test_waiting_for_a_session_that_fails_gives_the_reason() -> None:
    client = ScriptedClient(told("failed", error="no such image"))
    it = session(client, "provisioning")
    with pytest.raises(SessionFailed, match="s failed: no such image") as caught:
        it.wait()
    assert (caught.value.status, caught.value.code) == (409, "session_failed")
    assert it.status == "failed"


def test_waiting_ends_when_the_time_is_up() -> None:
    client = ScriptedClient(*[told("provisioning") for _ in range(20)])
    it = session(client, "provisioning")
    with pytest.raises(Unavailable, match="s is provisioning after 10 s") as caught:
        it.wait(10)
    assert not caught.value.may_have_executed
    assert sum(client.transport.pauses) == 10


def test_a_session_that_is_suspended_is_not_waited_for() -> None:
    client = ScriptedClient(told("suspending"), told("suspended"))
    with pytest.raises(SessionSuspended, match=r"s is suspended; session.resume\(\)"):
        session(client, "suspending").wait()
    assert len(client.transport.requests) == 3


def test_a_session_that_was_resumed_by_another_is_seen_to_run() -> None:
    assert session(ScriptedClient(told("running")), "suspended").wait()["status"] == "running"


def test_a_session_knows_what_was_last_seen_of_it() -> None:
    client = ScriptedClient(
        told("running", provider="gke", expires_at="2026-11-25T11:00:00.000Z", long_lived=True, auto_resume=True),
        told("suspended", expires_at=None, suspended_at="2026-11-25T10:30:00.000Z", ttl_left_seconds=1800.5),
    )
    it = session(client)
    it.refresh()
    assert (it.provider, it.long_lived, it.auto_resume) == ("gke", True, True)
    assert it.expires_at == datetime(2026, 11, 25, 11, tzinfo=UTC)
    assert (it.suspended_at, it.ttl_left_seconds) == (None, None)
    it.refresh()
    assert [it.expires_at, it.ttl_left_seconds, it.auto_resume] == [None, 1800.5, False]
    assert it.suspended_at == datetime(2026, 11, 25, 10, 30, tzinfo=UTC)


def test_a_session_is_updated() -> None:
    client = ScriptedClient(told(auto_resume=True))
    it = session(client)
    it.update(auto_resume=True, labels={"a": "b"})
    assert client.last.json == {"labels": {"a": "b"}, "auto_resume": True}
    assert it.auto_resume


def test_suspending_waits_until_it_is_done() -> None:
    client = ScriptedClient(told("suspending"), told("suspending"), told("suspended"))
    it = session(client)
    assert it.suspend()["status"] == it.status == "suspended"
    assert calls(client)[1:] == ["POST sessions/s/suspend", "GET sessions/s", "GET sessions/s"]
    assert client.transport.requests[1].query == {"wait": 30.0}


def test_resuming_and_moving_wait_too() -> None:
    client = ScriptedClient(told("provisioning"), told("running"), told("moving"), told("running", provider="gke"))
    it = session(client, "suspended")
    assert it.resume()["status"] == "running"
    assert it.move("gke")["provider"] == "gke"
    assert calls(client)[1:] == [
        "POST sessions/s/resume",
        "GET sessions/s",
        "POST sessions/s/move",
        "GET sessions/s",
    ]


def test_what_is_not_waited_for_comes_back_as_it_is() -> None:
    client = ScriptedClient(told("suspending"), told("moving"), told("moving"))
    assert session(client).suspend(wait=0)["status"] == "suspending"
    assert client.last.query == {"wait": 0}
    client.play(told("moving"))
    assert session(client).move("gke", wait=0.25)["status"] == "moving"
    assert sum(client.transport.pauses) == 0.25


NOTICE = {"notice": "not done: no room"}


@pytest.mark.parametrize(
    ("turn", "before", "after"),
    [
        (lambda it: it.suspend(), "running", told("running", details=NOTICE)),
        (lambda it: it.resume(), "suspended", told("suspended", details=NOTICE)),
        (lambda it: it.move("gke"), "running", told("running", provider="cloud_run", details=NOTICE)),
    ],
    ids=["suspend", "resume", "move"],
)
def test_what_could_not_be_done_is_an_error_with_the_reason(
    turn: Callable[[Session], Any], before: str, after: Turn
) -> None:
    client = ScriptedClient(told("moving"), after)
    it = session(client, before)
    with pytest.raises(SessionUnchanged, match="s is as it was: not done: no room"):
        turn(it)
    assert it.status == before


def test_what_was_undone_by_another_meanwhile_is_no_error() -> None:
    client = ScriptedClient(told("suspending"), told("running", details={"boots": 2}))
    assert session(client).suspend()["status"] == "running"


def test_a_session_that_fails_on_the_way_says_so() -> None:
    client = ScriptedClient(told("provisioning"), told("failed", error="no image"))
    with pytest.raises(SessionFailed, match="no image"):
        session(client, "suspended").resume()


def test_a_block_deletes_its_session() -> None:
    client = ScriptedClient(ok(**DELETED))
    with session(client) as it:
        assert it.id == "s"
    assert calls(client)[-1] == "DELETE sessions/s"


@pytest.mark.parametrize("answer", [ok(**DELETED), refusal(404), refusal(500)], ids=repr)
def test_a_block_that_raised_deletes_its_session_and_its_error_is_the_one_that_comes_out(answer: Turn) -> None:
    client = ScriptedClient(answer)
    with pytest.raises(KeyError, match="mine"), session(client):
        raise KeyError("mine")
    assert calls(client)[-1] == "DELETE sessions/s"


def test_a_deletion_that_failed_is_noted_on_the_blocks_error() -> None:
    client = ScriptedClient(refusal(500, "broken"))
    with pytest.raises(KeyError) as caught, session(client):
        raise KeyError("mine")
    assert caught.value.__notes__ == ["s could not be deleted either: 500: broken"]


def test_a_deletion_that_failed_is_the_error_of_a_block_that_raised_nothing() -> None:
    client = ScriptedClient(refusal(500))
    with pytest.raises(ServerError), session(client):
        pass


def test_a_session_that_is_gone_at_the_end_of_its_block_is_fine() -> None:
    client = ScriptedClient(refusal(404))
    with session(client):
        pass


def test_deleting_a_session_that_is_gone_by_hand_is_an_error() -> None:
    client = ScriptedClient(refusal(404))
    with pytest.raises(NotFound):
        session(client).delete()


def test_a_session_opens_its_shell() -> None:
    client = ScriptedClient()
    client.transport.sockets.append(ScriptedSocket(WELCOME))
    with session(client).shell() as shell:
        assert isinstance(shell, Shell)
        assert shell.cwd == "/workspace"


def test_a_workspace_lasts_as_long_as_its_block() -> None:
    client = ScriptedClient(told(), ok(**RESULT), ok(**RESULT), ok(**RESULT), ok(**DELETED))
    client.transport.sockets.append(ScriptedSocket(WELCOME))
    with client.cloudrun_workspace_session("python", "n", "u", ttl_minutes=5) as workspace:
        assert isinstance(workspace, Workspace)
        assert client.last.json == {"template": "python", "namespace": "n", "user": "u", "ttl_minutes": 5}
        assert (workspace.id, workspace.info["status"]) == ("s", "running")
        assert workspace.execute("echo hi", 5) == RESULT
        assert client.last.json == {"command": "echo hi", "timeout": 5}
        workspace.runpython("print(1)")
        assert client.last.json == {"code": "print(1)", "timeout": 120}
        workspace.runsh("ls -la", timeout=3)
        assert client.last.json == {"command": "ls -la", "timeout": 3}
        workspace.shell().close()
    assert calls(client) == [
        "POST cloudrun/workspaces",
        "POST sessions/s/execute",
        "POST cloudrun/workspaces/s/runpython",
        "POST sessions/s/execute",
        "DELETE cloudrun/workspaces/s",
    ]


@pytest.mark.parametrize("answer", [ok(**DELETED), refusal(404), refusal(500)], ids=repr)
def test_a_workspace_is_deleted_when_the_body_raised_whose_error_comes_out(answer: Turn) -> None:
    client = ScriptedClient(told(), answer)
    with pytest.raises(KeyError, match="mine"), client.cloudrun_workspace_session("python", "n", "u"):
        raise KeyError("mine")
    assert calls(client)[-1] == "DELETE cloudrun/workspaces/s"


def test_a_workspace_is_waited_for() -> None:
    client = ScriptedClient(told("provisioning"), told("provisioning"), told(url="u"), ok(**DELETED))
    with client.cloudrun_workspace_session("python", "n", "u") as workspace:
        assert workspace.info["url"] == "u"
        assert len(client.transport.pauses) == 2


def test_a_workspace_that_fails_is_deleted_and_its_reason_is_told() -> None:
    client = ScriptedClient(told("provisioning"), told("failed", error="quota"), ok(**DELETED))
    with pytest.raises(SessionFailed, match="quota"), client.cloudrun_workspace_session("python", "n", "u"):
        raise AssertionError("the body ran")
    assert calls(client)[-1] == "DELETE cloudrun/workspaces/s"


def test_a_workspace_that_does_not_come_is_deleted() -> None:
    client = ScriptedClient(*[told("provisioning") for _ in range(1000)])
    with pytest.raises(Unavailable, match="after 300 s"), client.cloudrun_workspace_session("python", "n", "u"):
        raise AssertionError("the body ran")
    assert sum(client.transport.pauses) == WAIT_S
    assert calls(client)[-1] == "DELETE cloudrun/workspaces/s"


def test_a_workspace_that_was_never_made_is_not_deleted() -> None:
    client = ScriptedClient(refusal(400))
    with pytest.raises(BadRequest), client.cloudrun_workspace_session("python", "n", ""):
        raise AssertionError("the body ran")
    assert len(client.transport.requests) == 1
