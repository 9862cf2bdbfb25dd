"""HttpAgents against the real agent: a command's whole way, and each way in which it can fail."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

import infra.workspace
from shared.agent import HttpAgents
from shared.errors import InvalidRequest, WorkspaceLost, WorkspaceUnreachable
from shared.models import Command, ProviderName, Session
from shared.tickets import Tickets, new_private_key
from shared.wiring import utc_now
from tests.fakes import MemoryProvider, a_session

AGENT_HOME = Path(infra.workspace.__file__).parent


@dataclass
class Rig:
    """A running agent, its client, and the session it belongs to."""

    agents: HttpAgents
    session: Session
    process: asyncio.subprocess.Process


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    tickets = Tickets(new_private_key(), clock=utc_now)
    session = a_session(url="http://agent")
    socket = tmp_path / "agent.sock"
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(AGENT_HOME),
        "WORKSPACE_ID": session.id,
        "ONMEMOS_AGENT_SOCKET": str(socket),
        "ONMEMOS_AGENT_WORKDIR": str(tmp_path),
        "ONMEMOS_TICKET_KEYS": tickets.public_keys(),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "agent", env=env)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as client:
        agents = HttpAgents(client, tickets, {ProviderName.CLOUD_RUN: MemoryProvider()})
        for _ in range(500):
            try:
                await agents.boot_id(session)
                break
            except WorkspaceUnreachable:
                await asyncio.sleep(0.01)
        yield Rig(agents, session, process)
    if process.returncode is None:
        process.terminate()
        await process.wait()


async def test_a_command_comes_back_whole(rig: Rig) -> None:
    command = Command("cat; echo $A; pwd >&2; exit 3", stdin="in\n", env={"A": "x"})
    execution = await rig.agents.execute(rig.session, command)
    assert (execution.stdout, execution.returncode) == ("in\nx\n", 3)
    assert execution.boot_id == await rig.agents.boot_id(rig.session)
    assert not execution.timed_out


async def test_an_argument_vector_needs_no_quoting(rig: Rig) -> None:
    execution = await rig.agents.execute(rig.session, Command(argv=("printf", "%s|", "a b", "$HOME")))
    assert execution.stdout == "a b|$HOME|"


async def test_a_timeout_says_so(rig: Rig) -> None:
    execution = await rig.agents.execute(rig.session, Command("echo before; sleep 60", timeout_s=0.2))
    assert (execution.returncode, execution.timed_out, execution.stdout) == (124, True, "before\n")


async def test_the_agents_complaint_is_the_callers_fault(rig: Rig) -> None:
    with pytest.raises(InvalidRequest, match="no-such-folder"):
        await rig.agents.execute(rig.session, Command("ls", cwd="no-such-folder"))


async def test_a_ticket_of_another_session_opens_nothing(rig: Rig) -> None:
    with pytest.raises(WorkspaceLost, match="401"):
        await rig.agents.execute(replace(rig.session, id="ws-other-me-1756062811"), Command("ls"))


async def test_an_agent_that_dies_while_a_command_runs_leaves_it_open_whether_it_ran(rig: Rig) -> None:
    running = asyncio.create_task(rig.agents.execute(rig.session, Command("sleep 60")))
    await rig.agents.execute(rig.session, Command("true"))  # the first is under way by now
    os.kill(rig.process.pid, signal.SIGKILL)
    with pytest.raises(WorkspaceLost):
        await running
    with pytest.raises(WorkspaceUnreachable):
        await rig.agents.boot_id(rig.session)
    with pytest.raises(WorkspaceUnreachable):
        await rig.agents.execute(rig.session, Command("true"))
