"""Shells and terminals over scripted WebSockets."""

import json
from typing import Any

import pytest

from sdk.python.errors import (
    BadRequest,
    ConnectError,
    ConnectionLost,
    InvalidResponse,
    NotFound,
    OnMemOSError,
    SessionEnded,
    SessionFailed,
    SessionSuspended,
    ShellExited,
    Timeout,
    Unauthorized,
    Unavailable,
)
from sdk.python.retries import Retries
from sdk.python.shells import Shell
from sdk.python.transport import SocketClosed
from tests.unit.sdk.scripted import ScriptedClient, ScriptedSocket, Turn, ok, refusal
from tests.unit.sdk.test_direct import way

WELCOME = json.dumps({"type": "welcome", "session_id": "s", "boot_id": "b", "shell": "bash", "cwd": "/workspace"})
PONG = json.dumps({"type": "pong"})


class EchoedId(ScriptedSocket):
    """Puts the id of the last command where a message says ID."""

    async def receive(self, timeout_s: float | None) -> str | bytes:
        message = await super().receive(timeout_s)
        assert isinstance(message, str)
        return message.replace("ID", json.loads(self.sent[-1]).get("id", "")) if self.sent else message


def result(**fields: Any) -> str:
    told = {"stdout": "", "stderr": "", "returncode": 0, "success": True, "cwd": "/workspace", **fields}
    return json.dumps({"type": "command_result", "id": "ID", **told})


def shell_over(*turns: str | bytes | Exception, look: Turn | None = None) -> tuple[Shell, EchoedId]:
    """`look`: what the service says of the session when the connection breaks."""
    socket = EchoedId(WELCOME, *turns)
    client = ScriptedClient(look or ok(id="s"))
    client.transport.sockets.append(socket)
    return client.open_shell("s"), socket


def frames(socket: ScriptedSocket) -> list[dict[str, Any]]:
    return [json.loads(message) for message in socket.sent]


def test_a_shell_says_where_it_is() -> None:
    shell, socket = shell_over(result(cwd="/tmp", stdout="hi"))
    assert (shell.cwd, shell.welcome["shell"]) == ("/workspace", "bash")
    told = shell.execute("cd /tmp", 5)
    assert told == {"stdout": "hi", "stderr": "", "returncode": 0, "success": True, "cwd": "/tmp"}
    assert shell.cwd == "/tmp"
    (frame,) = frames(socket)
    assert (frame["type"], frame["command"], frame["timeout"]) == ("command", "cd /tmp", 5)


def test_a_command_without_a_timeout_sends_none() -> None:
    shell, socket = shell_over(result())
    shell.execute("ls")
    assert "timeout" not in frames(socket)[0]


def test_what_belongs_to_another_command_is_passed_over() -> None:
    late = json.dumps({"type": "command_result", "id": "of a caller who left", "stdout": "old"})
    shell, _ = shell_over(late, PONG, json.dumps({"type": "status", "status": "idle"}), result(stdout="new"))
    assert shell.execute("ls")["stdout"] == "new"


def test_a_command_that_cannot_be_sent_is_a_bad_request_and_the_shell_lives() -> None:
    shell, _ = shell_over(json.dumps({"type": "error", "detail": 'command: got ""', "id": "ID"}), result())
    with pytest.raises(BadRequest, match='400 invalid_request: command: got ""') as caught:
        shell.execute("")
    assert not caught.value.may_have_executed
    assert shell.execute("ls")["success"]


def test_a_ping_waits_for_its_pong() -> None:
    shell, socket = shell_over(PONG)
    shell.ping()
    assert frames(socket) == [{"type": "ping"}]


def test_an_interrupt_waits_for_nothing() -> None:
    shell, socket = shell_over()
    shell.interrupt()
    assert frames(socket) == [{"type": "interrupt"}]


def test_a_shell_that_had_to_be_started_anew_says_so() -> None:
    news = json.dumps({"type": "status", "status": "restarted", "detail": "state was lost"})
    shell, _ = shell_over(result(returncode=124), news, result())
    shell.execute("while :; do :; done", 1)
    shell.execute("ls")
    assert shell.restarts == 1


ENDS = [
    (4401, "", Unauthorized, 401),
    (4404, "", NotFound, 404),
    (4409, "no image", SessionFailed, 409),
    (4410, "", SessionEnded, 410),
    (1013, "", Unavailable, 503),
]


