"""shell: lines from a pipe, each a command in one shell."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sdk.python.cli.root import root
from sdk.python.errors import ConnectionLost, NotFound, OnMemOSError, ShellExited
from tests.unit.cli.invoking import NO_SETTINGS

Turn = dict[str, Any] | OnMemOSError


class Client:
    """Has one shell, which plays a script."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = list(turns)
        self.commands: list[str] = []
        self.open = False

    @contextlib.contextmanager
    def open_shell(self, session_id: str) -> Iterator["Client"]:
        self.open = True
        yield self
        self.open = False

    def execute(self, command: str) -> dict[str, Any]:
        self.commands.append(command)
        turn = self._turns.pop(0)
        if isinstance(turn, OnMemOSError):
            raise turn
        return turn

    def close(self) -> None: ...


def did(stdout: str = "", stderr: str = "", returncode: int = 0) -> Turn:
    return {"stdout": stdout, "stderr": stderr, "returncode": returncode}


def shell(client: Client, stdin: str | bytes) -> Result:
    result = CliRunner().invoke(root, ["shell", "ws"], obj=lambda _: client, input=stdin, env=NO_SETTINGS)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_each_line_is_a_command_and_the_exit_code_is_the_last_ones() -> None:
    client = Client([did("a\n"), did("", "b\n", 4)])
    result = shell(client, "cd /tmp\n\n   \n  false")
    assert (result.exit_code, result.stdout, result.stderr) == (4, "a\n", "b\n")
    assert client.commands == ["cd /tmp", "false"]
    assert not client.open


def test_no_line_is_no_command() -> None:
    assert shell(Client([]), "").exit_code == 0


def test_exit_ends_it_with_its_code() -> None:
    result = shell(Client([did(returncode=3), ShellExited("exited")]), "exit 3\necho no\n")
    assert (result.exit_code, result.stderr) == (3, "")


def test_a_connection_that_breaks_is_1_and_said() -> None:
    result = shell(Client([did(), ConnectionLost("broke")]), "true\ntrue\n")
    assert (result.exit_code, result.stderr) == (1, "onmemos: broke\n")


def test_a_session_that_is_gone_is_1_and_said() -> None:
    result = shell(Client([NotFound(404, "Session not found")]), "true\n")
    assert (result.exit_code, result.stderr) == (1, "onmemos: Session not found (404)\n")


def test_a_line_that_is_no_text_is_named() -> None:
    result = shell(Client([did()]), b"true\n\xff\n")
    assert result.exit_code == 1
    assert "line 2" in result.stderr


@pytest.mark.parametrize("words", [["shell"], ["shell", "a", "b"]])
def test_misuse_is_2(words: list[str]) -> None:
    assert CliRunner().invoke(root, words, env=NO_SETTINGS).exit_code == 2
