"""HttpAgents against the real agent: a command's whole way, and each way in which it can fail."""

import asyncio
import io
import os
import signal
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

import infra.workspace
from shared.agent import HttpAgents
from shared.errors import InvalidRequest, ProviderUnavailable, WorkspaceExhausted, WorkspaceLost, WorkspaceUnreachable
from shared.models import Command, ProviderName, Session
from shared.tickets import Tickets, new_private_key
from shared.wiring import utc_now
from shared.work_folder import PART_BYTES, WorkFolder
from tests.contract.agent.rig import ALONE, UNSHARE, unshares
from tests.fakes import MemoryProvider, a_session

AGENT_HOME = Path(infra.workspace.__file__).parent
KEY = new_private_key()
MIB = 1 << 20


@dataclass
class Rig:
    """A running agent, its client, and the session it belongs to; `folder` is its work folder."""

    agents: HttpAgents
    session: Session
    process: asyncio.subprocess.Process
    folder: Path


@asynccontextmanager
async def running(
    folder: Path, prefix: tuple[str, ...] = (sys.executable, "-m", "agent"), **environment: str
) -> AsyncIterator[Rig]:
    tickets = Tickets(KEY, clock=utc_now)
    session = a_session(url="http://agent")
    with tempfile.TemporaryDirectory() as short:
        socket = Path(short) / "agent.sock"
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(AGENT_HOME),
            "WORKSPACE_ID": session.id,
            "ONMEMOS_AGENT_SOCKET": str(socket),
            "ONMEMOS_AGENT_WORKDIR": str(folder),
            "ONMEMOS_TICKET_KEYS": tickets.public_keys(),
            **environment,
        }
        process = await asyncio.create_subprocess_exec(*prefix, env=env)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as client:
            agents = HttpAgents(client, tickets, {ProviderName.CLOUD_RUN: MemoryProvider()})
            for _ in range(500):
                try:
                    await agents.boot_id(session)
                    break
                except WorkspaceUnreachable:
                    await asyncio.sleep(0.01)
            yield Rig(agents, session, process, folder)
        if process.returncode is None:
            process.kill()  # unshare ignores SIGTERM
            await process.wait()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


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


ISOLATED = pytest.mark.skipif(not unshares(), reason="needs namespaces")


async def pieces(tar: bytes, *, size: int = 1_000_003, fault: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(tar), size):
        yield tar[start : start + size]
    if fault:
        raise fault


async def archived(rig: Rig) -> bytes:
    return b"".join([piece async for piece in rig.agents.archive(rig.session)])


