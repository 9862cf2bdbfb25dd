"""Containers by a Docker engine, from the image itself: what macOS has, and any machine without user namespaces.

The agent is reached over a port published on 127.0.0.1, which a Unix socket here is bridged to: sockets on bind mounts
do not pass the virtual machine that the engine has on macOS. A container without egress has no network at all, so
each of its connections is carried by one `docker exec`. Open containers share a network in which they cannot reach
each other; unlike in the other kinds, services that listen on the engine's own bridge address can be reached.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from infra.sandbox import dropper
from infra.sandbox.folders import Folders, Root
from infra.sandbox.local import LocalRuntime
from infra.sandbox.processes import Child
from infra.sandbox.python import LAUNCHER_FOLDER
from infra.sandbox.spec import (
    AGENT_SOCKET,
    ATTENDANT_SOCKET,
    INSIDE_ID,
    SOCKETS,
    WORKSPACE,
    Attendance,
    ContainerSpec,
    SandboxError,
    SandboxUnavailable,
)

AGENT_PORT = 8080
COMMAND_TIMEOUT_S = 60.0  # a start may pull nothing: images are built or pulled beforehand
_ENGINE_TIMEOUT_S = 10.0
_CHUNK = 65_536
_INSIDE = Path(__file__).parent / "inside"
_BRIDGE = (
    "import os, socket, sys, threading\n"
    "s = socket.socket(socket.AF_UNIX)\n"
    "s.connect(sys.argv[1])\n"
    "def up():\n"
    "    while data := os.read(0, 65536): s.sendall(data)\n"
    "    s.shutdown(socket.SHUT_WR)\n"
    "threading.Thread(target=up, daemon=True).start()\n"
    "while data := s.recv(65536): os.write(1, data)\n"
)
# The first of them starts the attendant: an image's own entry point knows nothing of it.
_ATTENDED_BRIDGE = (
    "import fcntl, os, subprocess, sys, time\n"
    "with open(sys.argv[1] + '.lock', 'w') as lock:\n"
    "    fcntl.flock(lock, fcntl.LOCK_EX)\n"
    "    if not os.path.exists(sys.argv[1]):\n"
    f"        attendant = ['python3', '-E', '-S', '{LAUNCHER_FOLDER}/attendant.py', sys.argv[1]]\n"
    "        null = subprocess.DEVNULL\n"
    "        subprocess.Popen(attendant, stdin=null, stdout=null, stderr=null, start_new_session=True)\n"
    "    for _ in range(500):\n"
    "        if os.path.exists(sys.argv[1]): break\n"
    "        time.sleep(0.01)\n"
) + _BRIDGE


def run_arguments(spec: ContainerSpec, container: str, tag: str, workspace: Path) -> list[str]:
    """What follows `docker`; the environment is passed by name only, so that `ps` shows no values."""
    limits = spec.limits
    arguments = [
        "run", "--name", container, "--label", f"onmemos={tag}", "--hostname", (spec.hostname or spec.name)[:63],
        "--init", "--rm", "--pull", "never", "--user", f"{INSIDE_ID}:{INSIDE_ID}", "--workdir", spec.workdir,
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only",
        "--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes), "--cpus", f"{limits.cpu:g}",
        "--pids-limit", str(limits.processes), "--ulimit", f"fsize={limits.file_size_bytes}",
        "--tmpfs", f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={limits.memory_bytes // 2}",  # noqa: S108 - inside
        "--tmpfs", f"{SOCKETS}:rw,nosuid,nodev,mode=0700,uid={INSIDE_ID},gid={INSIDE_ID}",
    ]  # fmt: skip
    if all(mount.target != WORKSPACE for mount in spec.mounts):
        arguments += ["--volume", f"{workspace}:{WORKSPACE}:rw"]
    if spec.attendance is not Attendance.NONE:
        arguments += ["--volume", f"{_INSIDE}:{LAUNCHER_FOLDER}:ro"]
    if spec.attendance in (Attendance.STDIN, Attendance.TTY):
        arguments += ["--interactive"]
    for mount in spec.mounts:
        arguments += ["--volume", f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}"]
    if spec.egress:
        arguments += ["--network", tag, "--publish", f"127.0.0.1::{AGENT_PORT}"]
    else:
        arguments += ["--network", "none"]
    for name in agent_environment(spec):
        arguments += ["--env", name]
    return [*arguments, spec.image, *spec.command]


def agent_environment(spec: ContainerSpec) -> dict[str, str]:
    """The container's environment: where the agent listens depends on whether it has a network."""
    place = {"PORT": str(AGENT_PORT)} if spec.egress else {"ONMEMOS_AGENT_SOCKET": f"{SOCKETS}/agent.sock"}
    return {"HOME": WORKSPACE, **spec.env, **place}