@pytest.mark.parametrize(("code", "reason", "error", "status"), ENDS)
def test_a_close_code_of_the_service_is_the_error_of_the_same_meaning(
    code: int, reason: str, error: type[OnMemOSError], status: int
) -> None:
    shell, _ = shell_over(json.dumps({"type": "status", "status": "deleted"}), SocketClosed(code, reason))
    with pytest.raises(error) as caught:
        shell.execute("ls")
    assert caught.value.status == status  # type: ignore[attr-defined]
    assert reason in str(caught.value)


@pytest.mark.parametrize("closed", [SocketClosed(1012, "restarting"), SocketClosed(None, ""), SocketClosed(1006, "")])
def test_another_end_is_a_lost_connection_after_which_the_command_may_have_run(closed: SocketClosed) -> None:
    shell, _ = shell_over(closed)
    socket_says = str(closed)
    with pytest.raises(ConnectionLost, match="the connection") as caught:
        shell.execute("ls")
    assert type(caught.value) is ConnectionLost
    assert caught.value.may_have_executed
    assert socket_says in str(caught.value)


@pytest.mark.parametrize("status", ["suspending", "suspended"])
def test_a_shell_whose_session_is_suspended_says_so_and_that_what_ran_was_cut_short(status: str) -> None:
    shell, _ = shell_over(SocketClosed(1006, ""), look=ok(id="s", status=status))
    with pytest.raises(SessionSuspended) as caught:
        shell.execute("sleep 9")
    assert caught.value.may_have_executed
    with pytest.raises(SessionSuspended) as caught:
        shell.execute("ls")
    assert not caught.value.may_have_executed


def test_a_shell_whose_session_moved_is_a_lost_connection() -> None:
    shell, _ = shell_over(SocketClosed(1012, "restarting"), look=ok(id="s", status="moving"))
    with pytest.raises(ConnectionLost, match="restarting"):
        shell.execute("ls")


@pytest.mark.parametrize(
    ("look", "error"), [(ok(id="s", status="suspended"), SessionSuspended), (refusal(500), SessionFailed)], ids=repr
)
def test_a_refusal_of_the_sessions_state_is_told_from_its_status(look: Turn, error: type[OnMemOSError]) -> None:
    client = ScriptedClient(look)
    client.transport.sockets.append(ScriptedSocket(SocketClosed(4409, "session s is suspended")))
    with pytest.raises(error, match="session s is suspended") as caught:
        client.open_shell("s")
    assert not caught.value.may_have_executed


def test_after_the_end_nothing_is_sent_and_the_error_says_that_nothing_ran() -> None:
    shell, socket = shell_over(SocketClosed(4410, ""))
    socket.turns.insert(0, result())
    shell.execute("sleep 1")
    for _ in range(2):
        with pytest.raises(SessionEnded) as caught:
            shell.execute("ls")
    assert not caught.value.may_have_executed
    assert len(socket.sent) == 1


def test_a_shell_that_exited_says_so() -> None:
    exited = json.dumps({"type": "status", "status": "exited"})
    shell, _ = shell_over(result(returncode=3), exited, SocketClosed(1000, ""))
    assert shell.execute("exit 3")["returncode"] == 3
    for _ in range(2):
        with pytest.raises(ShellExited, match="the shell has exited"):
            shell.execute("ls")


@pytest.mark.parametrize("closed", [SocketClosed(1012, "stopping"), SocketClosed(1006, ""), SocketClosed(None, "")])
def test_a_connection_that_broke_because_the_session_was_deleted_says_so(closed: SocketClosed) -> None:
    shell, _ = shell_over(closed, look=refusal(404, code="session_not_found"))
    for _ in range(2):
        with pytest.raises(SessionEnded, match="410 session_ended"):
            shell.execute("ls")


@pytest.mark.parametrize("look", [refusal(404), refusal(503), ConnectError("refused")], ids=repr)
def test_a_connection_that_broke_is_just_lost_when_the_service_says_nothing_of_the_session(look: Turn) -> None:
    shell, _ = shell_over(SocketClosed(1012, ""), look=look)
    with pytest.raises(ConnectionLost):
        shell.execute("ls")


def test_no_answer_in_time_is_a_timeout() -> None:
    shell, _ = shell_over(Timeout("slow"))
    with pytest.raises(Timeout) as caught:
        shell.execute("ls", 1)
    assert caught.value.may_have_executed


