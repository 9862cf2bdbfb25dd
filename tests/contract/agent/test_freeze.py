"""Freezing and thawing: nothing of the session moves in between, and nothing is different afterwards."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.agent.rig import ALONE, SOON_S, Agent, Client, running, unshares, until

pytestmark = pytest.mark.skipif(not unshares(), reason="needs user and pid namespaces")
GROW = "while :; do echo >> {0}; sleep 0.002; done"
# A program whose first thread has ended: to /proc it is a zombie, and works on.
HEADLESS = """
import ctypes, threading, time
def work():
    while True:
        with open("threads", "a") as file: file.write("x")
        time.sleep(0.002)
threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)
"""
LOOKS = 30


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with running(tmp_path_factory.mktemp("workspace"), prefix=ALONE) as agent:
        yield agent


@pytest.fixture
async def frozen(client: Client) -> AsyncIterator[Client]:
    """A client that leaves neither a freeze nor a process."""
    yield client
    await client.ask("POST", "/v1/thaw")
    await client.run("kill -KILL -1 2>/dev/null; true")


async def freeze(client: Client, lease_s: float = 60) -> int:
    answer = await client.ask("POST", "/v1/freeze", json={"lease_s": lease_s})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["processes"])


async def moves(file: Path) -> bool:
    """Whether somebody writes to it; a freeze has no event."""
    before = _size(file)
    for _ in range(LOOKS):
        await asyncio.sleep(0.005)
        if _size(file) != before:
            return True
    return False


def _inside(agent: Agent) -> int:
    """The agent's own pid; what was started is unshare."""
    return int(Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text())


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


async def test_all_stand_still_and_go_on(frozen: Client, agent: Agent) -> None:
    files = [agent.folder / name for name in ("child", "daemon", "grandchild", "threads")]
    inner = GROW.format("grandchild")
    for line in (
        f"({GROW.format('child')}) & :",
        f"setsid sh -c '{GROW.format('daemon')}' & :",
        f"sh -c '({inner}) & wait' & :",
        f"{sys.executable} -c '{HEADLESS}' & :",
    ):
        await frozen.run(f"exec >/dev/null 2>&1; {line}")
    await until(lambda: all(map(_size, files)))
    assert await freeze(frozen) >= 5
    health = (await frozen.http.get("/health")).json()
    assert (health["frozen"], health["idle_s"]) == (True, 0)
    for file in files:
        assert not await moves(file)
    thawed = (await frozen.ask("POST", "/v1/thaw")).json()
    assert thawed["processes"] >= 5
    assert not (await frozen.http.get("/health")).json()["frozen"]
    for file in files:
        assert await moves(file)
    assert (await frozen.ask("POST", "/v1/thaw")).json() == {"processes": 0}


async def test_nothing_is_started_meanwhile(frozen: Client, agent: Agent) -> None:
    await freeze(frozen)
    answer = await frozen.post(command="touch ran")
    assert (answer.status_code, answer.json()["code"]) == (503, "frozen")
    for path in ("/v1/shell", "/v1/terminal"):
        async with agent.websocket(path) as connection:
            await connection.wait_closed()
            assert connection.close_code == 1013
    await frozen.ask("POST", "/v1/thaw")
    assert not (agent.folder / "ran").exists()


async def test_a_command_and_a_shell_wait_and_then_go_on(frozen: Client, agent: Agent) -> None:
    async with agent.shell() as shell:
        await shell.run("kept=kept")
        command = asyncio.create_task(
            frozen.run("echo begun > begun; while [ ! -e go ]; do sleep 0.01; done; echo done")
        )
        await until((agent.folder / "begun").exists)
        await freeze(frozen)
        (agent.folder / "go").touch()
        await shell.send("command", command="echo $kept")
        done, _ = await asyncio.wait({command}, timeout=0.2)
        assert not done
        await frozen.ask("POST", "/v1/thaw")
        assert (await command)["stdout"] == "done\n"
        assert (await shell.next())["stdout"] == "kept\n"


