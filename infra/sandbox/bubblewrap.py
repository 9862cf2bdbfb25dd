"""Containers as bubblewrap sandboxes on this machine's own kernel and system.

Start, in this order: folders, limits, network, and only then the first instruction inside: bubblewrap waits for a
byte on a pipe while its first process is put under its limits and given its way out.
"""

import asyncio
import json
import marshal
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox import bwrap, cgroups, dropper, memory_watch, python, rootfs, seccomp
from infra.sandbox.egress import Closed, Egress
from infra.sandbox.folders import Folders, Root
from infra.sandbox.launch import launch, variables
from infra.sandbox.local import LocalRuntime, running_task
from infra.sandbox.processes import Child, Watched, children, signal_process
from infra.sandbox.spec import ContainerSpec, SandboxError

_POLL_S = 0.005


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


class Bubblewrap:
    """One container's bubblewrap, as local.Process."""

    def __init__(self, machine: Machine, spec: ContainerSpec, folders: Folders) -> None:
        self._machine = machine
        self._spec = spec
        self._folders = folders
        self._egress = machine.egress if spec.egress else Closed()
        self._child: Child | None = None
        self._init: Watched | None = None

    @property
    def facts(self) -> Mapping[str, str]:
        limits = "rlimit" if self._machine.groups is None else "cgroup"
        return {"isolation": "bubblewrap", "egress": self._egress.kind, "limits": limits}

    async def begin(self, stack: AsyncExitStack) -> None:
        spec, egress = self._spec, self._egress
        arguments = bwrap.Arguments(staged=self._machine.uid_of is not None)
        block = info = None
        try:
            arguments.add(_entries(spec, self._machine, egress, self._folders))
            info, told = os.pipe()
            arguments.descriptors.append(told)
            blocked, block = os.pipe()
            arguments.descriptors.append(blocked)
            argv = _command_line(spec, self._machine, egress, arguments, info_fd=told, block_fd=blocked)
            lifeline, hold = os.pipe()
            stack.callback(os.close, hold)
            given = tuple(arguments.descriptors)
            arguments.descriptors.append(lifeline)
            self._child = await Child.start(argv, stdin=lifeline, pass_fds=given, env={}, sink=spec.log)
            while arguments.descriptors:
                os.close(arguments.descriptors.pop())
            self._init = Watched(await _child_pid(info))
            stack.callback(self._init.close)
            await self._limit(self._init.pid, stack)
            # The agent can boot meanwhile: no session reaches it before its socket is published.
            if not spec.command:
                os.write(block, b"x")
            await stack.enter_async_context(egress.attach(self._init.pid, self._folders.shared))
            if spec.command:
                os.write(block, b"x")
        finally:
            for fd in (*arguments.descriptors, block, info):
                if fd is not None:
                    os.close(fd)

    def terminate(self) -> None:
        if self._init is None or self._child is None or self._child.ended:
            return
        if found := children(self._init.pid):
            signal_process(found[0], signal.SIGTERM)
        else:  # it has only just been let go on: the command is not there yet
            asyncio.get_running_loop().call_later(_POLL_S, self.terminate)

    def kill(self) -> None:
        if self._init is not None:
            self._init.kill()  # the first process of a pid namespace takes all others with it
        elif self._child is not None:
            self._child.kill_session()  # its first process may not have learned yet to die with its parent

    async def ended(self) -> int:
        if self._child is None:
            return 0
        if self._init is not None:
            await self._init.ended()  # after all others in its namespace: what they printed is complete
        return await self._child.finish()

    def log_tail(self) -> str:
        return "" if self._child is None else self._child.log_tail()

    async def _limit(self, pid: int, stack: AsyncExitStack) -> None:
        name, limits = self._spec.name, self._spec.limits
        if self._machine.groups is None:
            watch = memory_watch.watch(name, pid, limits.memory_bytes)
            await stack.enter_async_context(running_task(watch, f"memory watch of {name}"))
        else:
            group = await self._machine.groups.limit(name, limits, pid)
            stack.push_async_callback(group.remove)


def runtime(machine: Machine, root: Root) -> LocalRuntime:
    """A runtime on `machine`; closing it removes its control groups' parent too."""

    async def after_close() -> None:
        if machine.groups is not None:
            await machine.groups.close()

    return LocalRuntime(root, lambda spec, folders: Bubblewrap(machine, spec, folders), after_close)


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
    yield from rootfs.identity(rootfs.short_hostname(spec.hostname or spec.name), egress.nameserver)
    yield from machine.interpreter.entries
    yield from python.agent_entries(machine.agent)
    yield from rootfs.writable(spec, folders.workspace, folders.shared)


def _command_line(
    spec: ContainerSpec, machine: Machine, egress: Egress, arguments: bwrap.Arguments, *, info_fd: int, block_fd: int
) -> list[str]:
    """What to execute; everything but the command goes through a descriptor: `ps` shows no environment."""
    options = [
        *bwrap.namespaces(rootfs.short_hostname(spec.hostname or spec.name)),
        *bwrap.environment(variables(spec, machine.interpreter, egress)),
        *arguments.options,
        *bwrap.system_folders(spec.limits.memory_bytes // 4),
        "--chdir", spec.workdir, "--info-fd", str(info_fd), "--block-fd", str(block_fd),
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
