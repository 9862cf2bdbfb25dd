"""Processes of the stack: real ones, started, watched and ended; and the guard that ends them when nobody else can."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.local.children import ChildFailed, Children, Program, rotate

PATIENCE_S = 15


def program(script: str, name: str = "child") -> Program:
    return Program(name, ["/bin/sh", "-c", script], {"PATH": os.environ["PATH"]}, Path("/"))


async def test_a_child_says_when_it_is_ready_and_ends_with_the_others(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        child = await children.start(program("read word; echo got $word; exec cat"))
        await child.tell(b"hello")
        assert await child.line() == b"got hello\n"
    assert not psutil.pid_exists(child.pid)
    assert (tmp_path / "child.log").read_text() == "got hello\n"


async def test_a_child_that_ends_by_itself_is_named_with_its_code_and_its_last_words(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        await children.start(program("exec cat", "lasting"))
        await children.start(program("echo out; echo why >&2; exit 7", "failing"))
        failure = await asyncio.wait_for(children.first_failure(), PATIENCE_S)
    assert str(failure).startswith("failing ended by itself (exit code 7)")
    assert "  why" in str(failure)


async def test_a_child_that_is_never_ready_fails_instead_of_hanging(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        child = await children.start(program("kill -SEGV $$"))
        with pytest.raises(ChildFailed, match="SIGSEGV"):
            await asyncio.wait_for(child.line(), PATIENCE_S)


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        with pytest.raises(ChildFailed, match="/no/such"):
            await children.start(Program("x", ["/no/such"], {}, Path("/")))


async def test_a_child_that_does_not_listen_is_killed_after_its_grace(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        child = await children.start(program("trap '' TERM; echo deaf; cat; while :; do sleep 60; done"))
        await child.line()
        await child.stop(grace_s=0.1)
        assert not psutil.pid_exists(child.pid)


async def test_what_a_child_forgot_ends_too(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        child = await children.start(program("sleep 600 & echo $!; exec cat"))
        forgotten = psutil.Process(int(await child.line()))
    assert forgotten.wait(PATIENCE_S) in {None, -signal.SIGKILL}


HOLDER = """
import asyncio, sys
from pathlib import Path
from infra.local.children import Children, Program
async def main(folder):
    async with Children(folder, [folder / "leftover"]) as children:
        child = await children.start(Program("child", ["/bin/sh", "-c", "echo; exec sleep 600"], {}, Path("/")))
        await child.line()
        print(child.pid, children._guard.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main(Path(sys.argv[1])))
"""


def test_when_their_parent_is_killed_all_of_them_end(tmp_path: Path) -> None:
    (tmp_path / "leftover").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        pids = [int(word) for word in holder.stdout.readline().split()]
        processes = [psutil.Process(pid) for pid in pids]
        holder.kill()
        _, alive = psutil.wait_procs(processes, PATIENCE_S)
    assert not alive
    assert not (tmp_path / "leftover").exists()


def test_logs_of_former_starts_are_kept_for_a_while(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for number in range(6):
        rotate(log)
        log.write_text(str(number))
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"a.log": "5", "a.log.1": "4", "a.log.2": "3", "a.log.3": "2"}
