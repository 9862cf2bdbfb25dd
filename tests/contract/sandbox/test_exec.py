"""Commands, terminals and ports of a container, through its attendant."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infra.sandbox.attendance import Exited, NotListening, NotStarted, Output, Typing, Unattended, Window, attach, dial
from infra.sandbox.attendance import execute as run
from infra.sandbox.spec import Attendance, Container, ContainerSpec, Limits, Mount
from tests.contract.sandbox.conftest import MIB, Lab, Printed, until

SERVE = (
    "import socket; s = socket.create_server(('127.0.0.1', 8000)); open('/workspace/up', 'w').close()\n"
    "while True:\n"
    "    c, _ = s.accept()\n"
    "    while data := c.recv(65536): c.sendall(data.upper())\n"
    "    c.close()\n"
)


LINES = b"".join(b"%d\r\n" % n for n in range(1, 36_001))  # 241 kB; a terminal holds 12 kB that nobody has read


async def start(lab: Lab, *command: str, attendance: Attendance = Attendance.PLAIN, **options: object) -> Container:
    limits = Limits(memory_bytes=512 * MIB)
    spec = ContainerSpec(
        f"c-{len(lab.names)}", "python", env={"GREETING": "hi"}, limits=limits, egress=False,
        command=command or ("sleep", "60"), attendance=attendance, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    lab.names.append(spec.name)
    return await lab.runtime.start(spec)


async def outcome(container: Container, *argv: str, stdin: bytes = b"", **options: object) -> tuple[int, bytes, bytes]:
    """Code, stdout, stderr."""
    said = {1: b"", 2: b""}
    async with asyncio.timeout(10), run(container.attendant, argv, **options) as command:  # type: ignore[arg-type]
        typing = asyncio.create_task(_type(command, stdin))
        while isinstance(got := await command.next(), Output):
            said[got.stream] += got.data
        await typing
        return got.code, said[1], said[2]


async def _type(command: Typing, data: bytes) -> None:
    await command.write(data)
    await command.end()


@pytest.fixture
async def container(lab: Lab) -> AsyncIterator[Container]:
    container = await start(lab)
    yield container
    await container.stop(grace_s=0)


async def test_a_command_has_its_streams_and_exit_code(container: Container) -> None:
    script = "echo out; echo err >&2; echo $GREETING $MORE $PWD; id -u; exit 7"
    code, out, err = await outcome(container, "sh", "-c", script, env={"MORE": "more"}, cwd="/tmp")
    assert (code, out, err) == (7, b"out\nhi more /tmp\n1000\n", b"err\n")


async def test_input_ends_and_is_as_long_as_wanted(container: Container) -> None:
    data = bytes(range(256)) * 8192
    assert await outcome(container, "cat", stdin=data) == (0, data, b"")


async def test_a_death_by_signal_is_128_and_its_number(container: Container) -> None:
    async with asyncio.timeout(10), run(container.attendant, ["sh", "-c", "echo up; sleep 60"]) as command:
        assert await command.next() == Output(1, b"up\n")
        await command.signal(15)
        assert await command.next() == Exited(143)


async def test_a_broken_pipe_ends_a_command_as_it_does_elsewhere(container: Container) -> None:
    assert await outcome(container, "sh", "-c", "yes | head -n 1") == (0, b"y\n", b"")


@pytest.mark.parametrize(
    ("argv", "cwd", "words"),
    [
        (["nosuch"], "", "exec: 'nosuch': no such file or directory"),
        (["/etc/hostname"], "", "exec: '/etc/hostname': permission denied"),
        (["true"], "/nosuch", "chdir: '/nosuch': no such file or directory"),
    ],
)
async def test_a_command_that_cannot_start_says_why(
    container: Container, argv: list[str], cwd: str, words: str
) -> None:
    with pytest.raises(NotStarted, match=words):
        await outcome(container, *argv, cwd=cwd)


async def test_a_terminal_has_a_size_and_control_characters(container: Container) -> None:
    argv = ["sh", "-c", "tty; stty size; trap 'stty size; exit 3' INT; echo ready; while :; do sleep 0.05; done"]
    said = b""
    async with asyncio.timeout(10), run(container.attendant, argv, terminal=Window(30, 100)) as command:
        while b"ready" not in said:
            got = await command.next()
            assert isinstance(got, Output)
            said += got.data
        await command.resize(Window(40, 120))
        await command.write(b"\x03")
        while isinstance(got := await command.next(), Output):
            said += got.data
    assert got == Exited(3)
    assert said.split()[:3] == [b"/dev/pts/0", b"30", b"100"]
    assert said.endswith(b"40 120\r\n")


async def test_a_command_outlives_its_caller(container: Container, lab: Lab) -> None:
    workspace = lab.state / container.name / "workspace"
    argv = ["sh", "-c", "echo up; read x; seq 200000; echo $? > /workspace/done; sleep 60"]
    async with asyncio.timeout(10), run(container.attendant, argv) as command:
        await command.next()
    await until((workspace / "done").exists)
    code, out, _ = await outcome(container, "pgrep", "-c", "sleep")
    assert (code, int(out)) == (0, 2)


async def test_many_run_at_once(container: Container) -> None:
    async with AsyncExitStack() as stack:
        commands = [await stack.enter_async_context(run(container.attendant, ["cat"])) for _ in range(20)]
        for number, command in enumerate(commands):
            await command.write(b"%d" % number)
        for number, command in enumerate(commands):
            assert await command.next() == Output(1, b"%d" % number)


async def test_who_does_not_read_makes_the_command_wait_and_nobody_else(container: Container) -> None:
    async with run(container.attendant, ["sh", "-c", "yes"]) as deaf:
        assert isinstance(await deaf.next(), Output)
        assert (await outcome(container, "echo", "hi"))[:2] == (0, b"hi\n")


async def test_a_port_is_reached_and_each_side_ends_by_itself(lab: Lab) -> None:
    container = await start(lab, "python3", "-c", SERVE)
    await until((lab.state / container.name / "workspace/up").exists)
    data = b"abc" * 500_000
    async with asyncio.timeout(10), dial(container.attendant, 8000) as (reader, writer):

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.read(-1) == data.upper()
        await sending
    with pytest.raises(NotListening, match="connection refused"):
        async with dial(container.attendant, 8001):
            pass


async def test_output_is_told_by_stream(lab: Lab) -> None:
    printed = Printed()
    container = await start(lab, "sh", "-c", "seq 100000; echo err >&2", log=printed)
    assert await container.wait() == 0
    assert printed.kept["stdout"].split()[-1] == b"100000"
    assert printed.kept["stderr"] == b"err\n"
    with pytest.raises(Unattended):
        await outcome(container, "true")


async def test_who_is_attached_types_for_the_command(lab: Lab) -> None:
    printed = Printed()
    container = await start(lab, "cat", attendance=Attendance.STDIN, log=printed)
    data = b"x" * 1_000_000
    async with asyncio.timeout(10), attach(container.attendant) as typing:
        await typing.write(data)
        await typing.end()
        assert await container.wait() == 0
    assert printed.kept["stdout"] == data


async def test_who_is_attached_types_at_the_commands_terminal(lab: Lab) -> None:
    printed = Printed()
    container = await start(lab, "sh", attendance=Attendance.TTY, log=printed)
    async with asyncio.timeout(10), attach(container.attendant) as typing:
        await typing.resize(Window(50, 132))
        await typing.write(b"stty size; tty; exit 4\n")
        assert await container.wait() == 4
    assert b"50 132\r\n/dev/pts/" in printed.kept["stdout"]


async def at_terminal(lab: Lab, *command: str) -> tuple[int, bytes]:
    """How a command ends that leads a terminal, and what is in its log then."""
    printed = Printed()
    container = await start(lab, *command, attendance=Attendance.TTY, log=printed)
    async with asyncio.timeout(10):
        code = await container.wait()
    assert printed.kept["stderr"] == b""
    return code, printed.kept["stdout"]


async def test_a_terminals_last_words_are_told(lab: Lab) -> None:
    for number in range(10):
        assert await at_terminal(lab, "echo", str(number)) == (0, b"%d\r\n" % number)
    for _ in range(3):
        assert await at_terminal(lab, "seq", "36000") == (0, LINES)


async def test_at_a_terminal_a_command_ends_as_it_does_elsewhere(lab: Lab) -> None:
    assert await at_terminal(lab, "sh", "-c", "exit 7") == (7, b"")
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        said = await at_terminal(lab, "sh", "-c", f"echo up; kill -{number.value} $$")
        assert said == (128 + number, b"up\r\n")
    code, said_of_it = await at_terminal(lab, "nosuch")
    assert (code, said_of_it) == (127, b"nosuch: No such file or directory\r\n")


async def test_a_command_leads_its_terminal_and_is_nobodys_background(lab: Lab) -> None:
    code, said = await at_terminal(lab, "ps", "-o", "pid=,pgid=,sid=,tpgid=,tty=,blocked=")
    pid, pgid, sid, foreground, terminal, blocked = said.split()
    assert (code, terminal) == (0, b"pts/0")
    assert pid == pgid == sid == foreground
    assert int(blocked, 16) == 0


@pytest.mark.parametrize("left", ["sleep 60", "yes"])
async def test_who_else_holds_the_terminal_does_not_delay_the_end(lab: Lab, left: str) -> None:
    code, said = await at_terminal(lab, "sh", "-c", f"setsid {left} & echo last; exit 3")
    assert code == 3
    assert b"last\r\n" in said


async def test_a_stop_is_told_to_a_command_with_a_terminal(lab: Lab) -> None:
    printed = Printed()
    script = "trap 'seq 36000; exit 3' TERM; touch ready; while :; do sleep 0.02; done"
    container = await start(lab, "sh", "-c", script, attendance=Attendance.TTY, log=printed)
    await until((lab.state / container.name / "workspace/ready").exists)
    await container.stop(grace_s=10)
    assert await container.wait() == 3
    assert printed.kept["stdout"] == LINES


async def test_a_command_with_a_terminal_that_does_not_obey_is_killed(lab: Lab) -> None:
    script = "trap '' TERM HUP; touch ready; while :; do sleep 0.02; done"
    container = await start(lab, "sh", "-c", script, attendance=Attendance.TTY)
    await until((lab.state / container.name / "workspace/ready").exists)
    await container.stop(grace_s=0.1)
    assert await container.wait() == 137


async def test_a_command_with_a_terminal_is_stopped_while_it_starts(lab: Lab) -> None:
    for _ in range(5):
        container = await start(lab, "sleep", "60", attendance=Attendance.TTY)
        await container.stop(grace_s=10)
        assert await container.wait() == 143


async def test_a_terminal_ends_with_the_command_it_was_opened_for(container: Container) -> None:
    window = Window(24, 80)
    assert await outcome(container, "seq", "36000", terminal=window) == (0, LINES, b"")
    for left in ("sleep 60", "yes"):
        code, said, _ = await outcome(container, "sh", "-c", f"setsid {left} & echo last; exit 3", terminal=window)
        assert code == 3
        assert b"last\r\n" in said


async def test_a_mount_takes_the_place_of_the_workspace(lab: Lab, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    mounts = (Mount(work, "/workspace"), Mount(inner, "/workspace/inner"))
    container = await start(lab, "sh", "-c", "echo a > /workspace/a; echo b > /workspace/inner/b", mounts=mounts)
    assert await container.wait() == 0
    assert ((work / "a").read_text(), (inner / "b").read_text()) == ("a\n", "b\n")
    assert not list((lab.state / container.name / "workspace").iterdir())
