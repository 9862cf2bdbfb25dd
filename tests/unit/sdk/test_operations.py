"""What each operation sends, and what it makes of the answer."""

import pytest

from sdk.python.errors import CommandFailed
from sdk.python.version import __version__
from tests.unit.sdk.scripted import ScriptedClient, ok

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
    assert client.last.timeout_s == 3600 + 120 + 30


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
