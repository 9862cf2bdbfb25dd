"""What each operation sends, and what it makes of the answer."""

from datetime import UTC, datetime

import pytest

from sdk.python.errors import CommandFailed, ConnectError, ConnectionLost, Forbidden, OnMemOSError
from sdk.python.version import __version__
from tests.unit.sdk.scripted import ScriptedClient, Turn, ok, refusal

RESULT = {"stdout": "", "stderr": "", "returncode": 0, "success": True}


def test_every_request_says_who_sends_it_and_with_which_key() -> None:
    client = ScriptedClient(ok(status="ok"))
    client.health()
    assert client.last.headers["User-Agent"] == f"onmemos-python/{__version__}"
    assert client.last.headers["X-API-Key"] == "key"


def test_a_request_shows_no_key_and_no_body() -> None:
    client = ScriptedClient(ok(**RESULT))
    client.execute_session("s", "secret")
    assert "key" not in repr(client.last)
    assert "secret" not in repr(client.last)


def test_a_session_is_created_from_a_dict_from_keywords_or_from_both() -> None:
    client = ScriptedClient(ok(id="s"), ok(id="s"), ok(id="s"))
    client.create_session({"template": "python", "new_field": 1})
    assert client.last.json == {"template": "python", "new_field": 1}
    client.create_session(template="go", resources={"cpu": 2, "memory": "4Gi"})
    assert client.last.json == {"template": "go", "resources": {"cpu": 2, "memory": "4Gi"}}
    client.create_session({"template": "python", "user": "u"}, template="go")
    assert client.last.json == {"template": "go", "user": "u"}


def test_a_creation_waits_as_long_as_the_service_and_a_little_more() -> None:
    client = ScriptedClient(ok(id="s"), ok(id="s"), ok(id="s"))
    client.create_session(template="python")
    assert (client.last.query, client.last.timeout_s) == ({}, 60)
    client.create_session(template="python", wait=300)
    assert (client.last.query, client.last.timeout_s) == ({"wait": 300}, 330)
    client.create_session(template="python", wait=0)
    assert (client.last.query, client.last.timeout_s) == ({"wait": 0}, 30)


def test_the_idempotency_key_of_the_caller_is_used() -> None:
    client = ScriptedClient(ok(id="s"))
    client.create_session(template="python", idempotency_key="mine")
    assert client.last.headers["Idempotency-Key"] == "mine"


def test_a_command_is_sent_with_what_was_given_and_nothing_else() -> None:
    client = ScriptedClient(ok(**RESULT), ok(**RESULT))
    client.execute_session("s", "ls -la")
    assert client.last.json == {"command": "ls -la", "timeout": 120}
    client.execute_session("s", argv=("ls", "-la"), timeout=1.5, stdin="", cwd="src", env={"A": "1"})
    body = {"argv": ["ls", "-la"], "timeout": 1.5, "stdin": "", "cwd": "src", "env": {"A": "1"}}
    assert client.last.json == body


def test_a_commands_answer_is_awaited_past_its_timeout_and_the_sessions_start() -> None:
    client = ScriptedClient(ok(**RESULT))
    client.execute_session("s", "make", 3600)
    assert client.last.timeout_s == 3600 + 180 + 30


def test_a_failing_command_is_a_result() -> None:
    client = ScriptedClient(ok(stdout="", stderr="no\n", returncode=2, success=False))
    assert client.execute_session("s", "ls /nowhere")["returncode"] == 2


def test_a_failing_command_is_an_error_when_it_is_checked() -> None:
    client = ScriptedClient(ok(stdout="out", stderr="first\nlast\n", returncode=2, success=False))
    with pytest.raises(CommandFailed, match=r"^the command ended with returncode 2: last$") as caught:
        client.execute_session("s", "ls /nowhere", check=True)
    assert (caught.value.stdout, caught.value.returncode) == ("out", 2)


