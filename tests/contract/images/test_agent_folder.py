"""What agent.Dockerfile puts into /opt/onmemos, put together here with this machine's Python, and started there."""

import asyncio
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from infra.workspace import assemble
from shared.agent import HttpAgents
from shared.cloud_run_jobs import RUNNER
from shared.models import Command, ProviderName
from shared.tickets import Tickets, new_private_key
from shared.wiring import utc_now
from tests.contract.images.rig import PROGRAMS, Root, assembled, contains, relocatable_python
from tests.fakes import MemoryProvider, a_session

SOON_S = 20.0
SOCKET = "/run/onmemos/agent.sock"
KEY = new_private_key()
in_a_container = pytest.mark.skipif(not contains(), reason="this machine allows no user namespaces")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assembled(tmp_path_factory.mktemp("image"))


@pytest.fixture
def root(folder: Path, tmp_path: Path) -> Iterator[Root]:
    (tmp_path / "workspace").mkdir()
    with tempfile.TemporaryDirectory() as short:  # a socket's path has 107 bytes
        yield Root(folder, tmp_path / "workspace", Path(short))


def environment(**changes: str) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "WORKSPACE_ID": a_session().id,
        "ONMEMOS_TICKET_KEYS": Tickets(KEY, clock=utc_now).public_keys(),
        "ONMEMOS_AGENT_SOCKET": SOCKET,
        **changes,
    }