class Docker:
    """One container's `docker run`, as local.Process."""

    def __init__(self, program: str, tag: str, spec: ContainerSpec, folders: Folders) -> None:
        self._program = program
        self._tag = tag
        self._spec = spec
        self._folders = folders
        self._container = f"{tag}-{spec.name}"
        self._child: Child | None = None
        self._address: tuple[str, int] | None = None
        self._removal: asyncio.Task[None] | None = None

    @property
    def facts(self) -> Mapping[str, str]:
        return {"isolation": "docker", "egress": "docker" if self._spec.egress else "none", "limits": "docker"}

    async def begin(self, stack: AsyncExitStack) -> None:
        if os.geteuid() == 0:
            for folder in (self._folders.workspace, *(m.source for m in self._spec.mounts if not m.read_only)):
                await asyncio.to_thread(dropper.change_owner, str(folder), INSIDE_ID)
        arguments = run_arguments(self._spec, self._container, self._tag, self._folders.workspace)
        stack.push_async_callback(_docker_quietly, self._program, "rm", "--force", self._container)
        environment = {**os.environ, **agent_environment(self._spec)}
        self._child = await Child.start((self._program, *arguments), env=environment, sink=self._spec.log)
        # Bound outside the folder that local.LocalContainer watches: here the session never had them in hand.
        server = await asyncio.start_unix_server(self._carry, self._folders.agent_socket)
        stack.push_async_callback(_closed, server)
        if self._spec.attendance is not Attendance.NONE:
            server = await asyncio.start_unix_server(self._carry_to_attendant, self._folders.attendant_socket)
            stack.push_async_callback(_closed, server)

    def terminate(self) -> None:
        if self._child is not None and not self._child.ended:
            os.kill(self._child.pid, signal.SIGTERM)  # `docker run` passes it on

    def kill(self) -> None:
        """Killing the command alone would leave the container running: the engine is asked, then the command ends."""
        if self._child is not None and not self._child.ended:
            removal = _docker_quietly(self._program, "rm", "--force", self._container)
            self._removal = asyncio.create_task(removal, name=f"removal of {self._container}")

    async def ended(self) -> int:
        if self._child is None:
            return 0
        code = await self._child.finish()
        if self._removal is not None:
            await self._removal
        return code

    def log_tail(self) -> str:
        return "" if self._child is None else self._child.log_tail()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, SandboxError), contextlib.closing(writer):
            async with AsyncExitStack() as stack:
                by_port = self._spec.egress
                there, back = await (self._by_port() if by_port else self._by_exec(stack, _BRIDGE, AGENT_SOCKET))
                async with asyncio.TaskGroup() as group:
                    group.create_task(_copy(reader, back))
                    group.create_task(_copy(there, writer))

    async def _by_port(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address is None:
            said = await docker(self._program, "port", self._container, f"{AGENT_PORT}/tcp")
            host, _, port = said.splitlines()[0].rpartition(":")
            self._address = (host, int(port))
        return await asyncio.open_connection(*self._address)

    async def _carry_to_attendant(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, SandboxError), contextlib.closing(writer):
            async with AsyncExitStack() as stack:
                there, back = await self._by_exec(stack, _ATTENDED_BRIDGE, ATTENDANT_SOCKET)
                async with asyncio.TaskGroup() as group:
                    group.create_task(_copy(reader, back))
                    group.create_task(_copy(there, writer))

    async def _by_exec(
        self, stack: AsyncExitStack, bridge: str, socket: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            self._program, "exec", "--interactive", self._container, "python3", "-c", bridge, socket,
            stdin=pipe, stdout=pipe,
        )  # fmt: skip
        stack.push_async_callback(_reaped, process)
        assert process.stdout is not None  # noqa: S101 - asked for above
        assert process.stdin is not None  # noqa: S101 - likewise
        return process.stdout, process.stdin


async def open_docker(state: Path, sockets: Path) -> LocalRuntime:
    """Raises SandboxUnavailable: no docker command, or no engine that answers it."""
    program = shutil.which("docker")
    if program is None:
        raise SandboxUnavailable("the docker command is not installed: docs.docker.com/get-docker")
    try:
        async with asyncio.timeout(_ENGINE_TIMEOUT_S):
            await docker(program, "version", "--format", "{{.Server.Version}}")
    except (SandboxError, TimeoutError) as exc:
        raise SandboxUnavailable(f"no Docker engine answers: {str(exc) or 'time-out'}; start Docker") from exc
    root = Root(state, sockets)
    tag = root.tag

    async def clean() -> None:
        left = await docker(program, "ps", "--all", "--quiet", "--filter", f"label=onmemos={tag}")
        if left:
            await _docker_quietly(program, "rm", "--force", *left.split())
        await _docker_quietly(program, "network", "rm", tag)

    try:
        await clean()
        isolated = ("--opt", "com.docker.network.bridge.enable_icc=false")
        await docker(program, "network", "create", *isolated, tag)
    except BaseException:
        root.close()
        raise
    return LocalRuntime(root, lambda spec, folders: Docker(program, tag, spec, folders), clean)


async def docker(program: str, *arguments: str) -> str:
    """What a docker command printed. Raises SandboxError with what it complained about."""
    child = await Child.start((program, *arguments), env=dict(os.environ))
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            code = await child.finish()
    except TimeoutError:
        child.kill()
        code = await child.finish()
    said = child.log_tail().strip()
    if code:
        raise SandboxError(f"docker {arguments[0]}: {said.splitlines()[-1] if said else f'code {code}'}")
    return said


async def _docker_quietly(program: str, *arguments: str) -> None:
    """The same where failure means that there was nothing to do."""
    with contextlib.suppress(SandboxError):
        await docker(program, *arguments)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


async def _closed(server: asyncio.Server) -> None:
    server.close()


async def _reaped(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