def test_a_command_that_ran_out_of_time_says_so_when_it_is_checked() -> None:
    client = ScriptedClient(ok(stdout="", stderr="", returncode=124, success=False, timed_out=True))
    with pytest.raises(CommandFailed, match=r"^the command ran out of time$"):
        client.execute_session("s", "sleep 9", 1, check=True)


def test_a_listing_sends_the_filters_that_were_given() -> None:
    client = ScriptedClient(ok(sessions=[], next_page_token=None))
    client.list_sessions(namespace="n", label="team=a b&c", page_size=10)
    assert client.last.query == {"namespace": "n", "label": "team=a b&c", "page_size": 10}


def test_all_sessions_are_read_page_by_page_also_past_an_empty_one() -> None:
    client = ScriptedClient(
        ok(sessions=[{"id": "a"}, {"id": "b"}], next_page_token="1"),
        ok(sessions=[], next_page_token="2"),
        ok(sessions=[{"id": "c"}], next_page_token=None),
    )
    sessions = client.iter_sessions(user="u", page_size=2)
    assert client.transport.requests == []
    assert next(sessions)["id"] == "a"
    assert len(client.transport.requests) == 1
    assert [session["id"] for session in sessions] == ["b", "c"]
    assert [request.query.get("page_token") for request in client.transport.requests] == [None, "1", "2"]
    assert all(request.query["user"] == "u" for request in client.transport.requests)


def test_an_id_cannot_reach_another_path() -> None:
    client = ScriptedClient(ok(id="s"))
    client.get_session("a/../b?c#d é")
    assert client.last.url == "http://service/v1/sessions/a%2F..%2Fb%3Fc%23d%20%C3%A9"


@pytest.mark.parametrize("session_id", ["", ".", ".."])
def test_an_id_that_would_address_something_else_is_refused(session_id: str) -> None:
    with pytest.raises(ValueError, match="session_id"):
        ScriptedClient().delete_session(session_id)


def test_a_session_given_for_its_id_is_a_clear_error() -> None:
    with pytest.raises(TypeError, match=r"session_id: got a dict, wanted a string such as session\['id'\]"):
        ScriptedClient().delete_session({"id": "s"})  # type: ignore[arg-type]


def sent(client: ScriptedClient) -> tuple[str, str]:
    return client.last.method, client.last.url.removeprefix("http://service")


def test_a_plan_is_asked_for_as_a_session_is() -> None:
    client = ScriptedClient(ok(provider="gke", reasons=["long_lived"]))
    assert client.plan_session({"template": "python"}, long_lived=True)["provider"] == "gke"
    assert sent(client) == ("POST", "/v1/sessions:plan")
    assert client.last.json == {"template": "python", "long_lived": True}


def test_an_update_sends_what_changes() -> None:
    client = ScriptedClient(ok(id="s"), ConnectionLost("reset"), ok(id="s"))
    client.update_session("s", labels={"team": "a"})
    assert client.last.json == {"labels": {"team": "a"}}
    client.update_session("s", ttl_minutes=30)
    assert client.last.json == {"ttl_minutes": 30}
    assert sent(client) == ("PATCH", "/v1/sessions/s")
    assert len(client.transport.requests) == 3


def test_a_session_is_suspended_resumed_and_moved() -> None:
    client = ScriptedClient(ok(id="s"), ConnectionLost("reset"), ok(id="s"), ok(id="s"))
    client.suspend_session("s")
    assert (sent(client), client.last.query) == (("POST", "/v1/sessions/s/suspend"), {})
    assert client.last.timeout_s == 2 * 30 + 30
    client.resume_session("s", wait=100)
    assert (sent(client), client.last.query) == (("POST", "/v1/sessions/s/resume"), {"wait": 100})
    assert client.last.timeout_s == 2 * 100 + 30
    assert len(client.transport.requests) == 3
    client.move_session("s", "gke", wait=0)
    assert (sent(client), client.last.json, client.last.query) == (
        ("POST", "/v1/sessions/s/move"),
        {"provider": "gke"},
        {"wait": 0},
    )


