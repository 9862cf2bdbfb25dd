"""Sessions, workspaces, shells and terminals over real HTTP and WebSockets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import sdk.python as onmemos
from tests.contract.sdk.conftest import Face
from tests.contract.sdk.service import KEY, Answer, Fault, Stack
from tests.contract.sdk.test_faults import deaf_port

SPEC = {"template": "python", "namespace": "n", "user": "u"}


@pytest.fixture(params=["the agent", "the relay"])
def way(request: pytest.FixtureRequest, direct: Face, client: Face, stack: Stack) -> Face:
    """A client that opens shells there; what is told it lands in `words`."""
    return direct if request.param == "the agent" else client


@pytest.fixture
def words(way: Face, direct: Face, stack: Stack) -> list[str]:
    return stack.agent.commands if way is direct else stack.service.commands


def test_a_session_is_deleted_at_the_end_of_its_block(direct: Face, stack: Stack) -> None:
    sessions = direct.of(direct.target.sessions)
    with sessions("create", SPEC) as session:
        assert session.target.status == "running"
        assert session("execute", "echo hi")["stderr"] == "agent"
        assert session("connect")["ticket"] == "ticket-2"
        assert sessions("get", session.target.id).target.id == session.target.id
        assert [it.id for it in sessions("list", page_size=1)] == ["ws-0", session.target.id]
    assert list(stack.service.sessions) == ["ws-0"]


def test_a_session_is_deleted_once_whatever_the_wire_does_when_its_block_raises(direct: Face, stack: Stack) -> None:
    session = direct.of(direct.target.sessions)("create", SPEC)
    stack.wire.script.extend([Fault.RESET_AFTER, Fault.RESET_BEFORE])
    with pytest.raises(KeyError), session:
        raise KeyError
    assert list(stack.service.sessions) == ["ws-0"]


def test_a_workspace_is_waited_for_used_and_deleted(direct: Face, stack: Stack) -> None:
    stack.service.first_status = "provisioning"
    with direct("cloudrun_workspace_session", "python", "n", "u", ttl_minutes=5) as workspace:
        assert workspace.target.info["status"] == "running"
        assert workspace("execute", "echo hi")["stderr"] == "agent"
        workspace("runpython", "print(1)")
        with workspace("shell") as shell:
            assert shell("execute", "pwd")["stdout"] == "/workspace\n"
    assert list(stack.service.sessions) == ["ws-0"]
    assert stack.service.commands == ["print(1)"]


def test_a_workspace_that_fails_is_deleted(direct: Face, stack: Stack) -> None:
    stack.service.first_status = "failed"
    with pytest.raises(onmemos.SessionFailed), direct("cloudrun_workspace_session", "python", "n", "u"):
        raise AssertionError("the body ran")
    assert list(stack.service.sessions) == ["ws-0"]


def test_a_shells_state_lasts(way: Face, words: list[str]) -> None:
    with way("open_shell", "ws-0") as shell:
        assert shell.target.cwd == "/workspace"
        assert shell.target.welcome["session_id"] == "ws"
        shell("execute", "cd /tmp")
        assert shell("execute", "pwd", 5)["stdout"] == "/tmp\n"
        assert shell.target.cwd == "/tmp"
        shell("ping")
        with pytest.raises(onmemos.BadRequest, match="command: got"):
            shell("execute", "")
        assert shell("execute", "print 6000000")["stdout"] == "x" * 6_000_000
    assert words[:2] == ["cd /tmp", "pwd"]
    with pytest.raises(RuntimeError, match="the shell is closed"):
        shell("execute", "late")


def test_a_shell_that_exits_says_how(way: Face) -> None:
    with way("open_shell", "ws-0") as shell:
        assert shell("execute", "exit 3")["returncode"] == 3
        with pytest.raises(onmemos.ConnectionLost):
            shell("execute", "late")
        with pytest.raises(onmemos.ShellExited, match="the shell has exited") as caught:
            shell("execute", "later")
    assert not caught.value.may_have_executed


def test_a_shell_at_the_agent_whose_session_is_deleted_says_so(direct: Face, client: Face) -> None:
    with direct("open_shell", "ws-0") as shell:
        client("delete_session", "ws-0")
        with pytest.raises(onmemos.SessionEnded):
            shell("execute", "close 1012")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (4401, onmemos.Unauthorized),
        (4404, onmemos.NotFound),
        (4410, onmemos.SessionEnded),
        (1012, onmemos.ConnectionLost),
        (1011, onmemos.ConnectionLost),
    ],
)
def test_the_end_of_a_shell_is_typed(way: Face, code: int, error: type[onmemos.OnMemOSError]) -> None:
    with way("open_shell", "ws-0") as shell, pytest.raises(error, match="as told"):
        shell("execute", f"close {code}")


def test_a_shell_whose_wire_breaks_is_lost_and_its_command_is_not_sent_again(
    way: Face, words: list[str], stack: Stack
) -> None:
    with way("open_shell", "ws-0") as shell:
        shell("execute", "a")
        stack.wire.cut()
        stack.agent_wire.cut()
        for _ in range(2):
            with pytest.raises(onmemos.ConnectionLost):
                shell("execute", "b")
    assert words.count("b") == 0


def test_the_agents_shell_gets_the_ticket_and_never_the_key(direct: Face, stack: Stack) -> None:
    direct("open_shell", "ws-0")("close")
    (headers,) = stack.agent.seen
    assert headers["authorization"] == "Bearer ticket-1"
    assert "x-api-key" not in headers
    assert headers["user-agent"].startswith("onmemos-python/")


def test_a_shells_ticket_that_the_agent_no_longer_knows_is_renewed(direct: Face, stack: Stack) -> None:
    direct("execute_session", "ws-0", "a")
    stack.agent.tickets.clear()
    direct("open_shell", "ws-0")("close")
    assert [headers["authorization"] for headers in stack.agent.seen[1:]] == ["Bearer ticket-1", "Bearer ticket-2"]


@pytest.mark.parametrize(
    "fault",
    [Answer(404), Answer(403), Answer(502), Answer(200), Answer(302, b"", {"location": "/"}), Fault.RESET_BEFORE],
    ids=str,
)
def test_where_the_agent_opens_no_shell_the_relay_does(direct: Face, stack: Stack, fault: Answer | Fault) -> None:
    stack.agent_wire.script.append(fault)
    with direct("open_shell", "ws-0") as shell:
        shell("execute", "pwd")
    assert (stack.agent.commands, stack.service.commands) == ([], ["pwd"])


@pytest.fixture
def deaf_url() -> Iterator[str]:
    with deaf_port() as taken:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_where_the_agent_is_not_there_the_relay_opens_the_shell(direct: Face, stack: Stack, deaf_url: str) -> None:
    stack.service.agent_url = deaf_url
    with direct("open_shell", "ws-0") as shell:
        shell("execute", "pwd")
    assert stack.service.commands == ["pwd"]


def test_a_redirect_does_not_lead_the_key_elsewhere(client: Face, stack: Stack) -> None:
    stack.wire.script.append(Answer(302, b"", {"location": f"ws{stack.agent_url.removeprefix('http')}/v1/shell"}))
    with pytest.raises(onmemos.APIError, match="redirects are not followed"):
        client("open_shell", "ws-0")
    assert stack.agent.seen == []


@pytest.mark.parametrize(
    ("session_id", "key", "error"), [("ws-7", KEY, onmemos.NotFound), ("ws-0", "wrong", onmemos.Unauthorized)]
)
def test_what_the_relay_refuses_is_typed(
    kind: str, stack: Stack, session_id: str, key: str, error: type[onmemos.OnMemOSError]
) -> None:
    stack.service.sessions["ws-0"] = {"id": "ws-0", "status": "running"}
    client = Face(kind, stack.url, direct=False, api_key=key)
    for opening in ("open_shell", "open_terminal"):
        with pytest.raises(error):
            client(opening, session_id)
    client.close()


def test_a_service_without_a_relay_has_no_shell(client: Face, stack: Stack) -> None:
    stack.wire.script.append(Answer(404, b'{"detail": "no such route", "code": "route_not_found"}'))
    with pytest.raises(onmemos.NotFound, match="404 route_not_found: no such route"):
        client("open_shell", "ws-0")


def test_opening_a_shell_outlives_a_passing_fault(client: Face, direct: Face, stack: Stack) -> None:
    stack.wire.script.extend([Fault.RESET_BEFORE, Answer(503)])
    with client("open_shell", "ws-0") as shell:
        shell("ping")


def test_a_terminal_is_bytes_both_ways(way: Face, words: list[str]) -> None:
    with way("open_terminal", "ws-0", 24, 80) as terminal:
        assert terminal("read") == b"24x80$ "
        terminal("write", b"ls \xff\n".replace(b"\xff", "é".encode()))
        assert terminal("read") == "ls é\n".encode()
        terminal("resize", 30, 100)
        assert terminal("read") == b"30x100$ "
        terminal("write", b"exit\n")
        assert terminal("read") == b""
        assert terminal.target.returncode == 3
    assert words == ["ls é\n"]


def test_closing_a_terminal_ends_the_read_of_another_thread(stack: Stack) -> None:
    stack.service.sessions["ws-0"] = {"id": "ws-0", "status": "running"}
    with onmemos.OnMemOSClient(stack.url, KEY) as client, ThreadPoolExecutor(1) as threads:
        terminal = client.open_terminal("ws-0")
        terminal.read()
        reading = threads.submit(terminal.read)
        terminal.close()
        assert reading.result(5) == b""


def test_a_command_is_interrupted_from_another_thread_and_each_gets_its_own_result(stack: Stack) -> None:
    stack.service.sessions["ws-0"] = {"id": "ws-0", "status": "running"}
    with (
        onmemos.OnMemOSClient(stack.url, KEY) as client,
        ThreadPoolExecutor(8) as threads,
        client.open_shell("ws-0") as shell,
    ):
        waiting = threads.submit(shell.execute, "wait")
        assert stack.agent.waits.wait(5)
        shell.interrupt()
        assert waiting.result(5)["returncode"] == 130
        commands = [f"echo {n}" for n in range(40)]
        assert [result["stdout"] for result in threads.map(shell.execute, commands)] == commands