@asynccontextmanager
async def running(root: Root, *, as_root: bool = False, **changes: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The image's entry point, once it listens."""
    command = root.command(str(PROGRAMS / "agent"), env=environment(**changes), as_root=as_root)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(SOON_S):
            assert process.stderr is not None
            async for line in process.stderr:
                if b"agent serves" in line:
                    break
            assert (root.sockets / "agent.sock").is_socket()  # bound before it is told
            yield process
    finally:
        if process.returncode is None:
            # Whoever gave root up no longer ends with its parent: prctl(2), PR_SET_PDEATHSIG.
            for pid in pids_inside(process):
                os.kill(pid, signal.SIGKILL)
            process.kill()
        async with asyncio.timeout(SOON_S):
            await process.wait()


def pids_inside(process: asyncio.subprocess.Process) -> list[int]:
    """Bubblewrap's child, which is 1 inside; none if bubblewrap itself failed."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def status_of_the_agent(process: asyncio.subprocess.Process) -> str:
    return Path(f"/proc/{pids_inside(process)[0]}/status").read_text()


def health(root: Root) -> subprocess.CompletedProcess[str]:
    command = root.command(str(PROGRAMS / "health"), env=environment())
    return subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)


def test_it_is_small(folder: Path) -> None:
    assert assemble.size_of(folder) < assemble.LIMIT_BYTES < 120_000_000


def test_nothing_that_builds_or_was_only_cached_is_left(folder: Path) -> None:
    left = {path.name for path in folder.rglob("*")}
    unwanted = {"pip", "setuptools", "wheel", "uv", "ensurepip", "idlelib", "tkinter", "test", "include", ".cache"}
    assert not left & unwanted
    assert not [name for name in left if name.endswith((".a", ".whl"))]


def test_nobody_but_root_may_write_there_and_everybody_may_read(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        assert path.is_symlink() or (mode & 0o022 == 0 and mode & 0o444 == 0o444), path
    programs = {path.name: path.stat().st_mode & 0o777 for path in (folder / "bin").iterdir()}
    assert programs == {"agent": 0o755, "health": 0o755}


def test_the_packages_are_those_of_the_requirements_and_no_others(folder: Path) -> None:
    lines = (Path(assemble.__file__).parent / "requirements.txt").read_text().splitlines()
    wanted = {line.lower().replace("==", "-") for line in lines if not line.startswith("#")}
    found = {path.name.removesuffix(".dist-info").lower() for path in (folder / "site-packages").glob("*.dist-info")}
    assert found == wanted


def test_every_module_is_compiled_for_good(folder: Path) -> None:
    """Nobody may write there, so what is not compiled now is compiled anew at every start."""
    for source in (folder / "agent").glob("*.py"):
        compiled = list((folder / "agent" / "__pycache__").glob(f"{source.stem}.*.pyc"))
        assert len(compiled) == 1
        assert compiled[0].read_bytes()[4:8] == b"\x01\0\0\0", "PEP 552: unchecked hash"


@in_a_container
async def test_it_serves_as_pid_1_and_ends_in_order(root: Root) -> None:
    session = a_session(url="http://agent")
    assert health(root).returncode == 1
    async with running(root, HOME="/") as process:
        assert health(root).returncode == 0
        connector = aiohttp.UnixConnector(str(root.sockets / "agent.sock"))
        async with aiohttp.ClientSession(connector=connector) as client:
            agents = HttpAgents(client, Tickets(KEY, clock=utc_now), {ProviderName.CLOUD_RUN: MemoryProvider()})
            said = await agents.execute(
                session, Command(argv=("/bin/sh", "-c", "echo $PPID; pwd; echo $HOME; id -u; env"))
            )
        pid, place, home, uid, *variables = said.stdout.splitlines()
        assert (pid, place, home, uid) == ("1", "/workspace", "/workspace", "1000")
        assert not [line for line in variables if line.startswith(("PYTHON", "ONMEMOS_", "PORT="))]
        os.kill(pids_inside(process)[0], signal.SIGTERM)
        assert await process.wait() == 0
    assert health(root).returncode == 1


@in_a_container
def test_a_wrong_environment_is_told(root: Root) -> None:
    command = root.command(str(PROGRAMS / "agent"), env={})
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)
    assert (done.returncode, done.stderr) == (2, "agent: WORKSPACE_ID is None; wanted the session's id\n")


@in_a_container
def test_a_work_folder_that_cannot_be_made_is_told(root: Root) -> None:
    command = root.command(str(PROGRAMS / "agent"), env=environment(ONMEMOS_AGENT_WORKDIR="/opt/onmemos/there"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("agent: /opt/onmemos/there cannot be made ready for user 1000: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up root: wants it")
async def test_in_an_image_that_runs_as_root_it_makes_the_work_folder_and_gives_root_up(root: Root) -> None:
    root.sockets.chmod(0o777)
    async with running(root, as_root=True, ONMEMOS_AGENT_WORKDIR="/run/onmemos/made") as process:
        status = status_of_the_agent(process)
        assert re.findall(r"^(?:Uid|Gid|Groups|CapEff):[ \t]*(.*?)[ \t]*$", status, re.MULTILINE) == [
            "\t".join(["1000"] * 4), "\t".join(["1000"] * 4), "", "0" * 16,
        ]  # fmt: skip
        assert (root.sockets / "made").stat().st_uid == 1000


@in_a_container
def test_the_job_runner_starts_in_it(root: Root) -> None:
    job = root.workspace / "job"
    job.mkdir()
    command: dict[str, object] = {
        "command": "echo $0 done",
        "argv": None,
        "env": {},
        "cwd": "/workspace",
        "timeout_s": 10,
    }
    (job / "command.json").write_text(json.dumps(command))
    subprocess.run(root.command(*RUNNER, "/workspace/job", env={}), timeout=SOON_S, check=True)
    assert (job / "0" / "stdout-000000.log").read_text() == "/bin/sh done\n"
    assert json.loads((job / "0" / "result.json").read_text())["returncode"] == 0


def test_two_programs_of_an_interpreter_are_refused(tmp_path: Path) -> None:
    interpreter = relocatable_python(tmp_path / "python")
    (interpreter / "bin" / "python3.99").touch()
    with pytest.raises(assemble.AssemblyError, match=r"python3\.99.*; wanted one program"):
        assemble.copy_interpreter(interpreter, tmp_path / "there")
