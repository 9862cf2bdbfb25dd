"""`onmemos` as a real process, from its words to a real sandbox: output, exit codes, what is left behind."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from sdk.python.errors import NotFound, Unauthorized

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "sdk.python.cli"]
PATIENCE_S = 60.0
ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07)")


class Cli:
    """Calls the program with the stack's address and key, and a namespace of the test's own."""

    def __init__(self, stack: Stack, namespace: str) -> None:
        self.env = {
            **{name: value for name, value in os.environ.items() if name != "NO_COLOR"},
            "ONMEMOS_URL": stack.base_url,
            "ONMEMOS_API_KEY": stack.api_key,
            "ONMEMOS_NAMESPACE": namespace,
            "TERM": "xterm-256color",
            "PYTHONPATH": str(ROOT),
        }

    def __call__(
        self, *words: str, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*PROGRAM, *words],
            input=stdin,
            env={**self.env, **(env or {})},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def json(self, *words: str) -> Any:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def started(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*PROGRAM, *words], env=self.env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


class Screen:
    """The program in a terminal of its own, for somebody who waits for what it shows and types."""

    def __init__(self, cli: Cli, *words: str, env: Mapping[str, str] | None = None) -> None:
        self.shown = b""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(ROOT)
            os.execve(PROGRAM[0], [*PROGRAM, *words], {**cli.env, **(env or {})})  # noqa: S606  # pty.fork wants it

    @property
    def text(self) -> bytes:
        """What was shown, without colours and the like."""
        return ESCAPES.sub(b"", self.shown)

    def wait_for(self, pattern: bytes) -> None:
        """Until it is shown, after what was waited for before."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self.text!r}"
            assert self._read(), f"{pattern!r} is not in {self.text!r}, and it has ended"
        self.shown = self.text[found.end() :]

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self._terminal)[3] & termios.ECHO

    def end(self) -> int:
        """Its exit code, once it has ended."""
        while self._read():
            pass
        _, status = os.waitpid(self._pid, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], PATIENCE_S)
        assert ready, f"nothing came after {self.text!r}"
        try:
            shown = os.read(self._terminal, 65_536)
        except OSError:  # EIO: the program has ended
            return False
        self.shown += shown
        return bool(shown)


@pytest.fixture
def namespace() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def cli(stack: Stack, namespace: str) -> Cli:
    return Cli(stack, namespace)


@pytest.fixture
def client(stack: Stack) -> Iterator[OnMemOSClient]:
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        yield client


@pytest.fixture
def session_id(client: OnMemOSClient, namespace: str) -> Iterator[str]:
    session = client.create_session(template="python", namespace=namespace, user="dev")
    yield session["id"]
    try:
        client.delete_session(session["id"])
    except NotFound:
        return


def left(client: OnMemOSClient, namespace: str) -> list[str]:
    return [session["id"] for session in client.iter_sessions(namespace=namespace)]