@pytest.mark.parametrize("message", [b"\x00\xff", "<html>", "[]", '{"type": 1}', "{}"])
def test_what_is_no_frame_is_an_invalid_response(message: str | bytes) -> None:
    socket = ScriptedSocket(WELCOME, message)
    client = ScriptedClient()
    client.transport.sockets.append(socket)
    with pytest.raises(InvalidResponse):
        client.open_shell("s").execute("ls")


def test_a_shell_is_closed_when_its_block_ends() -> None:
    shell, socket = shell_over()
    with pytest.raises(KeyError), shell:
        raise KeyError
    assert socket.closed
    with pytest.raises(RuntimeError, match="the shell is closed"):
        shell.execute("ls")
    shell.close()


def opened_by(client: ScriptedClient, *sockets: ScriptedSocket | Exception) -> list[tuple[str, str | None, str | None]]:
    """The URLs that a shell was opened at, with ticket and key."""
    client.transport.sockets.extend(sockets)
    client.open_shell("s").close()
    return [
        (socket.url, socket.headers.get("Authorization"), socket.headers.get("X-API-Key"))
        for socket in client.transport.opened
    ]


RELAY = ("ws://service/v1/sessions/s/shell", None, "key")


def test_a_shell_is_opened_at_the_agent_with_a_ticket() -> None:
    client = ScriptedClient(way("t1"), direct=True)
    assert opened_by(client, ScriptedSocket(WELCOME)) == [("ws://agent/run/ws/v1/shell", "Bearer t1", None)]


def test_a_shell_is_opened_through_the_relay_when_the_client_is_told_to() -> None:
    assert opened_by(ScriptedClient(), ScriptedSocket(WELCOME)) == [RELAY]
    assert opened_by(ScriptedClient(base_url="https://h/x"), ScriptedSocket(WELCOME))[0][0] == (
        "wss://h/x/v1/sessions/s/shell"
    )


@pytest.mark.parametrize(
    "fault",
    [
        ConnectError("refused"),
        NotFound(404, "no route"),
        ScriptedSocket(SocketClosed(1012, "stopping")),
        ScriptedSocket(Timeout("silent")),
        ScriptedSocket("<html>"),
        ScriptedSocket(PONG),
    ],
    ids=["refused", "no route", "stopping", "silent", "html", "no welcome"],
)
def test_an_agent_that_opens_no_shell_is_passed_by_and_left_alone_for_a_while(
    fault: ScriptedSocket | Exception,
) -> None:
    client = ScriptedClient(way("t1"), ok(id="s"), direct=True)
    assert opened_by(client, fault, ScriptedSocket(WELCOME))[-1] == RELAY
    assert opened_by(client, ScriptedSocket(WELCOME))[-1] == RELAY
    assert all(socket.closed for socket in client.transport.opened)


def test_a_way_that_once_led_to_a_shell_and_no_longer_does_is_asked_for_anew() -> None:
    client = ScriptedClient(way("t1"), way("t2"), direct=True)
    assert opened_by(client, ScriptedSocket(WELCOME))[-1][1] == "Bearer t1"
    assert opened_by(client, ConnectError("gone"), ScriptedSocket(WELCOME))[-1] == RELAY
    assert opened_by(client, ScriptedSocket(WELCOME))[-1][1] == "Bearer t2"


def test_an_agent_that_waits_for_its_session_to_move_is_not_left_alone() -> None:
    client = ScriptedClient(way("t1"), way("t2"), direct=True)
    assert opened_by(client, Unavailable(503, "moving", "frozen"), ScriptedSocket(WELCOME))[-1] == RELAY
    assert opened_by(client, ScriptedSocket(WELCOME))[-1][1] == "Bearer t2"


def test_a_ticket_that_opens_no_shell_is_renewed_once() -> None:
    client = ScriptedClient(way("t1"), way("t2"), direct=True)
    opened = opened_by(client, ScriptedSocket(SocketClosed(4401, "expired")), ScriptedSocket(WELCOME))
    assert [ticket for _, ticket, _ in opened] == ["Bearer t1", "Bearer t2"]


def test_an_agent_whose_shell_takes_no_ticket_is_passed_by() -> None:
    client = ScriptedClient(way("t1"), way("t2"), direct=True)
    refused = [ScriptedSocket(SocketClosed(4401, "no")) for _ in range(2)]
    assert opened_by(client, *refused, ScriptedSocket(WELCOME))[-1] == RELAY


@pytest.mark.parametrize("fields", [{"websocket": None}, {"websocket": "wss://elsewhere/v1/shell"}, {"url": None}])
def test_where_the_agent_has_no_shell_the_relay_has(fields: dict[str, Any]) -> None:
    client = ScriptedClient(way("t1", **fields), direct=True)
    assert opened_by(client, ScriptedSocket(WELCOME)) == [RELAY]


