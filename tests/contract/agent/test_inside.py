"""The agent where it lives: in a container, with the few packages it is given, isolated from everything else."""

import asyncio
import io
import json
import secrets
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from infra.sandbox.spec import ContainerSpec, Limits
from tests.contract.agent.rig import SESSION, SOON_S, Agent, jwk_set
from tests.contract.sandbox.conftest import MIB, opened, short_folder

__all__ = ["short_folder"]


@pytest.fixture(params=["bubblewrap", "gvisor"])
async def agent(request: pytest.FixtureRequest, short_folder: Path) -> AsyncIterator[Agent]:
    """In a container of either kind; what it has of a process is only its socket."""
    async with opened(short_folder, kind=request.param) as lab:
        container = await lab.runtime.start(
            ContainerSpec(
                f"c-{secrets.token_hex(3)}",
                "python",
                env={"WORKSPACE_ID": SESSION, "ONMEMOS_TICKET_KEYS": jwk_set()},
                limits=Limits(memory_bytes=512 * MIB),
            )
        )
        agent = Agent(_nobody(), Path(container.socket), short_folder)
        async with asyncio.timeout(SOON_S), agent.client() as client:
            while True:
                try:
                    await client.http.get("/health")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.01)
        yield agent


def _nobody() -> subprocess.Popen[bytes]:
    """The container's processes are not ours to wait for."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process


async def test_a_shell_keeps_its_state_and_outlives_timeouts_and_interrupts(agent: Agent) -> None:
    async with agent.shell() as shell:
        assert (shell.welcome["shell"], shell.welcome["cwd"]) == ("bash", "/workspace")
        await shell.run("a=kept; cd /tmp; sleep 300 & echo $! > /tmp/background; sleep 0.1")
        assert (await shell.run("sleep 60; echo no", timeout=0.5))["returncode"] == 124
        await shell.send("command", command="sleep 60; echo no")
        await shell.send("interrupt")
        assert (await shell.next())["returncode"] == 130
        result = await shell.run("echo $a; kill -0 $(cat /tmp/background) && echo alive")
        assert (result["stdout"], result["cwd"]) == ("kept\nalive\n", "/tmp")


async def test_a_terminal_is_one(agent: Agent) -> None:
    async with agent.websocket("/v1/terminal?rows=33&cols=99") as connection, asyncio.timeout(SOON_S):
        await connection.send(b"tty; stty size; exit 3\n")
        shown = b""
        while isinstance(message := await connection.recv(), bytes):
            shown += message
        assert b"/dev/pts/" in shown
        assert b"33 99" in shown
        assert json.loads(message) == {"type": "exit", "returncode": 3}


async def test_what_the_container_came_with_is_not_the_sessions_business(agent: Agent) -> None:
    async with agent.client() as client, asyncio.timeout(SOON_S):

        async def idle_s() -> float:
            return float((await client.http.get("/health")).json()["idle_s"])

        assert await idle_s() > 0
        await client.run("sleep 60 >/dev/null 2>&1 & true")
        assert await idle_s() == 0


async def test_a_session_is_frozen_and_its_files_are_taken_away(agent: Agent) -> None:
    async with agent.client() as client:
        await client.run("mkdir -m 555 closed; (while :; do echo >> log; sleep 0.002; done) >/dev/null 2>&1 &")
        await client.run("setsid -f sh -c 'while :; do echo >> daemon; sleep 0.002; done' >/dev/null 2>&1; sleep 0.2")
        frozen = await client.ask("POST", "/v1/freeze", json={"lease_s": 60})
        assert frozen.json()["processes"] >= 2
        first, second = [(await client.ask("GET", "/v1/workspace")).content for _ in range(2)]
        assert first == second
        with tarfile.open(fileobj=io.BytesIO(first)) as tar:
            assert {"closed", "log", "daemon"} <= set(tar.getnames())
        await client.ask("POST", "/v1/thaw")
        await client.run("before=$(wc -c < daemon); while [ $(wc -c < daemon) = $before ]; do sleep 0.01; done")
