"""A wire that fails: what must happen happens once, what may have happened is said."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

import sdk.python as onmemos
from tests.contract.sdk.conftest import Face
from tests.contract.sdk.service import Answer, Fault, Stack

RESETS = [Fault.RESET_BEFORE, Fault.RESET_AFTER, Fault.RESET_DURING]
HTML = Answer(200, b"<html>Welcome to the hotel</html>", {"content-type": "text/html"})


def deaf_port() -> socket.socket:
    """A port that is taken, but where nobody listens: connections to it are refused."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken


def answer_once(port: socket.socket, answer: Answer) -> None:
    """Listen from now on, and answer the first request in a thread that ends with it."""
    port.listen()
    port.settimeout(5)

    def serve() -> None:
        connection, _ = port.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer.encoded())

    threading.Thread(target=serve).start()


@pytest.mark.parametrize("fault", RESETS)
def test_a_command_whose_connection_broke_is_not_sent_again(client: Face, stack: Stack, fault: Fault) -> None:
    stack.wire.script.append(fault)
    with pytest.raises(onmemos.ConnectionLost) as caught:
        client("execute_session", "ws-0", "date >> log")
    assert caught.value.may_have_executed
    assert stack.wire.requests == 1
    assert len(stack.service.commands) == (0 if fault is Fault.RESET_BEFORE else 1)


@pytest.mark.parametrize("fault", [*RESETS, Answer(502), Answer(503), Answer(504), Answer(429)])
def test_a_creation_makes_one_session_whatever_the_wire_does(client: Face, stack: Stack, fault: Fault | Answer) -> None:
    stack.wire.script.extend([fault, fault])
    session = client("create_session", template="python", namespace="n", user="u")
    assert list(stack.service.sessions) == [session["id"]]
    assert stack.wire.requests == 3


@pytest.mark.parametrize("fault", [*RESETS, Answer(503, headers={"retry-after": "0"})])
def test_a_session_is_read_whatever_the_wire_does(client: Face, stack: Stack, fault: Fault | Answer) -> None:
    stack.service.sessions["ws-7"] = {"id": "ws-7"}
    stack.wire.script.append(fault)
    assert client("get_session", "ws-7")["id"] == "ws-7"
    stack.wire.script.append(fault)
    assert [session["id"] for session in client("iter_sessions", page_size=1)] == ["ws-7"]


@pytest.mark.parametrize("fault", RESETS)
def test_a_deletion_whose_answer_was_lost_is_a_success(client: Face, stack: Stack, fault: Fault) -> None:
    stack.service.sessions["ws-7"] = {"id": "ws-7"}
    stack.wire.script.append(fault)
    assert client("delete_session", "ws-7") == {"id": "ws-7", "status": "deleting"}
    assert stack.service.sessions == {}


def test_deleting_what_was_never_there_is_an_error(client: Face) -> None:
    with pytest.raises(onmemos.NotFound, match="Session not found"):
        client("delete_session", "ws-7")


def test_a_command_that_was_refused_for_now_is_sent_again(client: Face, stack: Stack) -> None:
    stack.wire.script.append(Answer(429, headers={"retry-after": "0"}))
    assert client("execute_session", "ws-0", "echo hi")["returncode"] == 0
    assert stack.service.commands == ["echo hi"]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_command_that_failed_on_the_way_is_not_sent_again(client: Face, stack: Stack, status: int) -> None:
    stack.wire.script.append(Answer(status))
    with pytest.raises(onmemos.ServerError) as caught:
        client("execute_session", "ws-0", "echo hi")
    assert (caught.value.status, caught.value.code, caught.value.detail) == (status, "stable", "no")
    assert stack.wire.requests == 1


def test_a_refused_connection_is_said_to_have_sent_nothing(kind: str) -> None:
    with deaf_port() as taken:
        client = Face(kind, f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(onmemos.ConnectError) as caught:
            client("execute_session", "ws-0", "echo hi")
        client.close()
    assert not caught.value.may_have_executed
    assert len(caught.value.earlier) == 4


def test_a_command_waits_for_a_service_that_is_just_starting(
    kind: str, at_the_first_retry: Callable[[Callable[[], None]], None]
) -> None:
    answer = Answer(200, b'{"stdout": "hi", "stderr": "", "returncode": 0, "success": true}')
    with deaf_port() as port:
        client = Face(kind, f"http://127.0.0.1:{port.getsockname()[1]}")
        at_the_first_retry(lambda: answer_once(port, answer))
        assert client("execute_session", "ws-0", "echo hi")["stdout"] == "hi"
        client.close()


def test_no_answer_in_time_is_a_timeout_after_a_bounded_number_of_tries(kind: str, stack: Stack) -> None:
    client = Face(kind, stack.url, timeout=0.1, retries=1)
    stack.wire.script.extend([Fault.SILENCE, Fault.SILENCE])
    with pytest.raises(onmemos.Timeout, match=r"GET http://.*/health: no answer within 0.1 s") as caught:
        client("health")
    client.close()
    assert caught.value.may_have_executed
    assert stack.wire.requests == 2


def test_a_page_that_is_not_the_services_is_not_taken_for_an_answer(client: Face, stack: Stack) -> None:
    stack.wire.script.append(HTML)
    with pytest.raises(onmemos.InvalidResponse, match="HTTP 200 with text/html where a JSON object is wanted: '<html>"):
        client("health")


def test_a_connection_that_was_closed_while_idle_costs_nothing(client: Face, stack: Stack) -> None:
    stack.wire.script.append(Answer(200, b'{"status": "ok"}'))
    client("health")
    assert stack.wire.ended.acquire(timeout=5)
    assert client("execute_session", "ws-0", "echo hi")["returncode"] == 0
    assert (stack.wire.connections, stack.wire.requests) == (2, 2)


@pytest.fixture
def at_the_first_retry() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Do something when a client has met its first fault and is about to pause."""

    class Once(logging.Handler):
        act: Callable[[], None] | None = None

        def emit(self, record: logging.LogRecord) -> None:
            act, self.act = self.act, None
            if act:
                act()

    log, handler = logging.getLogger("sdk.python.retries"), Once()

    def arm(act: Callable[[], None]) -> None:
        handler.act = act

    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield arm
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)