def test_a_session_that_is_not_there_has_no_shell() -> None:
    client = ScriptedClient(refusal(404, code="session_not_found"), direct=True)
    with pytest.raises(NotFound):
        client.open_shell("s")


@pytest.mark.parametrize(("code", "reason", "error", "status"), ENDS[:4])
def test_what_the_relay_refuses_is_typed_and_not_tried_again(
    code: int, reason: str, error: type[OnMemOSError], status: int
) -> None:
    client = ScriptedClient(*[ok(id="s", status="failed")] * (code == 4409))
    client.transport.sockets.append(ScriptedSocket(SocketClosed(code, reason)))
    with pytest.raises(error):
        client.open_shell("s")
    assert client.transport.opened[0].closed
    assert status // 100 == 4


def test_opening_is_tried_again_after_a_passing_fault() -> None:
    client = ScriptedClient(ok(id="s"))
    faults = [ScriptedSocket(SocketClosed(1012, "")), ScriptedSocket(SocketClosed(1013, ""))]
    assert opened_by(client, ConnectError("refused"), *faults, ScriptedSocket(WELCOME))[-1] == RELAY
    assert len(client.transport.pauses) == 3


def test_opening_is_not_tried_for_ever() -> None:
    client = ScriptedClient(retries=Retries(times=1))
    client.transport.sockets.extend([ConnectError("a"), ConnectError("b")])
    with pytest.raises(ConnectError, match="b"):
        client.open_shell("s")


def test_a_terminal_is_bytes_both_ways_until_its_shell_exits() -> None:
    socket = ScriptedSocket(
        b"$ ", b"", b"ls\r\n", json.dumps({"type": "exit", "returncode": 3}), SocketClosed(1000, "")
    )
    client = ScriptedClient(way("t1"), direct=True)
    client.transport.sockets.append(socket)
    with client.open_terminal("s", 24, 80) as terminal:
        assert socket.url == "ws://agent/run/ws/v1/terminal?rows=24&cols=80"
        assert terminal.read() == b"$ "
        terminal.write(b"ls\n")
        terminal.resize(30, 100)
        assert (terminal.read(), terminal.returncode) == (b"ls\r\n", None)
        assert (terminal.read(), terminal.read(), terminal.returncode) == (b"", b"", 3)
        terminal.write(b"late")
    assert socket.sent == [b"ls\n", json.dumps({"type": "resize", "rows": 30, "cols": 100})]
    assert socket.closed


def test_a_terminal_through_the_relay_has_its_own_path() -> None:
    for answer in ({"url": None}, {"websocket": "ws://service/v1/sessions/s/shell"}):
        client = ScriptedClient(way("t1", **answer), direct=True)
        client.transport.sockets.append(ScriptedSocket(b"$ "))
        client.open_terminal("s", 1, 2)
        assert client.transport.opened[0].url == "ws://service/v1/sessions/s/terminal?rows=1&cols=2"


def test_a_terminal_whose_ticket_is_refused_gets_another() -> None:
    client = ScriptedClient(way("t1"), way("t2"), direct=True)
    client.transport.sockets.extend([ScriptedSocket(SocketClosed(4401, "")), ScriptedSocket(Timeout("no prompt"))])
    client.open_terminal("s")
    assert [socket.headers["Authorization"] for socket in client.transport.opened] == ["Bearer t1", "Bearer t2"]


def test_a_terminal_that_is_closed_while_it_is_read_has_nothing_more() -> None:
    class ClosedByAnotherThread(ScriptedSocket):
        async def receive(self, timeout_s: float | None) -> str | bytes:
            if not self.turns:
                terminal.close()
                raise SocketClosed(None, "")
            return await super().receive(timeout_s)

    client = ScriptedClient(ok(id="s"))
    client.transport.sockets.append(ClosedByAnotherThread(b"$ "))
    terminal = client.open_terminal("s")
    assert (terminal.read(), terminal.read()) == (b"$ ", b"")


def test_a_terminals_end_is_typed() -> None:
    client = ScriptedClient()
    deleted = json.dumps({"type": "status", "status": "deleted"})
    client.transport.sockets.append(ScriptedSocket(b"$ ", deleted, SocketClosed(4410, "")))
    terminal = client.open_terminal("s")
    assert terminal.read() == b"$ "
    with pytest.raises(SessionEnded):
        terminal.read()