def until_there(client: OnMemOSClient, namespace: str) -> str:
    """The id of the namespace's session, once it runs."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := [one["id"] for one in client.iter_sessions(namespace=namespace) if one["status"] == "running"]):
        assert time.monotonic() < deadline, f"nothing runs in {namespace}"
        time.sleep(0.05)
    return found[0]


def test_run_is_as_if_the_command_ran_here(cli: Cli, client: OnMemOSClient, namespace: str) -> None:
    done = cli("run", "python", "--env", "A=b", "--", "sh", "-c", "echo $A; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "b\n", "err\n")
    assert left(client, namespace) == []


def test_standard_input_and_a_line_for_the_shell(cli: Cli) -> None:
    done = cli("run", "python", "--stdin", "--", "tr a-z A-Z | rev", stdin="héllo\n")
    assert (done.returncode, done.stdout) == (0, "OLLéH\n")


def test_ctrl_c_ends_the_command_and_deletes_the_session(cli: Cli, client: OnMemOSClient, namespace: str) -> None:
    running = cli.started("run", "python", "--", "sleep 60")
    until_there(client, namespace)
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=PATIENCE_S)
    assert (running.returncode, stdout, stderr.strip()) == (130, "", "")
    assert left(client, namespace) == []


def test_sigterm_deletes_the_session_too(cli: Cli, client: OnMemOSClient, namespace: str) -> None:
    running = cli.started("run", "python", "--", "sleep 60")
    until_there(client, namespace)
    running.terminate()
    running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 128 + signal.SIGTERM
    assert left(client, namespace) == []


def test_what_is_to_be_kept_is_kept(cli: Cli, client: OnMemOSClient, namespace: str) -> None:
    done = cli("run", "python", "--keep", "--", "echo kept > file")
    assert done.returncode == 0
    (session_id,) = left(client, namespace)
    assert session_id in done.stderr
    assert cli("exec", session_id, "--", "cat", "file").stdout == "kept\n"
    assert cli("sessions", "rm", session_id).stdout == f"{session_id}\n"


def test_exec_takes_options_and_gives_the_commands_code(cli: Cli, session_id: str) -> None:
    done = cli("exec", session_id, "--cwd", "/tmp", "-e", "A=1", "--", "pwd; echo $A; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "/tmp\n1\n", "")
    done = cli("exec", session_id, "--timeout", "0.5", "--", "echo begun; sleep 60")
    assert (done.returncode, done.stdout) == (124, "begun\n")
    assert "ran out of time" in done.stderr
    result = json.loads(cli("--json", "exec", session_id, "--", "python", "-c", "print('é')").stdout)
    assert (result["session"], result["stdout"], result["success"]) == (session_id, "é\n", True)


def test_a_command_that_cannot_be_run_is_125(cli: Cli) -> None:
    done = cli("exec", "ws-nobody-has-this", "--", "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert re.fullmatch(r"onmemos: Session not found \(404 session_not_found, request \w+\)\n", done.stderr)
    done = cli("run", "cobol", "--", "true")
    assert done.returncode == 125
    assert done.stderr.startswith("onmemos: template: got 'cobol', wanted one of ")
    assert done.stderr.count("\n") == 1


def test_a_sessions_life(cli: Cli, client: OnMemOSClient, namespace: str) -> None:
    created = cli("sessions", "create", "python", "--ttl", "2h", "--label", "team=core", "--cpu", "2")
    session_id = created.stdout.strip()
    assert created.returncode == 0, created.stderr
    assert left(client, namespace) == [session_id]
    rows = cli("sessions", "ls", "--namespace", namespace).stdout.splitlines()
    assert [row.split()[:2] for row in rows] == [["ID", "STATUS"], [session_id, "running"]]
    (listed,) = cli.json("sessions", "ls", "--label", "team=core", "--namespace", namespace)
    assert listed == cli.json("sessions", "get", session_id)
    extended = cli.json("sessions", "extend", session_id, "--ttl", "1d")
    assert extended["expires_at"] > listed["expires_at"]
    removed = cli("sessions", "rm", "--all", "--namespace", namespace, "--yes")
    assert (removed.returncode, removed.stdout) == (0, f"{session_id}\n")
    assert cli("sessions", "get", session_id).returncode == 1


def test_plan_templates_connect_and_health(cli: Cli, session_id: str) -> None:
    assert cli.json("plan", "python")["provider"] == "cloud_run"
    assert "cloud_run" in cli("plan").stdout
    assert "python" in [template["name"] for template in cli.json("templates")]
    assert re.search(r"^python +yes ", cli("templates").stdout, re.MULTILINE)
    assert cli.json("connect", session_id)["ticket"].count(".") == 2
    assert cli("health").returncode == 0


def test_a_keys_life(cli: Cli, stack: Stack, namespace: str) -> None:
    made = cli("keys", "create", "ci", "--namespace", namespace, "--expires-in", "1d")
    secret = made.stdout.strip()
    assert made.returncode == 0
    key_id = made.stderr.split(":")[0]
    with OnMemOSClient(stack.base_url, secret) as other:
        assert other.list_sessions(namespace=namespace)["sessions"] == []
        (listed,) = [key for key in cli.json("keys", "ls") if key["id"] == key_id]
        assert (listed["namespaces"], listed["revoked_at"]) == ([namespace], None)
        refused = cli("keys", "ls", env={"ONMEMOS_API_KEY": secret})
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "403 forbidden" in refused.stderr
        assert cli("keys", "revoke", key_id).stdout == f"{key_id}\n"
        with pytest.raises(Unauthorized):
            other.list_sessions()


def test_the_stack_of_a_folder_is_found(cli: Cli, tmp_path: Path, stack: Stack) -> None:
    (tmp_path / ".onmemos").mkdir()
    (tmp_path / ".onmemos" / "env").write_bytes((stack.home / "env").read_bytes())
    nothing = {"ONMEMOS_URL": "", "ONMEMOS_API_KEY": ""}
    assert cli("sessions", "ls", env=nothing, cwd=tmp_path).returncode == 0


def test_a_wrong_key_and_a_service_that_is_not_there_are_one_line_each(cli: Cli) -> None:
    wrong = cli("sessions", "ls", env={"ONMEMOS_API_KEY": "wrong"})
    nobody = cli("health", env={"ONMEMOS_URL": "http://127.0.0.1:1"})
    assert [wrong.returncode, nobody.returncode] == [1, 1]
    assert "401 unauthenticated" in wrong.stderr
    assert [done.stderr.count("\n") for done in (wrong, nobody)] == [1, 1]


def test_lines_from_a_pipe_run_in_one_shell(cli: Cli, session_id: str) -> None:
    done = cli("shell", session_id, stdin="cd /tmp\nX=5\n\npwd; echo $X\necho err >&2\n(exit 4)\n")
    assert (done.returncode, done.stdout, done.stderr) == (4, "/tmp\n5\n", "err\n")
    done = cli("shell", session_id, stdin="echo one\nexit 3\necho two\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, "one\n", "")


def test_a_person_has_a_terminal(cli: Cli, session_id: str) -> None:
    screen = Screen(cli, "shell", session_id)
    screen.wait_for(rb"\$ $")
    assert screen.raw
    screen.type(b"stty -echo; PS1=\r")
    screen.type(b"echo '<'`tty`'>'\r")
    screen.wait_for(rb"</dev/pts/\d+>")
    screen.resize(50, 132)
    screen.type(b"until [ \"`stty size`\" = '50 132' ]; do sleep 0.05; done; echo '<'resized'>'\r")
    screen.wait_for(rb"<resized>")
    screen.type(b'sh -c \'echo "<"begun">"; exec sleep 600\'\r')
    screen.wait_for(rb"<begun>")
    screen.type(b"\x03")  # for what runs there, not for the program here
    screen.type(b"echo '<'again'>'\r")
    screen.wait_for(rb"<again>")
    screen.type(b"exit 5\r")
    assert screen.end() == 5


def test_a_terminal_ends_with_its_session(cli: Cli, client: OnMemOSClient, session_id: str) -> None:
    screen = Screen(cli, "shell", session_id)
    screen.wait_for(rb"\$ $")
    client.delete_session(session_id)
    screen.wait_for(rb"onmemos: .*\n")
    assert screen.end() == 1


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_wants_none(
    cli: Cli, session_id: str, env: dict[str, str], coloured: bool
) -> None:
    screen = Screen(cli, "sessions", "get", session_id, env=env)
    assert screen.end() == 0
    assert b"running" in screen.text
    assert (b"\x1b[32m" in screen.shown) == coloured


def test_progress_is_for_a_terminal_and_leaves_no_trace_in_the_output(cli: Cli) -> None:
    screen = Screen(cli, "run", "python", "--", "echo done")
    assert screen.end() == 0
    assert b"creating a python session" in screen.text
    assert re.search(rb"(?<!\w)done\r\n", screen.text)


def test_tab_completes_ids(cli: Cli, session_id: str) -> None:
    words = {"_ONMEMOS_COMPLETE": "bash_complete", "COMP_WORDS": f"onmemos exec {session_id[:-3]}", "COMP_CWORD": "2"}
    assert f"plain,{session_id}" in cli(env=words).stdout.split()