async def test_a_timeout_is_not_enforced_before_the_thaw(frozen: Client, agent: Agent) -> None:
    command = asyncio.create_task(
        frozen.run(f"trap 'echo bye; exit' TERM; ({GROW.format('timed')}) & while :; do sleep 0.01; done", timeout=0.5)
    )
    await until((agent.folder / "timed").exists)
    count = await freeze(frozen)
    done, _ = await asyncio.wait({command}, timeout=0.8)
    assert not done
    assert await freeze(frozen) == count
    await frozen.ask("POST", "/v1/thaw")
    outcome = await command
    assert (outcome["timed_out"], outcome["stdout"]) == (True, "bye\n")


async def test_what_stood_before_stands_afterwards(frozen: Client, agent: Agent) -> None:
    state = "sed 's/.*) //' /proc/$pid/stat | cut -c1"
    outcome = await frozen.run(
        f"sleep 60 >/dev/null 2>&1 & pid=$!; kill -STOP $pid; until [ $({state}) = T ]; do sleep 0.01; done; echo $pid"
    )
    pid = outcome["stdout"].strip()
    await freeze(frozen)
    await frozen.ask("POST", "/v1/thaw")
    assert (await frozen.run(f"pid={pid}; {state}"))["stdout"] == "T\n"


async def test_a_program_in_a_terminal_keeps_it(frozen: Client, agent: Agent) -> None:
    """A shell with job control that saw its child stopped would take the terminal back."""
    async with agent.websocket("/v1/terminal") as connection, asyncio.timeout(SOON_S):
        await connection.send(b"echo rea''dy; cat; echo sta''tus $?\n")
        shown = b""
        while b"ready" not in shown:
            shown += await connection.recv(decode=False)
        await connection.send(b"one\n")
        while b"one\r\none" not in shown:
            shown += await connection.recv(decode=False)
        for _ in range(5):
            await freeze(frozen)
            await frozen.ask("POST", "/v1/thaw")
        await connection.send(b"two\n\x04")
        while b"status" not in shown:
            shown += await connection.recv(decode=False)
        assert b"two\r\ntwo\r\nstatus 0" in shown
        assert b"Stopped" not in shown


async def test_who_forks_while_being_stopped_is_stopped(frozen: Client, agent: Agent) -> None:
    for _ in range(4):
        await frozen.run("while :; do (echo >> forks) & wait; done >/dev/null 2>&1 &")
    await until((agent.folder / "forks").exists)
    for _ in range(5):
        await freeze(frozen)
        assert not await moves(agent.folder / "forks")
        await frozen.ask("POST", "/v1/thaw")
        assert await moves(agent.folder / "forks")


async def test_a_lease_that_is_over_lets_all_go_on(frozen: Client, agent: Agent) -> None:
    await frozen.run(f"({GROW.format('leased')}) >/dev/null 2>&1 &")
    await until((agent.folder / "leased").exists)
    await freeze(frozen, 60)
    await freeze(frozen, 0.1)
    before = _size(agent.folder / "leased")
    await until(lambda: _size(agent.folder / "leased") != before)
    assert not (await frozen.http.get("/health")).json()["frozen"]


async def test_a_frozen_agent_that_is_stopped_lets_commands_clean_up(tmp_path: Path) -> None:
    with running(tmp_path, prefix=ALONE) as agent:
        async with agent.client() as client:
            trap = "trap 'touch cleaned; exit 0' TERM; touch ready; while :; do sleep 0.01; done"
            command = asyncio.create_task(client.run(trap))
            await until((tmp_path / "ready").exists)
            await freeze(client)
            os.kill(_inside(agent), signal.SIGTERM)
            assert await asyncio.to_thread(agent.process.wait, 10) == 0
            assert (await command)["success"]
        assert (tmp_path / "cleaned").exists()


@pytest.mark.parametrize(
    "body", ["{", "[]", json.dumps({"lease_s": 0}), json.dumps({"lease_s": "1"}), '{"lease_s": 3601}']
)
async def test_a_lease_that_is_none_is_refused(frozen: Client, body: str) -> None:
    answer = await frozen.ask("POST", "/v1/freeze", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert not (await frozen.http.get("/health")).json()["frozen"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/freeze"), ("POST", "/v1/thaw"), ("GET", "/v1/workspace")])
async def test_none_of_this_without_a_ticket_or_for_another_boot(client: Client, method: str, path: str) -> None:
    assert (await client.http.request(method, path)).status_code == 401
    answer = await client.ask(method, path, headers={"X-Boot-Id": "0"})
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_boot")