def test_whether_commands_resume_it_is_an_update() -> None:
    client = ScriptedClient(ok(id="s"))
    client.update_session("s", auto_resume=False)
    assert client.last.json == {"auto_resume": False}


def test_a_job_is_sent_with_what_was_given() -> None:
    client = ScriptedClient(ok(id="j"), ok(id="j"))
    client.create_job("s", "make")
    assert sent(client) == ("POST", "/v1/sessions/s/jobs")
    assert client.last.json == {"command": "make", "timeout": 3600, "retries": 0}
    client.create_job("s", argv=("make", "all"), timeout=604_800, env={"A": "1"}, retries=3)
    assert client.last.json == {"argv": ["make", "all"], "timeout": 604_800, "env": {"A": "1"}, "retries": 3}


@pytest.mark.parametrize("fault", [ConnectionLost("reset"), refusal(503), refusal(429)], ids=repr)
def test_a_job_is_asked_for_again_with_the_key_that_makes_it_one(fault: Turn) -> None:
    client = ScriptedClient(fault, ok(id="j"), ok(id="j"))
    client.create_job("s", "make")
    first, again = (request.headers["Idempotency-Key"] for request in client.transport.requests)
    assert first == again
    client.create_job("s", "make", idempotency_key="mine")
    assert client.last.headers["Idempotency-Key"] == "mine"


def test_jobs_are_read_page_by_page_looked_at_and_cancelled() -> None:
    client = ScriptedClient(
        ok(jobs=[{"id": "j/1"}], next_page_token="1"),
        ok(jobs=[{"id": "j2"}], next_page_token=None),
        ok(id="j/1"),
        ConnectionLost("reset"),
        ok(id="j/1", state="cancelled"),
    )
    assert [job["id"] for job in client.iter_jobs("s", page_size=1)] == ["j/1", "j2"]
    assert [request.query for request in client.transport.requests] == [
        {"page_size": 1},
        {"page_size": 1, "page_token": "1"},
    ]
    client.get_job("s", "j/1")
    assert sent(client) == ("GET", "/v1/sessions/s/jobs/j%2F1")
    assert client.cancel_job("s", "j/1")["state"] == "cancelled"
    assert sent(client) == ("POST", "/v1/sessions/s/jobs/j%2F1/cancel")
    with pytest.raises(ValueError, match=r"job_id: got '\.\.'"):
        client.get_job("s", "..")


def test_connecting_waits_for_a_session_that_starts() -> None:
    client = ScriptedClient(ok(url="http://agent"))
    client.connect_session("s")
    assert sent(client) == ("GET", "/v1/sessions/s/connect")
    assert client.last.timeout_s == 180 + 30


def test_templates_are_listed() -> None:
    client = ScriptedClient(ok(templates=[{"name": "go"}]))
    assert client.list_templates()["templates"][0]["name"] == "go"
    assert sent(client) == ("GET", "/v1/templates")


def test_a_key_is_made_with_what_was_given() -> None:
    client = ScriptedClient(ok(id="k", key="secret"), ok(id="k", key="secret"))
    assert client.create_key("ci")["key"] == "secret"
    assert (sent(client), client.last.json) == (("POST", "/v1/keys"), {"name": "ci"})
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    client.create_key("ci", scopes=("sessions",), namespaces=["n"], expires_at=noon, tenant="t")
    body = {"scopes": ["sessions"], "namespaces": ["n"], "expires_at": "2026-11-23T12:00:00+00:00", "tenant": "t"}
    assert client.last.json == {"name": "ci", **body}


@pytest.mark.parametrize("fault", [ConnectionLost("reset"), refusal(503), refusal(502)], ids=repr)
def test_a_key_that_may_have_been_made_is_not_made_again(fault: Turn) -> None:
    client = ScriptedClient(fault, ok(id="k", key="secret"))
    with pytest.raises(OnMemOSError) as caught:
        client.create_key("ci")
    assert caught.value.may_have_executed
    assert len(client.transport.requests) == 1


