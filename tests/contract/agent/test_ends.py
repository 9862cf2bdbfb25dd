"""How commands end, and what does not end with them: timeouts, the background, clients that go away, output floods."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.agent.rig import Agent, Client, alive, running, until

MB = 1_000_000
STORM = """
import os, sys, time
for _ in range(5): os.fork()
open(f"{sys.argv[1]}/{os.getpid()}.pid", "w").write(str(os.getpid()))
time.sleep(60)
"""


@pytest.fixture
def folder(agent: Agent, tmp_path: Path) -> Iterator[Path]:
    """A folder for the files by which commands tell of themselves; whoever left a pid there is killed at the end."""
    yield tmp_path
    for file in tmp_path.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(file.read_text()), signal.SIGKILL)


async def test_a_timeout_returns_what_was_printed_and_124(client: Client) -> None:
    outcome = await client.run("echo before; echo bad >&2; sleep 60; echo after", timeout=0.3)
    assert (outcome["stdout"], outcome["stderr"]) == ("before\n", "bad\n")
    assert (outcome["returncode"], outcome["timed_out"], outcome["success"]) == (124, True, False)
    assert 300 <= outcome["duration_ms"] < 1500


async def test_a_timeout_ends_the_whole_group(client: Client, folder: Path) -> None:
    await client.run(f"sh -c 'echo $$ > {folder}/a.pid; sleep 60' | cat & sleep 60", timeout=0.3)
    assert not alive(_pid(folder / "a.pid"))


async def test_a_timeout_lets_a_command_clean_up(client: Client) -> None:
    outcome = await client.run("trap 'echo bye; exit 0' TERM; sleep 60 & wait", timeout=0.3)
    assert (outcome["stdout"], outcome["returncode"], outcome["timed_out"]) == ("bye\n", 124, True)


async def test_who_ignores_term_is_killed_after_the_grace(client: Client, folder: Path) -> None:
    outcome = await client.run(f"trap '' TERM; echo $$ > {folder}/a.pid; while :; do sleep 1; done", timeout=0.2)
    assert outcome["timed_out"]
    assert 2000 <= outcome["duration_ms"] < 3500
    assert not alive(_pid(folder / "a.pid"))


@pytest.mark.parametrize("leave", ["timeout 60", "setsid --wait", "setsid --fork --wait"])
async def test_a_timeout_finds_those_that_left_the_group(client: Client, folder: Path, leave: str) -> None:
    await client.run(f"{leave} sh -c 'echo $$ > {folder}/a.pid; sleep 60; :'; :", timeout=0.4)
    assert not alive(_pid(folder / "a.pid"))


async def test_a_timeout_finds_background_jobs_with_groups_of_their_own(client: Client, folder: Path) -> None:
    argv = ["bash", "-c", f"set -m; sleep 60 & echo $! > {folder}/a.pid; wait"]
    await client.run(argv=argv, timeout=0.3)
    assert not alive(_pid(folder / "a.pid"))


async def test_a_daemon_that_left_before_the_timeout_lives_on(client: Client, folder: Path) -> None:
    """The documented limit: a session of its own, and no parent left to know it by."""
    command = f"setsid --fork sh -c 'echo $$ > {folder}/a.pid; sleep 60; :' >/dev/null 2>&1; sleep 60"
    await client.run(command, timeout=0.4)
    assert alive(_pid(folder / "a.pid"))


async def test_a_process_with_a_treacherous_name_is_found(client: Client, folder: Path) -> None:
    program = folder / "a) R 1 (x"
    shutil.copy("/bin/sleep", program)
    await client.run(f"'{program}' 60 & echo $! > {folder}/a.pid; wait", timeout=0.3)
    assert not alive(_pid(folder / "a.pid"))


async def test_a_fork_storm_is_ended(client: Client, folder: Path) -> None:
    await client.run(argv=["python3", "-c", STORM, str(folder)], timeout=1)
    pids = _pids(folder)
    assert len(pids) > 8
    assert not any(map(alive, pids))


async def test_a_background_child_that_holds_stdout_does_not_hang_the_answer(client: Client, folder: Path) -> None:
    outcome = await client.run(f"sleep 60 & echo $! > {folder}/a.pid; echo started")
    assert outcome["stdout"] == "started\n"
    assert outcome["duration_ms"] < 2000
    assert alive(_pid(folder / "a.pid"))


async def test_later_output_of_a_background_child_does_not_kill_it(client: Client, folder: Path) -> None:
    gate, done = folder / "gate", folder / "done"
    os.mkfifo(gate)
    writes = f"read x < {gate}; head -c 300000 /dev/zero; echo x && touch {done}"
    outcome = await client.run(f"({writes}) & echo started")
    assert outcome["stdout"] == "started\n"
    await asyncio.to_thread(gate.write_text, "go\n")
    await until(done.exists)


async def test_a_background_flood_neither_hangs_the_answer_nor_the_agent(
    client: Client, agent: Agent, folder: Path
) -> None:
    outcome = await client.run(f"yes & echo $! > {folder}/a.pid; echo started >&2")
    assert outcome["stderr"] == "started\n"
    assert len(outcome["stdout"]) < 4 * MB
    assert (await client.run("echo other"))["stdout"] == "other\n"
    assert alive(_pid(folder / "a.pid"))
    os.kill(_pid(folder / "a.pid"), signal.SIGKILL)
    await until(lambda: len(agent.descriptors()) < 20)


async def test_pipes_close_when_the_background_does(client: Client, agent: Agent, folder: Path) -> None:
    await client.run("true")  # the client's own connection is counted, too
    before = agent.descriptors()
    await client.run(f"sleep 60 & echo $! > {folder}/a.pid", stdin="x" * MB)
    assert len(agent.descriptors()) == len(before) + 2
    os.kill(_pid(folder / "a.pid"), signal.SIGKILL)
    await until(lambda: len(agent.descriptors()) == len(before))


async def test_each_stream_is_capped_and_the_command_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, {"ONMEMOS_AGENT_OUTPUT_LIMIT_BYTES": "1000"}) as agent:
        async with agent.client() as client:
            outcome = await client.run("head -c 1001 /dev/zero | tr '\\0' x; printf y >&2; touch finished")
            assert (len(outcome["stdout"]), outcome["stderr"]) == (1000, "y")
            assert (outcome["truncated"], outcome["returncode"]) == (True, 0)
            assert (tmp_path / "finished").exists()
            exact = await client.run("head -c 1000 /dev/zero")
            assert (len(exact["stdout"]), exact["truncated"]) == (1000, False)
            cut = await client.run("printf %999s; printf éé")
            assert (cut["stdout"].strip(" "), cut["truncated"]) == ("", True)


async def test_fifty_megabytes_are_capped_in_bounded_memory(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        async with agent.client() as client:
            await client.run("true")
            before = agent.resident_mb()
            outcome = await client.run(
                "head -c 50000000 /dev/zero | tr '\\0' '\\377' | tee /dev/stderr; echo $? > done"
            )
            assert outcome["truncated"]
            assert len(outcome["stdout"]) == len(outcome["stderr"]) == 10 * MB
            assert (tmp_path / "done").read_text() == "0\n"
            assert agent.peak_mb() - before < 30


async def test_a_client_that_goes_away_ends_its_command(client: Client, folder: Path) -> None:
    call = asyncio.create_task(client.run(f"echo $$ > {folder}/a.pid; sleep 60; :"))
    await until(lambda: bool(_read(folder / "a.pid")))
    call.cancel()
    await until(lambda: not alive(_pid(folder / "a.pid")))
    assert (await client.run("echo next"))["stdout"] == "next\n"


async def test_sigterm_ends_commands_and_answers_them(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        async with agent.client() as client:
            polite = asyncio.create_task(client.run("trap 'echo bye; exit 5' TERM; touch polite; sleep 60 & wait"))
            stubborn = asyncio.create_task(client.run("trap '' TERM; touch stubborn; while :; do sleep 1; done"))
            await until(lambda: (tmp_path / "polite").exists() and (tmp_path / "stubborn").exists())
            agent.process.terminate()
            assert ((await polite)["stdout"], (await polite)["returncode"]) == ("bye\n", 5)
            assert (await stubborn)["returncode"] == 137
        assert await asyncio.to_thread(agent.process.wait, 10) == 0
        assert not agent.socket.exists()


async def test_an_idle_agent_ends_at_once_on_sigint(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        async with agent.client() as client:
            await client.run("true")
            started = time.monotonic()
            agent.process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(agent.process.wait, 10) == 0
            assert time.monotonic() - started < 1.5


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _pid(file: Path) -> int:
    return int(file.read_text())


def _pids(folder: Path) -> list[int]:
    return [_pid(file) for file in folder.glob("*.pid")]
