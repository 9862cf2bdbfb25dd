"""The direct way over real HTTP: to the agent where it answers, by the service where not, and nothing runs twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import sdk.python as onmemos
from sdk.python.direct import RENEW_BEFORE_S
from tests.contract.sdk.conftest import Face
from tests.contract.sdk.service import KEY, Answer, Fault, Stack
from tests.contract.sdk.test_faults import HTML, RESETS, deaf_port


@pytest.fixture
def deaf_url() -> Iterator[str]:
    """Of an agent that refuses connections."""
    with deaf_port() as taken:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_commands_go_to_the_agent_over_one_connection_with_one_ticket(direct: Face, stack: Stack) -> None:
    for n in range(3):
        assert direct("execute_session", "ws-0", f"echo {n}")["stderr"] == "agent"
    assert stack.agent.commands == ["echo 0", "echo 1", "echo 2"]
    assert (stack.service.commands, stack.service.connects) == ([], 1)
    assert (stack.agent_wire.connections, stack.wire.requests) == (1, 1)


def test_the_agent_gets_a_ticket_and_never_the_key(direct: Face, stack: Stack) -> None:
    direct("execute_session", "ws-0", "ls")
    (headers,) = stack.agent.seen
    assert headers["authorization"] == "Bearer ticket-1"
    assert KEY not in headers.values()


def test_a_ticket_is_renewed_before_the_agent_refuses_it(direct: Face, stack: Stack) -> None:
    stack.service.lifetime_s = RENEW_BEFORE_S - 1
    direct("execute_session", "ws-0", "a")
    direct("execute_session", "ws-0", "b")
    assert [headers["authorization"] for headers in stack.agent.seen] == ["Bearer ticket-1", "Bearer ticket-2"]


def test_a_ticket_that_the_agent_no_longer_knows_is_renewed_and_the_command_runs_once(
    direct: Face, stack: Stack
) -> None:
    direct("execute_session", "ws-0", "a")
    stack.agent.tickets.clear()
    assert direct("execute_session", "ws-0", "b")["stderr"] == "agent"
    assert (stack.agent.commands, stack.service.commands, stack.service.connects) == (["a", "b"], [], 2)


def test_an_agent_that_refuses_connections_is_passed_by_and_left_alone(
    direct: Face, stack: Stack, deaf_url: str
) -> None:
    stack.service.agent_url = deaf_url
    direct("execute_session", "ws-0", "a")
    direct("execute_session", "ws-0", "b")
    assert (stack.service.commands, stack.service.connects) == (["a", "b"], 1)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503, b'{"detail": "stopping", "code": "workspace_unreachable"}'),
        Answer(404),
        Answer(404, b"<html>404</html>", {"content-type": "text/html"}),
        Answer(403),
        Answer(302, b"", {"location": "http://127.0.0.1:1/"}),
    ],
    ids=lambda answer: str(answer.status),
)
def test_what_stands_before_the_agent_and_passes_nothing_on_is_passed_by(
    direct: Face, stack: Stack, answer: Answer
) -> None:
    stack.agent_wire.script.append(answer)
    direct("execute_session", "ws-0", "a")
    assert (stack.agent.commands, stack.service.commands) == ([], ["a"])


@pytest.mark.parametrize("fault", RESETS)
def test_a_command_whose_connection_broke_is_sent_to_nobody_else(direct: Face, stack: Stack, fault: Fault) -> None:
    stack.agent_wire.script.append(fault)
    with pytest.raises(onmemos.ConnectionLost) as caught:
        direct("execute_session", "ws-0", "date >> log")
    assert caught.value.may_have_executed
    assert stack.service.commands == []
    assert len(stack.agent.commands) == (0 if fault is Fault.RESET_BEFORE else 1)
    direct("execute_session", "ws-0", "next")
    assert stack.agent.commands[-1] == "next"


@pytest.mark.parametrize("answer", [Answer(502), Answer(500), Answer(503), HTML], ids=lambda a: str(a.status))
def test_an_answer_that_is_not_the_agents_runs_nothing_elsewhere(direct: Face, stack: Stack, answer: Answer) -> None:
    stack.agent_wire.script.append(answer)
    with pytest.raises(onmemos.OnMemOSError) as caught:
        direct("execute_session", "ws-0", "a")
    assert caught.value.may_have_executed
    assert (stack.agent.commands, stack.service.commands) == ([], [])


def test_silence_is_a_timeout_and_runs_nothing_elsewhere(kind: str, stack: Stack) -> None:
    stack.service.sessions["ws-0"] = {"id": "ws-0", "status": "running"}
    stack.agent_wire.script.append(Fault.SILENCE)
    client = Face(kind, stack.url, timeout=0.1)
    with pytest.raises(onmemos.Timeout):
        client("execute_session", "ws-0", "a", 0.1)
    client.close()
    assert (stack.agent.commands, stack.service.commands) == (["a"], [])


@pytest.mark.parametrize("status", [404, 405, 500, 503])
@pytest.mark.parametrize("body", [b'{"detail": "no", "code": "stable"}', b"<html>no</html>"])
def test_a_service_that_tells_no_way_runs_the_command_itself(
    direct: Face, stack: Stack, status: int, body: bytes
) -> None:
    stack.wire.script.append(Answer(status, body, {"connection": "close"}))
    direct("execute_session", "ws-0", "a")
    assert (stack.agent.commands, stack.service.commands) == ([], ["a"])


@pytest.mark.parametrize("fault", RESETS)
def test_a_service_that_is_lost_while_it_tells_the_way_runs_the_command_itself(
    direct: Face, stack: Stack, fault: Fault
) -> None:
    stack.wire.script.append(fault)
    direct("execute_session", "ws-0", "a")
    assert (stack.agent.commands, stack.service.commands) == ([], ["a"])


def test_a_session_without_a_way_to_its_agent_is_reached_by_the_service(direct: Face, stack: Stack) -> None:
    stack.service.agent_url = None
    direct("execute_session", "ws-0", "a")
    direct("execute_session", "ws-0", "b")
    assert (stack.service.commands, stack.service.connects) == (["a", "b"], 1)


def test_the_agents_complaint_is_a_bad_request_as_the_service_says_it(direct: Face) -> None:
    with pytest.raises(onmemos.BadRequest) as caught:
        direct("execute_session", "ws-0", "bad")
    assert (caught.value.code, caught.value.errors) == ("invalid_request", {"command": ["bad"]})


def test_a_session_that_is_not_there_is_not_found(direct: Face, stack: Stack) -> None:
    with pytest.raises(onmemos.NotFound, match="Session not found"):
        direct("execute_session", "ws-7", "a")
    assert stack.service.commands == []


def test_a_deleted_session_is_not_found_though_its_agent_still_answers(direct: Face, stack: Stack) -> None:
    direct("execute_session", "ws-0", "a")
    direct("delete_session", "ws-0")
    with pytest.raises(onmemos.NotFound):
        direct("execute_session", "ws-0", "b")
    assert stack.agent.commands == ["a"]


def test_many_threads_share_one_way(stack: Stack) -> None:
    stack.service.sessions["ws-0"] = {"id": "ws-0", "status": "running"}
    with onmemos.OnMemOSClient(stack.url, KEY) as client, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: client.execute_session("ws-0", str(n)), range(40)))
    assert sorted(stack.agent.commands, key=int) == [str(n) for n in range(40)]
    assert stack.service.connects == 1