def test_a_key_that_surely_was_not_made_is_asked_for_again() -> None:
    client = ScriptedClient(ConnectError("refused"), refusal(429), ok(id="k", key="secret"))
    assert client.create_key("ci")["id"] == "k"


def test_a_keys_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expires_at: got 2026-11-23T12:00:00, wanted a datetime with a time zone"):
        ScriptedClient().create_key("ci", expires_at=datetime(2026, 11, 23, 12))  # noqa: DTZ001


def test_one_string_is_no_list_of_scopes() -> None:
    with pytest.raises(TypeError, match="scopes: got the string 'admin', wanted a list of strings"):
        ScriptedClient().create_key("ci", scopes="admin")


def test_keys_are_listed_and_revoked() -> None:
    client = ScriptedClient(ok(keys=[{"id": "k"}]), ok(id="k/1", success=True), refusal(403, code="forbidden"))
    assert client.list_keys()["keys"][0]["id"] == "k"
    assert sent(client) == ("GET", "/v1/keys")
    assert client.revoke_key("k/1")["success"]
    assert sent(client) == ("DELETE", "/v1/keys/k%2F1")
    with pytest.raises(Forbidden):
        client.revoke_key("k")
    with pytest.raises(ValueError, match="key_id: got ''"):
        client.revoke_key("")


def test_the_older_apis_workspaces_are_sessions() -> None:
    client = ScriptedClient(
        ConnectionLost("reset"), ok(id="s"), ok(workspaces=[{"id": "s"}], next_page_token=None), ok(id="s"), ok(id="s")
    )
    client.create_cloudrun_workspace({"template": "python"}, user="u", idempotency_key="mine")
    assert (sent(client), client.last.json) == (
        ("POST", "/v1/cloudrun/workspaces"),
        {"template": "python", "user": "u"},
    )
    assert [request.headers["Idempotency-Key"] for request in client.transport.requests] == ["mine", "mine"]
    assert client.list_cloudrun_workspaces(namespace="n")["workspaces"][0]["id"] == "s"
    assert (sent(client), client.last.query) == (("GET", "/v1/cloudrun/workspaces"), {"namespace": "n"})
    client.get_cloudrun_workspace("s")
    assert sent(client) == ("GET", "/v1/cloudrun/workspaces/s")
    client.delete_cloudrun_workspace("s")
    assert sent(client) == ("DELETE", "/v1/cloudrun/workspaces/s")


def test_the_older_apis_commands_travel_in_the_url_and_python_code_does_not() -> None:
    client = ScriptedClient(ok(**RESULT), ok(**RESULT), ok(**RESULT), ok(**RESULT))
    for action in ("execute", "runsh"):
        getattr(client, f"{action}_cloudrun_workspace")("s", "ls -la", timeout=3)
        assert sent(client) == ("POST", f"/v1/cloudrun/workspaces/s/{action}")
        assert (client.last.query, client.last.json) == ({"command": "ls -la", "timeout": 3}, None)
    client.runpython_cloudrun_workspace("s", "print(1)")
    assert sent(client) == ("POST", "/v1/cloudrun/workspaces/s/runpython")
    assert (client.last.query, client.last.json) == ({}, {"code": "print(1)", "timeout": 120})
    assert client.last.timeout_s == 120 + 180 + 30
    with pytest.raises(ValueError, match="workspace_id"):
        client.execute_cloudrun_workspace("..", "ls")


@pytest.mark.parametrize("name", ["execute", "runpython", "runsh"])
def test_the_older_apis_commands_are_not_sent_again_when_they_may_have_run(name: str) -> None:
    client = ScriptedClient(ConnectionLost("reset"), ok(**RESULT))
    with pytest.raises(ConnectionLost):
        getattr(client, f"{name}_cloudrun_workspace")("s", "x")
    assert len(client.transport.requests) == 1