def contents(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        return {member.name: file.read() for member in members if (file := members.extractfile(member))}


@pytest.fixture(scope="module")
def tar() -> bytes:
    """One that takes several parts."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as members:
        for number in range(5):
            member = tarfile.TarInfo(f"file-{number}")
            member.size = 4 * MIB
            members.addfile(member, io.BytesIO(os.urandom(member.size)))
    return file.getvalue()


@ISOLATED
async def test_a_session_is_frozen_and_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, ALONE) as rig:
        await rig.agents.execute(rig.session, Command("sleep 60 >/dev/null 2>&1 & :"))
        assert await rig.agents.freeze(rig.session, 60) == 1
        assert await rig.agents.freeze(rig.session, 60) == 1
        with pytest.raises(WorkspaceUnreachable, match="frozen"):
            await rig.agents.execute(rig.session, Command("touch ran"))
        await rig.agents.thaw(rig.session)
        await rig.agents.thaw(rig.session)
        assert (await rig.agents.execute(rig.session, Command("ls"))).stdout == ""


async def test_files_go_and_come_once(rig: Rig, tar: bytes) -> None:
    assert len(tar) > 2 * PART_BYTES
    await rig.agents.restore(rig.session, "r1", pieces(tar))
    assert contents(await archived(rig)) == contents(tar)
    await rig.agents.execute(rig.session, Command("echo mine > file-0"))
    await rig.agents.restore(rig.session, "r1", pieces(tar))
    assert (rig.folder / "file-0").read_text() == "mine\n"
    with pytest.raises(WorkspaceLost, match="409"):
        await rig.agents.restore(rig.session, "r2", pieces(tar))


async def test_an_empty_folder_goes_and_comes(rig: Rig) -> None:
    tar = await archived(rig)
    (rig.folder / "of-the-image").touch()
    await rig.agents.restore(rig.session, "r", pieces(tar))
    assert list(rig.folder.iterdir()) == []


async def test_a_workspace_in_use_gets_no_other_files(rig: Rig, tar: bytes) -> None:
    await rig.agents.execute(rig.session, Command("echo mine > file"))
    with pytest.raises(WorkspaceLost, match="something has run"):
        await rig.agents.restore(rig.session, "r", pieces(tar))
    assert (rig.folder / "file").read_text() == "mine\n"


async def test_nothing_runs_on_half_the_files_and_a_new_try_begins_anew(rig: Rig, tar: bytes) -> None:
    with pytest.raises(ProviderUnavailable):
        await rig.agents.restore(rig.session, "r", pieces(tar, fault=ProviderUnavailable("the bucket is away")))
    with pytest.raises(WorkspaceUnreachable, match="files back"):
        await rig.agents.execute(rig.session, Command("touch file"))
    await rig.agents.restore(rig.session, "r", pieces(tar))
    assert contents(await archived(rig)) == contents(tar)


async def test_what_is_no_tar_is_no_restore(rig: Rig) -> None:
    for broken in (b"x" * 1024, b"", bytes(512)):
        with pytest.raises(WorkspaceLost, match="400"):
            await rig.agents.restore(rig.session, "r", pieces(broken))


class Cutting:
    """Lets a connection to the agent break after so many bytes of a request, each time once."""

    def __init__(self, socket: str, after: list[int]) -> None:
        self._agent = socket
        self._after = after

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(self._agent)
        answers = asyncio.create_task(self._pass_on(theirs, writer, None))
        await self._pass_on(reader, ours, self._after.pop(0) if self._after else None)
        await answers

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
        size = 0
        while chunk := await reader.read(65_536):
            size += len(chunk)
            writer.write(chunk)
            if limit is not None and size > limit:
                break
            await writer.drain()
        writer.close()


class Overtaking(Cutting):
    """The agent gets the beginning of the first part again on a connection that stays, while it is under way."""

    def __init__(self, socket: str) -> None:
        super().__init__(socket, [])
        self.late: asyncio.StreamWriter

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(self._agent)
        answers = asyncio.create_task(self._pass_on(theirs, writer, None))
        if not hasattr(self, "late"):
            start = await reader.read(65_536)
            ours.write(start)
            await ours.drain()
            while b"\r\n\r\n" not in start or len(start) < 65_536:
                start += (more := await reader.read(65_536))
                ours.write(more)
            await ours.drain()
            _, self.late = await asyncio.open_unix_connection(self._agent)
            self.late.write(start)
            await self.late.drain()
        await self._pass_on(reader, ours, None)
        await answers


@pytest.mark.parametrize("after", [[10_000], [3 * MIB, 2 * MIB, 4 * MIB], [PART_BYTES + MIB]])
async def test_a_part_that_breaks_off_goes_on_where_it_was(rig: Rig, tar: bytes, after: list[int]) -> None:
    agent = rig.agents.client.connector
    assert isinstance(agent, aiohttp.UnixConnector)
    with tempfile.TemporaryDirectory() as short:
        path = f"{short}/cutting.sock"
        cuts = list(after)
        server = await asyncio.start_unix_server(Cutting(agent.path, cuts).serve, path)
        async with server, aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as client:
            await replace(rig.agents, client=client).restore(rig.session, "r", pieces(tar))
        assert cuts == []
    assert contents(await archived(rig)) == contents(tar)


async def test_a_part_that_a_given_up_one_overtakes_is_sent_again(rig: Rig, tar: bytes) -> None:
    agent = rig.agents.client.connector
    assert isinstance(agent, aiohttp.UnixConnector)
    with tempfile.TemporaryDirectory() as short:
        path = f"{short}/overtaking.sock"
        overtaking = Overtaking(agent.path)
        server = await asyncio.start_unix_server(overtaking.serve, path)
        async with server, aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as client:
            await replace(rig.agents, client=client).restore(rig.session, "r", pieces(tar))
        overtaking.late.close()
    assert contents(await archived(rig)) == contents(tar)


async def test_an_archive_that_breaks_off_is_lost(rig: Rig) -> None:
    (rig.folder / "file").write_bytes(os.urandom(8 * MIB))
    archive = rig.agents.archive(rig.session)
    await anext(archive)
    rig.process.kill()
    await rig.process.wait()
    with pytest.raises(WorkspaceLost):
        await _to_the_end(archive)
    with pytest.raises(WorkspaceUnreachable):
        await archived(rig)


async def _to_the_end(archive: AsyncIterator[bytes]) -> None:
    async for _ in archive:
        pass


@ISOLATED
async def test_without_space_it_is_said_and_nothing_runs(tmp_path: Path, tar: bytes) -> None:
    script = f"mount -t tmpfs -o size=1m none '{tmp_path}' && exec {sys.executable} -m agent"
    async with running(tmp_path, (*UNSHARE, "sh", "-c", script)) as rig:
        with pytest.raises(WorkspaceExhausted, match="no space left"):
            await rig.agents.restore(rig.session, "r", pieces(tar))
        with pytest.raises(WorkspaceUnreachable):
            await rig.agents.execute(rig.session, Command("true"))


async def test_parts_of_a_former_process_change_nothing(rig: Rig, tar: bytes) -> None:
    folder = WorkFolder(rig.agents.client, await rig.agents._way(rig.session))
    with pytest.raises(WorkspaceLost, match="X-Boot-Id"):
        await folder.restore("r", "another-boot", pieces(tar))


async def test_a_warm_agent_is_given_to_one_session(tmp_path: Path) -> None:
    async with running(tmp_path, WORKSPACE_ID="pod-7", USER="nobody", KEPT="kept") as rig:
        with pytest.raises(WorkspaceLost, match="401"):
            await rig.agents.execute(rig.session, Command("true"))
        env = {"USER": "developer", "WORKSPACE_ID": rig.session.id, "ONMEMOS_TICKET_KEYS": "secret"}
        await rig.agents.adopt(rig.session, "pod-7", env)
        await rig.agents.adopt(rig.session, "pod-7", {"USER": "late"})
        ran = await rig.agents.execute(rig.session, Command("echo $USER $WORKSPACE_ID $KEPT $ONMEMOS_TICKET_KEYS"))
        assert ran.stdout == f"developer {rig.session.id} kept\n"
        other = replace(rig.session, id="ws-other-me-1756062811")
        with pytest.raises(WorkspaceLost, match="409"):
            await rig.agents.adopt(other, "pod-7", {})
        with pytest.raises(WorkspaceLost, match="401"):
            await rig.agents.adopt(other, rig.session.id, {})


async def test_a_workspace_in_use_is_nobodys_to_give(rig: Rig) -> None:
    await rig.agents.execute(rig.session, Command("true"))
    other = replace(rig.session, id="ws-other-me-1756062811")
    with pytest.raises(WorkspaceLost, match="something has run"):
        await rig.agents.adopt(other, rig.session.id, {})
