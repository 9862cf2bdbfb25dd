"""The agent at its limits and as the first process of a container: no room for a process, orphans to reap."""

import asyncio
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.agent.rig import ALONE, Agent, running, unshares, until

QUIET_LOOKS, LOOK_S = 20, 0.01
NOBODY = 64_321  # a user that owns nothing: the kernel does not count root's processes
# Imports what the agent needs, becomes another user (it may not read the interpreter's folder any more), then serves.
# It takes its own room for processes away on SIGUSR1 and gives it back on SIGUSR2.
AS_NOBODY = """
import os, resource, signal, sys
sys.path.insert(0, os.getcwd())
import concurrent.futures.thread, encodings.idna, uvicorn.lifespan.off, uvicorn.protocols.http.httptools_impl
import agent.server, agent.tickets
from agent.__main__ import main
if os.getuid() == 0:
    os.setgroups([]); os.setgid({0}); os.setuid({0})
soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(resource.RLIMIT_NPROC, (0, hard)))
signal.signal(signal.SIGUSR2, lambda *_: resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard)))
sys.exit(main())
"""
AS_REAPER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans come to us, as to a pid 1
sys.path.insert(0, os.getcwd())
from agent.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A work folder that another user may use."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


async def test_without_room_for_a_process_nothing_is_run_and_the_answer_says_so(open_folder: Path) -> None:
    prefix = (sys.executable, "-c", AS_NOBODY.format(NOBODY))
    with running(open_folder, prefix=prefix) as agent:
        async with agent.client() as client:
            await client.run("true")
            agent.process.send_signal(signal.SIGUSR1)
            response = await client.post(command="touch ran")
            assert (response.status_code, response.json()["code"]) == (503, "workspace_exhausted")
            assert "no room for another process" in response.json()["detail"]
            agent.process.send_signal(signal.SIGUSR2)
            assert (await client.run("ls"))["stdout"] == ""


async def test_without_descriptors_nothing_is_run_and_none_is_lost(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        async with agent.client() as client:
            await client.run("true")
            before = agent.descriptors()
            _, hard = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (len(before) + 3, hard))
            for _ in range(3):
                response = await client.post(command="touch ran", stdin="x")
                assert (response.status_code, response.json()["code"]) == (503, "workspace_exhausted")
            resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (hard, hard))
            assert (await client.run("ls"))["stdout"] == ""
            assert len(agent.descriptors()) == len(before)


@pytest.mark.parametrize(("path", "needs"), [("/v1/shell", 8), ("/v1/terminal", 2)])
async def test_without_descriptors_there_is_no_shell_and_none_is_lost(tmp_path: Path, path: str, needs: int) -> None:
    with running(tmp_path) as agent:
        async with agent.websocket(path) as connection:
            await connection.recv()
        before = await _settled_descriptors(agent)
        free = [number for number in range(100) if number not in before]
        _, hard = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
        for room in range(1, needs):  # one, because asyncio cannot find that there is nobody to accept without
            await until(lambda: {*map(int, agent.descriptors())} <= before)
            resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (free[1 + room], hard))
            async with agent.websocket(path) as connection:
                await connection.wait_closed()
                assert connection.close_code == 1013
                assert "no room" in (connection.close_reason or "")
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (hard, hard))
        async with agent.websocket(path) as connection:
            await connection.recv()


async def _settled_descriptors(agent: Agent) -> set[int]:
    """Those that stay: a connection that is over closes its own in a moment that has no event here."""
    await until(lambda: not _children(agent))
    seen = {*map(int, agent.descriptors())}
    for _ in range(QUIET_LOOKS):
        await asyncio.sleep(LOOK_S)
        seen &= {*map(int, agent.descriptors())}
    return seen


async def test_orphans_are_reaped_and_take_no_commands_exit_code(tmp_path: Path) -> None:
    with running(tmp_path, prefix=(sys.executable, "-c", AS_REAPER)) as agent:
        async with agent.client() as client:
            commands = [client.run(f"(sleep 0.0{n % 10}; exit 9) & exit {n}") for n in range(60)]
            outcomes = await asyncio.gather(*commands)
            assert [outcome["returncode"] for outcome in outcomes] == list(range(60))
        await until(lambda: not _children(agent))


@pytest.mark.skipif(not unshares(), reason="needs user and pid namespaces")
async def test_as_pid_1_it_lets_the_background_clean_up(tmp_path: Path) -> None:
    with running(tmp_path, prefix=ALONE) as agent:
        async with agent.client() as client:
            trap = "trap 'touch cleaned; exit' TERM; touch ready; while :; do sleep 0.05; done"
            outcome = await client.run(
                f"({trap}) >/dev/null 2>&1 & while [ ! -e ready ]; do sleep 0.01; done; echo $PPID"
            )
            assert outcome["stdout"] == "1\n"
        (child,) = _children(agent)
        os.kill(child, signal.SIGTERM)
        assert await asyncio.to_thread(agent.process.wait, 10) == 0
        assert (tmp_path / "cleaned").exists()


def _children(agent: Agent) -> list[int]:
    """Zombies, too."""
    return list(map(int, Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()))
