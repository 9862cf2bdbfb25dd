"""Containers as bubblewrap sandboxes on this machine's own kernel and system.

Start, in this order: folders, limits, network, and only then the first instruction inside: bubblewrap waits for a
byte on a pipe while its first process is put under its limits and given its way out.
"""

import asyncio
import contextlib
import json
import logging
import marshal
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from infra.sandbox import bwrap, cgroups, dropper, memory_watch, python, rootfs, seccomp
from infra.sandbox.egress import Closed, Egress
from infra.sandbox.folders import Folders, Root, delete_tree
from infra.sandbox.launch import launch, variables
from infra.sandbox.processes import Child, Watched, children, signal_process
from infra.sandbox.spec import (
    WORKSPACE,
    ContainerSpec,
    Limits,
    SandboxError,
    SandboxStartFailed,
    check_name,
    check_spec,
)

log = logging.getLogger(__name__)

START_TIMEOUT_S = 15.0
_KILL_TIMEOUT_S = 5.0
_CLOSE_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine offers, found once per runtime.

    `groups` None: limits by rlimits and a watch. `uid_of` gives the host uid of a container when root is at work;
    None: everything runs as the ordinary user that we are.
    """

    program: bwrap.Program
    interpreter: python.Interpreter
    agent: Path
    egress: Egress
    groups: cgroups.Groups | None
    uid_of: Callable[[str], int] | None = None


class Sandbox:
    """One running container; made by `start`."""

    def __init__(self, name: str, folders: Folders, facts: Mapping[str, str]) -> None:
        self.name = name
        self.socket = folders.agent_socket
        self.facts = facts
        self._folders = folders
        self._stack = AsyncExitStack()
        self._child: Child | None = None
        self._init: Watched | None = None
        self._ended: asyncio.Task[int] | None = None

    async def start(self, spec: ContainerSpec, machine: Machine) -> None:
        """Raises SandboxStartFailed; nothing is left then."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._start(spec, machine)
        except BaseException as exc:
            printed = await asyncio.shield(self._undo())
            if isinstance(exc, SandboxError | OSError | TimeoutError):
                why = str(exc) or f"not started in {START_TIMEOUT_S:.0f} s"
                raise SandboxStartFailed(f"container {self.name}: {why}. {printed}".strip()) from exc
            raise
        self._ended = asyncio.create_task(self._until_ended(), name=f"sandbox {self.name}")

    @property
    def ended(self) -> bool:
        return self._ended is not None and self._ended.done()

    async def wait(self) -> int:
        assert self._ended is not None  # noqa: S101 - a Sandbox leaves its runtime only once started
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float = 5) -> None:
        if self._init is not None and not self.ended:
            for main in children(self._init.pid)[:1]:
                signal_process(main, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.wait()
                return
        self._kill()
        async with asyncio.timeout(_KILL_TIMEOUT_S):
            await self.wait()

    def log_tail(self) -> str:
        return "" if self._child is None else self._child.log_tail()

    async def _start(self, spec: ContainerSpec, machine: Machine) -> None:
        egress = machine.egress if spec.egress else Closed()
        arguments = bwrap.Arguments(staged=machine.uid_of is not None)
        block = info = None
        try:
            arguments.add(_entries(spec, machine, egress, self._folders))
            info, told = os.pipe()
            arguments.descriptors.append(told)
            blocked, block = os.pipe()
            arguments.descriptors.append(blocked)
            argv = _command_line(spec, machine, egress, arguments, info_fd=told, block_fd=blocked)
            lifeline, hold = os.pipe()
            arguments.descriptors.append(lifeline)
            self._stack.callback(os.close, hold)
            self._child = await Child.start(argv, stdin=lifeline, pass_fds=arguments.descriptors[:-1], env={})
            while arguments.descriptors:
                os.close(arguments.descriptors.pop())
            self._init = Watched(await _child_pid(info))
            self._stack.callback(self._init.close)
            await self._limit(self._init.pid, spec.limits, machine.groups)
            # The agent can boot meanwhile: no session reaches it before its socket is published below.
            if not spec.command:
                os.write(block, b"x")
            await self._stack.enter_async_context(egress.attach(self._init.pid, self._folders.shared))
            if spec.command:
                os.write(block, b"x")
        finally:
            for fd in (*arguments.descriptors, block, info):
                if fd is not None:
                    os.close(fd)
        self._own(self._folders.publish_agent_socket(), "socket")

    async def _limit(self, pid: int, limits: Limits, groups: cgroups.Groups | None) -> None:
        if groups is None:
            self._own(memory_watch.watch(self.name, pid, limits.memory_bytes), "memory watch")
            return
        group = await groups.limit(self.name, limits, pid)
        self._stack.push_async_callback(group.remove)

    def _own(self, coroutine: Coroutine[None, None, None], what: str) -> None:
        task = asyncio.create_task(coroutine, name=f"{what} of {self.name}")
        self._stack.push_async_callback(_cancelled, task)

    async def _until_ended(self) -> int:
        assert self._child is not None  # noqa: S101 - set by _start
        assert self._init is not None  # noqa: S101 - likewise
        await self._init.ended()  # after all others in its namespace: what they printed is complete
        code = await self._child.finish()
        await self._stack.aclose()
        await asyncio.to_thread(delete_tree, self._folders.sockets)
        log.info("sandbox ended", extra={"container": self.name, "code": code})
        return code

    async def _undo(self) -> str:
        """After a failed start: end and remove what there is; returns what was printed."""
        self._kill()
        if self._child is not None:
            self._child.kill_session()  # its first process may not have learned yet to die with its parent
            await self._child.finish()
        await self._stack.aclose()
        await asyncio.to_thread(delete_tree, self._folders.sockets)
        return self.log_tail().strip()

    def _kill(self) -> None:
        """The first process of a pid namespace takes all others with it."""
        if self._init is not None:
            self._init.kill()


class BubblewrapRuntime:
    """Runs containers with bubblewrap; owns the folders of `root` until `close`."""

    def __init__(self, machine: Machine, root: Root) -> None:
        self._machine = machine
        self._root = root
        self._running: dict[str, Sandbox] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def start(self, spec: ContainerSpec) -> Sandbox:
        check_spec(spec)
        async with self._lock(spec.name):
            running = self._running.get(spec.name)
            if running is not None and not running.ended:
                raise SandboxError(f"container {spec.name} already runs")
            machine = self._machine
            folders = self._root.of(spec.name)
            facts = {
                "isolation": "bubblewrap",
                "egress": machine.egress.kind if spec.egress else Closed.kind,
                "limits": "rlimit" if machine.groups is None else "cgroup",
            }
            await asyncio.to_thread(folders.make, spec.mounts)
            sandbox = Sandbox(spec.name, folders, facts)
            await sandbox.start(spec, machine)
            self._running[spec.name] = sandbox
            return sandbox

    async def remove(self, name: str) -> None:
        check_name(name)
        async with self._lock(name):
            sandbox = self._running.pop(name, None)
            if sandbox is not None:
                await sandbox.stop(grace_s=0)
            await asyncio.to_thread(delete_tree, self._root.of(name).state)

    async def close(self) -> None:
        running, self._running = self._running, {}
        await asyncio.gather(*(sandbox.stop(grace_s=_CLOSE_GRACE_S) for sandbox in running.values()))
        if self._machine.groups is not None:
            await self._machine.groups.close()
        self._root.close()

    def _lock(self, name: str) -> asyncio.Lock:
        """Starts and removals of one name wait for each other."""
        return self._locks.setdefault(name, asyncio.Lock())


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _child_pid(info: int) -> int:
    """Read bubblewrap's JSON about itself. Raises SandboxError: it ended without saying anything."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(info), "rb", buffering=0)
    )
    try:
        text = await reader.readuntil(b"}")
    except asyncio.IncompleteReadError as exc:
        raise SandboxError("bubblewrap did not start") from exc
    finally:
        transport.close()
    return int(json.loads(text)["child-pid"])


def _entries(spec: ContainerSpec, machine: Machine, egress: Egress, folders: Folders) -> Iterator[rootfs.Entry]:
    yield from rootfs.system()
    yield from rootfs.identity(rootfs.short_hostname(spec.name), egress.nameserver)
    yield from machine.interpreter.entries
    yield from python.agent_entries(machine.agent)
    yield from rootfs.writable(spec, folders.workspace, folders.shared)


def _command_line(
    spec: ContainerSpec, machine: Machine, egress: Egress, arguments: bwrap.Arguments, *, info_fd: int, block_fd: int
) -> list[str]:
    """What to execute; everything but the command goes through a descriptor: `ps` shows no environment."""
    options = [
        *bwrap.namespaces(rootfs.short_hostname(spec.name)),
        *bwrap.environment(variables(spec, machine.interpreter, egress)),
        *arguments.options,
        *bwrap.system_folders(spec.limits.memory_bytes // 4),
        "--chdir", WORKSPACE, "--info-fd", str(info_fd), "--block-fd", str(block_fd),
    ]  # fmt: skip
    filter_program = seccomp.program()
    if filter_program is not None:
        options += ["--seccomp", arguments.descriptor(filter_program)]
    given = arguments.descriptor(b"\0".join(word.encode() for word in options) + b"\0")
    program = bwrap.staged_program(machine.program, arguments)
    data_bytes = spec.limits.memory_bytes if machine.groups is None else 0
    argv = [program, "--args", given, "--", *launch(spec, machine.interpreter, egress, data_bytes)]
    if machine.uid_of is None:
        return argv
    plan = marshal.dumps((os.getpid(), machine.uid_of(spec.name), arguments.binds, argv))
    return [sys.executable, "-I", "-S", dropper.__file__, arguments.descriptor(plan)]
