"""The terminal over a WebSocket: a real pseudo-terminal, bytes both ways."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection

from tests.contract.agent.rig import SOON_S, Agent, alive, running, until

KEPT_BYTES = 4096  # of what was shown before the text that is waited for


@dataclass
class Terminal:
    """The client's side of /v1/terminal; `shown` is all that has not been waited for yet."""

    connection: ClientConnection
    shown: bytes = b""

    async def type(self, text: str) -> None:
        await self.connection.send(text.encode())

    async def sees(self, text: str) -> bytes:
        """Wait until the text is shown; what came before it, and it."""
        wanted = text.encode()
        async with asyncio.timeout(SOON_S):
            while wanted not in self.shown:
                message = await self.connection.recv()
                assert isinstance(message, bytes), message
                self.shown = self.shown[-KEPT_BYTES:] + message
        before, _, self.shown = self.shown.partition(wanted)
        return before + wanted

    async def exit(self) -> int:
        """The code of the exit frame, which is the last one."""
        async with asyncio.timeout(SOON_S):
            while isinstance(message := await self.connection.recv(), bytes):
                self.shown += message
            await self.connection.wait_closed()
        frame = json.loads(message)
        assert frame.pop("type") == "exit"
        return int(frame["returncode"])


@asynccontextmanager
async def terminal_of(agent: Agent, query: str = "") -> AsyncIterator[Terminal]:
    """A terminal whose prompt says $; every command line prints what it is to be known by in two parts."""
    async with agent.websocket(f"/v1/terminal{query}") as connection:
        terminal = Terminal(connection)
        await terminal.type("bind 'set enable-bracketed-paste off'; PS1='$ '; echo rea''dy\n")
        await terminal.sees("ready\r\n$ ")
        yield terminal


@pytest.fixture
async def terminal(agent: Agent) -> AsyncIterator[Terminal]:
    async with terminal_of(agent) as terminal:
        yield terminal


async def test_it_is_a_terminal_that_controls_its_shell(terminal: Terminal) -> None:
    await terminal.type("tty; cat /proc/$$/stat | cut -d' ' -f 5,6,7,8; echo $TERM $-; echo e''nd\n")
    shown = await terminal.sees("end\r\n")
    assert b"/dev/pts/" in shown
    (numbers,) = (line.split() for line in shown.splitlines() if line.count(b" ") == 3 and line[:1].isdigit())
    group, session, device, foreground = map(int, numbers)
    assert group == session
    assert device != 0
    assert foreground > 0
    assert b"xterm-256color" in shown


async def test_it_starts_in_the_work_folder_with_the_sessions_environment(terminal: Terminal, agent: Agent) -> None:
    await terminal.type("pwd; echo <$WORKSPACE_ID>$NAMESPACE.; echo e''nd\n")
    shown = await terminal.sees("end\r\n")
    assert str(agent.folder).encode() in shown


async def test_it_has_the_size_that_the_url_asks_for_and_80_by_24_else(agent: Agent, terminal: Terminal) -> None:
    await terminal.type("stty size\n")
    await terminal.sees("\n24 80\r\n")
    async with terminal_of(agent, "?rows=50&cols=132") as other:
        await other.type("stty size\n")
        await other.sees("\n50 132\r\n")


async def test_a_resize_is_seen_and_told(terminal: Terminal) -> None:
    await terminal.type("trap 'echo wi''nch' WINCH; echo s''et\n")
    await terminal.sees("set\r\n")
    await terminal.connection.send(json.dumps({"type": "resize", "rows": 40, "cols": 100}))
    await terminal.type("\n")
    await terminal.sees("winch\r\n")
    await terminal.type("stty size\n")
    await terminal.sees("\n40 100\r\n")


@pytest.mark.parametrize("query", ["?rows=0", "?rows=x", "?cols=70000", "?cols=-1", "?rows=9999999999"])
async def test_a_size_that_is_none_is_told_and_closed(agent: Agent, query: str) -> None:
    async with agent.websocket(f"/v1/terminal{query}") as connection:
        async with asyncio.timeout(SOON_S):
            await connection.wait_closed()
        assert connection.close_code == 1008
        assert query[1:5] in (connection.close_reason or "")


