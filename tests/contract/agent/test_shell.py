"""The shell over a WebSocket: one process per connection, whose state lasts."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.agent.rig import Agent, Shell, alive, running, ticket, until

LIMIT = 1_000_000
CLEANS_UP = """
import sys, time
try:
    open(sys.argv[1], "w").close()
    time.sleep(60)
except KeyboardInterrupt:
    print("bye")
"""
IGNORES_TERM = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(60)
"""


@pytest.fixture(scope="module")
def without_bash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent in an image that has no bash."""
    programs = tmp_path_factory.mktemp("bin")
    for name in ("sleep", "cat", "head", "tr", "ls", "touch", "mkfifo", "sh"):
        (programs / name).symlink_to(shutil.which(name) or name)
    with running(tmp_path_factory.mktemp("workspace"), {"PATH": str(programs)}) as agent:
        yield agent


@pytest.fixture(params=["bash", "sh"])
async def shell(request: pytest.FixtureRequest, agent: Agent, without_bash: Agent) -> AsyncIterator[Shell]:
    """Of either kind."""
    async with (agent if request.param == "bash" else without_bash).shell() as shell:
        assert shell.welcome["shell"] == request.param
        yield shell


async def test_it_says_welcome_and_where_it_is(agent: Agent) -> None:
    async with agent.shell() as shell:
        welcome = dict(shell.welcome)
        assert len(welcome.pop("boot_id")) == 32
        assert welcome == {
            "type": "welcome",
            "session_id": "ws-test-agent-1",
            "shell": "bash",
            "cwd": str(agent.folder),
            "version": "3.0.0",
        }


async def test_a_result_has_all_its_fields(shell: Shell) -> None:
    result = await shell.run("echo out; echo err >&2; (exit 3)", id="a")
    assert result.pop("duration_ms") > 0
    assert result == {
        "type": "command_result",
        "stdout": "out\n",
        "stderr": "err\n",
        "returncode": 3,
        "success": False,
        "timed_out": False,
        "truncated": False,
        "cwd": shell.welcome["cwd"],
        "id": "a",
    }
    assert "id" not in await shell.run("true")


async def test_folders_variables_and_functions_last(shell: Shell, tmp_path: Path) -> None:
    assert (await shell.run(f"cd {tmp_path}; export A=1; b=2; f() {{ echo f $b; }}"))["cwd"] == str(tmp_path)
    assert (await shell.run("f; sh -c 'echo $A'; pwd"))["stdout"] == f"f 2\n1\n{tmp_path}\n"
    assert (await shell.run("umask 027; set -- x y"))["returncode"] == 0
    assert (await shell.run("umask; echo $2"))["stdout"] in ("0027\ny\n", "027\ny\n")


async def test_a_line_may_be_any_text(shell: Shell) -> None:
    for line, stdout in (
        ("echo 'it'\\''s' \"\\$x\"", "it's $x\n"),
        ("cat <<END\na 'b'\nEND\necho after", "a 'b'\nafter\n"),
        ("echo é😀 # comment", "é😀\n"),
        ("for i in 1 2\ndo echo $i\ndone\n", "1\n2\n"),
        ("echo a \\\n b", "a b\n"),
        ("! true; echo $?", "1\n"),
        ("echo x" + " " * 300_000 + "y", "x y\n"),
    ):
        assert (await shell.run(line))["stdout"] == stdout


@pytest.mark.parametrize("line", ["if", 'echo "', "echo '", "$(", "(", ")", "f() {", "case x in", "echo ${x", "`"])
async def test_a_syntax_error_is_told_and_costs_no_state(shell: Shell, line: str) -> None:
    await shell.run("a=kept")
    result = await shell.run(line)
    assert result["returncode"] != 0
    assert result["stderr"]
    after = await shell.run("echo $a")
    assert (after["stdout"], after["stderr"], after["returncode"]) == ("kept\n", "", 0)


async def test_there_is_nothing_on_standard_input(shell: Shell) -> None:
    assert (await shell.run("cat; read x; echo end$x"))["stdout"] == "end\n"


async def test_a_command_has_no_descriptor_of_the_driver(shell: Shell) -> None:
    assert (await shell.run("ls /proc/self/fd"))["stdout"].split() == ["0", "1", "2", "3"]
    assert (await shell.run("echo forged 2>/dev/null >&9; true"))["returncode"] == 0
    assert (await shell.run("echo next"))["stdout"] == "next\n"


async def test_options_of_the_shell_do_not_break_it(shell: Shell) -> None:
    assert (await shell.run("set -u; set -f; IFS=x; set -x; echo *"))["stdout"] == "*\n"
    assert (await shell.run("set +x; unset PWD; printf() { :; }; echo next"))["stdout"] == "next\n"
    assert (await shell.run("echo last"))["returncode"] == 0


async def test_signals_are_as_a_shell_would_have_them(shell: Shell) -> None:
    ignored = await shell.run("cat /proc/self/status")
    masks = [int(line.split()[1], 16) for line in ignored["stdout"].splitlines() if line[:6] in ("SigIgn", "SigBlk")]
    assert [mask & 0x7FFF_FFFF for mask in masks] == [0, 0]


async def test_commands_run_in_the_order_they_came(shell: Shell) -> None:
    for number in range(80):
        await shell.send("command", command=f"n=${{n-}}{number % 10}; echo {number}", id=str(number))
    results = [await shell.next() for _ in range(80)]
    assert [(result["id"], result["stdout"]) for result in results] == [(str(n), f"{n}\n") for n in range(80)]
    assert (await shell.run("echo $n"))["stdout"] == "0123456789" * 8 + "\n"


async def test_a_ping_is_answered_while_a_command_runs(shell: Shell, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    await shell.send("command", command=f"cat {tmp_path}/gate")
    await shell.send("ping")
    await shell.next("pong")
    await asyncio.to_thread((tmp_path / "gate").write_text, "opened")
    assert (await shell.next())["stdout"] == "opened"


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("5", "the frame is 5"),
        ('["command"]', "wanted an object"),
        (b'{"type": "ping"}', "binary"),
        ({"type": "nonsense"}, 'type: got "nonsense"; wanted one of command, interrupt, ping'),
        ({}, "type: got null"),
        ({"type": "command"}, "command: there is none"),
        ({"type": "command", "command": ""}, "wanted a command line"),
        ({"type": "command", "command": 5}, "command: got 5"),
        ({"type": "command", "command": "a\0"}, "NUL"),
        ({"type": "command", "command": "\ud800"}, "not Unicode"),
        ({"type": "command", "command": "true", "timeout": 0}, "timeout: got 0"),
        ({"type": "command", "command": "true", "timeout": 3601}, "at most 3600"),
        ({"type": "command", "command": "true", "id": 5}, "id: got 5"),
    ],
)
async def test_a_frame_that_is_not_understood_is_an_error_and_the_connection_lives(
    agent: Agent, frame: Any, part: str
) -> None:
    async with agent.shell() as shell:
        await shell.connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))
        assert part in (await shell.next("error"))["detail"]
        assert (await shell.run("echo lives"))["stdout"] == "lives\n"


async def test_an_error_carries_the_frames_id(agent: Agent) -> None:
    async with agent.shell() as shell:
        await shell.send("command", id="x")
        assert (await shell.next("error"))["id"] == "x"


async def test_a_timeout_is_124_and_the_shell_lives(shell: Shell) -> None:
    await shell.run("a=kept")
    result = await shell.run("echo before; sleep 60; echo after", timeout=0.3)
    assert (result["stdout"], result["returncode"], result["timed_out"]) == ("before\n", 124, True)
    assert (await shell.run("echo $a"))["stdout"] == "kept\n"


@pytest.mark.parametrize(
    "line",
    [
        "while :; do :; done; while :; do :; done; echo no",
        "while :; do sleep 0.01; done; echo no",
        "f() { sleep 60; echo no; }; f; echo no",
        "( sleep 60; echo no ); echo no",
        "x=$(sleep 60; echo no); echo no $x",
        "sleep 60 && echo no || echo no",
        "sleep 60 & wait; echo no",
        "sleep 60 | cat; echo no",
    ],
)
async def test_a_timeout_abandons_the_whole_line_and_no_state(shell: Shell, line: str) -> None:
    await shell.run("a=kept")
    result = await shell.run(line, timeout=0.2)
    assert (result["stdout"], result["returncode"]) == ("", 124)
    after = await shell.run("echo $a")
    assert (after["stdout"], after["stderr"]) == ("kept\n", "")


async def test_a_timeout_ends_what_the_command_started_and_nothing_else(shell: Shell, tmp_path: Path) -> None:
    await shell.run(f"sleep 60 & echo $! > {tmp_path}/earlier; sleep 0.05")
    (tmp_path / "program.py").write_text(IGNORES_TERM)
    line = f"{sys.executable} {tmp_path}/program.py {tmp_path}/up & echo $! > {tmp_path}/stubborn; sleep 60"
    result = await shell.run(line, timeout=1)
    assert (tmp_path / "up").exists()
    assert result["returncode"] == 124
    assert not alive(_pid(tmp_path / "stubborn"))
    assert alive(_pid(tmp_path / "earlier"))
    assert (await shell.run("echo next"))["stdout"] == "next\n"


async def test_a_shell_that_does_not_come_back_is_replaced(shell: Shell, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")  # the shell itself waits, for good, and costs no processor meanwhile
    await shell.run("a=lost; cd /")
    result = await shell.run(f"trap '' INT; read x < {tmp_path}/gate", timeout=0.2)
    assert (result["returncode"], result["timed_out"]) == (124, True)
    assert (await shell.next("status"))["status"] == "restarted"
    after = await shell.run("echo ${a-gone}")
    assert (after["stdout"], after["cwd"]) == ("gone\n", shell.welcome["cwd"])


async def test_an_interrupt_is_130_and_costs_no_state(shell: Shell, tmp_path: Path) -> None:
    await shell.run("a=kept")
    await shell.send("command", command=f"touch {tmp_path}/up; sleep 60; echo no")
    await until((tmp_path / "up").exists)
    await shell.send("interrupt")
    result = await shell.next()
    assert (result["stdout"], result["returncode"], result["timed_out"]) == ("", 130, False)
    assert (await shell.run("echo $a"))["stdout"] == "kept\n"


async def test_an_interrupt_right_behind_its_command_is_not_lost(shell: Shell) -> None:
    for _ in range(20):
        await shell.send("command", command="sleep 60; echo no")
        await shell.send("interrupt")
        result = await shell.next()
        assert (result["stdout"], result["returncode"]) == ("", 130)
        assert (await shell.run("echo next"))["stdout"] == "next\n"


async def test_an_interrupt_with_nothing_to_interrupt_does_nothing(shell: Shell) -> None:
    await shell.run("true")
    await shell.send("interrupt")
    assert (await shell.run("echo next"))["stdout"] == "next\n"


async def test_an_interrupted_program_may_clean_up(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(CLEANS_UP)
    await shell.send("command", command=f"{sys.executable} {tmp_path}/program.py {tmp_path}/up; echo no")
    await until((tmp_path / "up").exists)
    await shell.send("interrupt")
    result = await shell.next()
    assert (result["stdout"], result["returncode"]) == ("bye\n", 130)


async def test_exit_is_told_and_closes(shell: Shell) -> None:
    result = await shell.run("echo bye; exit 3")
    assert (result["stdout"], result["returncode"], result["success"]) == ("bye\n", 3, False)
    assert (await shell.next("status"))["status"] == "exited"
    assert await shell.closed() == 1000


async def test_set_e_ends_the_shell_at_a_failure_and_only_then(shell: Shell) -> None:
    assert (await shell.run("set -e; true"))["returncode"] == 0
    assert (await shell.run("if false; then :; fi; echo on"))["stdout"] == "on\n"
    result = await shell.run("false; echo no")
    assert (result["stdout"], result["returncode"]) == ("", 1)
    assert (await shell.next("status"))["status"] == "exited"
    assert await shell.closed() == 1000


async def test_a_shell_that_becomes_another_program_ends_with_it(shell: Shell) -> None:
    assert (await shell.run("exec sh -c 'echo other; exit 4'"))["returncode"] == 4
    assert (await shell.next("status"))["status"] == "exited"
    assert await shell.closed() == 1000


async def test_a_shell_that_is_killed_while_it_waits_is_told(shell: Shell) -> None:
    pid = int((await shell.run("echo $$"))["stdout"])
    os.kill(pid, signal.SIGKILL)
    assert "137" in (await shell.next("status"))["detail"]
    assert await shell.closed() == 1000


@pytest.mark.parametrize("stream", ["1", "2"])
async def test_output_above_the_cap_is_dropped_and_the_command_goes_on(shell: Shell, stream: str) -> None:
    result = await shell.run(f"head -c 2000000 /dev/zero | tr '\\0' x >&{stream}")
    text = result["stdout" if stream == "1" else "stderr"]
    assert (len(text), result["truncated"], result["returncode"]) == (LIMIT, True, 0)
    small = await shell.run("echo small")
    assert (small["stdout"], small["stderr"], small["truncated"]) == ("small\n", "", False)


async def test_output_at_the_cap_is_whole(shell: Shell) -> None:
    result = await shell.run(f"head -c {LIMIT} /dev/zero | tr '\\0' x")
    assert (len(result["stdout"]), result["truncated"]) == (LIMIT, False)


async def test_later_output_of_the_background_is_in_a_later_result(shell: Shell, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    first = await shell.run(f"(cat {tmp_path}/gate; touch {tmp_path}/done) & echo first")
    assert first["stdout"] == "first\n"
    await asyncio.to_thread((tmp_path / "gate").write_text, "late\n")
    await until((tmp_path / "done").exists)
    assert (await shell.run("echo second"))["stdout"] == "late\nsecond\n"


async def test_two_connections_are_independent(agent: Agent, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    async with agent.shell() as one, agent.shell() as other:
        await one.run("cd /; a=one")
        await one.send("command", command=f"cat {tmp_path}/gate; echo $a")
        assert (await other.run("echo ${a-none}; pwd"))["stdout"] == f"none\n{agent.folder}\n"
        await asyncio.to_thread((tmp_path / "gate").write_text, "")
        assert (await one.next())["stdout"] == "one\n"


async def test_a_new_connection_has_a_new_shell(agent: Agent) -> None:
    async with agent.shell() as shell:
        await shell.run("a=1; cd /")
    async with agent.shell() as shell:
        assert (await shell.run("echo ${a-none}; pwd"))["stdout"] == f"none\n{agent.folder}\n"


async def test_closing_ends_the_shell_its_command_and_its_background(agent: Agent, tmp_path: Path) -> None:
    async with agent.shell() as shell:
        await shell.run(f"echo $$ > {tmp_path}/shell; sleep 60 & echo $! > {tmp_path}/background")
        await shell.send("command", command=f"sh -c 'echo $$ > {tmp_path}/command; sleep 60; :'")
        await until(lambda: (tmp_path / "command").exists() and bool((tmp_path / "command").read_text()))
    for name in ("shell", "background", "command"):
        pid = _pid(tmp_path / name)
        await until(lambda pid=pid: not alive(pid))  # type: ignore[misc]


async def test_a_client_that_vanishes_with_commands_waiting_ends_its_shell(agent: Agent, tmp_path: Path) -> None:
    async with agent.shell() as shell:
        await shell.send("command", command=f"echo $$ > {tmp_path}/pid; sleep 60; :")
        for _ in range(20):
            await shell.send("command", command="true")
        await until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
        shell.connection.transport.abort()
    await until(lambda: not alive(_pid(tmp_path / "pid")))


async def test_nothing_is_left_after_a_connection(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        async with agent.client() as client:
            await client.run("true")
            before = agent.descriptors()
            for _ in range(10):
                async with agent.shell() as shell:
                    await shell.run("sleep 60 & true")
                async with agent.websocket("/v1/terminal") as terminal:
                    await terminal.send(b"sleep 60 &\n")
            await until(lambda: not _children(agent))
            await until(lambda: len(agent.descriptors()) == len(before))


async def test_a_client_that_does_not_read_costs_no_memory(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        async with agent.shell(max_queue=1) as shell:
            await shell.run("head -c 900000 /dev/zero | tr '\\0' x")
            before = agent.resident_mb()
            line = f"echo . >> {tmp_path}/ran; head -c 900000 /dev/zero | tr '\\0' x"
            for number in range(200):
                await shell.send("command", command=line, id=str(number))
                if number == 40:
                    await until((tmp_path / "ran").exists)
                    break
            async with agent.client() as client:
                await client.run("sleep 0.3")
            assert len((tmp_path / "ran").read_text().split()) < 30
            assert agent.peak_mb() - before < 40
            results = [await shell.next() for _ in range(41)]
            assert [result["id"] for result in results] == [str(n) for n in range(41)]


async def test_shells_are_not_logged(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        url = ticket(jti="logged")
        async with agent.shell() as shell:
            await shell.run("echo secret-output # secret-command")
        async with agent.websocket(f"/v1/shell?ticket={url}", {}) as connection:
            await connection.recv()
            await connection.send("secret-frame")
            await connection.recv()
        agent.process.terminate()
        _, stderr = await asyncio.to_thread(agent.process.communicate, None, 10)
        assert b"agent stops" in stderr
        assert b"secret" not in stderr
        assert url.encode() not in stderr


def _pid(file: Path) -> int:
    return int(file.read_text())


def _children(agent: Agent) -> list[int]:
    return list(map(int, Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()))