@pytest.mark.parametrize("frame", ["{", "[]", "{}", '{"type": "resize"}', '{"type": "resize", "rows": 1, "cols": "2"}'])
async def test_a_text_frame_that_is_not_understood_is_an_error_and_the_terminal_lives(
    terminal: Terminal, frame: str
) -> None:
    await terminal.connection.send(frame)
    async with asyncio.timeout(SOON_S):
        answer = json.loads(await terminal.connection.recv())
    assert answer["type"] == "error"
    assert answer["detail"]
    await terminal.type("echo li''ves\n")
    await terminal.sees("lives\r\n")


async def test_ctrl_c_interrupts_and_ctrl_d_ends(terminal: Terminal) -> None:
    await terminal.type("sh -c 'echo st\"\"art; exec sleep 60'; echo n''o\n")
    await terminal.sees("start\r\n")
    await terminal.type("\x03")
    await terminal.sees("$ ")
    await terminal.type("echo co''de $?\n")
    assert b"no\r\n" not in await terminal.sees("code 130\r\n$ ")
    await terminal.type("\x04")
    assert await terminal.exit() == 0


async def test_jobs_stop_and_go_on(terminal: Terminal) -> None:
    await terminal.type("echo st''art; cat\n")
    await terminal.sees("start\r\n")
    await terminal.type("first\n")
    await terminal.sees("first\r\nfirst\r\n")
    await terminal.type("\x1a")
    await terminal.sees("Stopped")
    await terminal.sees("$ ")
    await terminal.type("fg\n")
    await terminal.sees("cat\r\n")
    await terminal.type("second\n")
    await terminal.sees("second\r\nsecond\r\n")


async def test_the_exit_code_is_told_last(terminal: Terminal) -> None:
    await terminal.type("echo by''e; exit 3\n")
    assert await terminal.exit() == 3
    assert b"bye\r\n" in terminal.shown
    assert terminal.connection.close_code == 1000


async def test_all_that_was_printed_before_the_exit_is_shown(terminal: Terminal) -> None:
    await terminal.type('exec python3 -c \'print("x" * 200_000 + "e" + "nd")\'\n')
    assert await terminal.exit() == 0
    assert terminal.shown.count(b"x") >= 200_000
    assert b"end\r\n" in terminal.shown


async def test_input_larger_than_the_terminal_takes_arrives(terminal: Terminal, agent: Agent) -> None:
    await terminal.type("stty raw -echo; echo be''gin; head -c 300000 | wc -c > size; stty sane; echo coun''ted\n")
    await terminal.sees("begin")
    await terminal.type("y" * 300_000)
    await terminal.sees("counted")
    assert (agent.folder / "size").read_text().strip() == "300000"


async def test_bytes_that_are_no_text_go_through(terminal: Terminal) -> None:
    await terminal.type("printf '\\377\\000\\001|'; echo e''nd\n")
    assert b"\xff\x00\x01|" in await terminal.sees("end\r\n")


async def test_closing_hangs_up(agent: Agent, tmp_path: Path) -> None:
    async with terminal_of(agent) as terminal:
        await terminal.type(f"echo $$ > {tmp_path}/shell; sleep 60 & echo $! > {tmp_path}/background\n")
        await terminal.type(f"sh -c 'echo $$ > {tmp_path}/foreground; sleep 60; :'\n")
        await until(lambda: (tmp_path / "foreground").exists() and bool((tmp_path / "foreground").read_text()))
    for name in ("shell", "background", "foreground"):
        pid = int((tmp_path / name).read_text())
        await until(lambda pid=pid: not alive(pid))  # type: ignore[misc]


async def test_a_background_that_keeps_the_terminal_does_not_keep_the_connection(
    terminal: Terminal, tmp_path: Path
) -> None:
    await terminal.type(f"setsid sh -c 'echo $$ > {tmp_path}/pid; trap \"\" HUP TERM; while :; do echo y; done' &\n")
    await until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    try:
        await terminal.type("exit 5\n")
        assert await terminal.exit() == 5
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_a_client_that_does_not_read_costs_no_memory(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        async with terminal_of(agent) as terminal:
            before = agent.resident_mb()
            await terminal.type("touch started; head -c 8000000 /dev/zero | tr '\\0' x; touch done; echo e''nd\n")
            await until((tmp_path / "started").exists)
            async with agent.client() as client:
                await client.run("sleep 0.5")
            assert not (tmp_path / "done").exists()
            assert agent.peak_mb() - before < 6
            await terminal.sees("end\r\n")
            await until((tmp_path / "done").exists)
