"""Containers in gVisor: a kernel of their own in user space, from the same view of this machine's system.

Only for root, who gives each container a host uid without rights; slower than bubblewrap for work that makes many
system calls. The network is closed or the egress proxy's: runsc's own stack would need a network device on the host.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from infra.sandbox import cgroups, dropper, limits, oci, python, rootfs
from infra.sandbox.egress import Closed, Egress, Proxied
from infra.sandbox.folders import Folders, Root, delete_tree
from infra.sandbox.launch import launch, variables
from infra.sandbox.local import LocalRuntime
from infra.sandbox.processes import Child, signal_process
from infra.sandbox.spec import ContainerSpec, Limits, SandboxError, SandboxUnavailable

HOST_ID = 1_999_999_999  # no one's: see runtime.FIRST_UID
# Room for gVisor itself beside the session: its kernel, its file server and their threads count in the same group.
OVERHEAD_BYTES = 128 << 20
OVERHEAD_THREADS = 256
_COMMAND_TIMEOUT_S = 10.0
_BUNDLE = ".bundle"
_RECORDS = ".runsc"


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine offers; `records` is the folder where runsc remembers its containers."""

    runsc: str
    records: Path
    interpreter: python.Interpreter
    agent: Path
    groups: cgroups.Groups


class Gvisor:
    """One container's `runsc run`, as local.Process."""

    def __init__(self, machine: Machine, spec: ContainerSpec, folders: Folders) -> None:
        self._machine = machine
        self._spec = spec
        self._folders = folders
        self._egress: Egress = Proxied() if spec.egress else Closed()
        self._child: Child | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def facts(self) -> Mapping[str, str]:
        return {"isolation": "gvisor", "egress": self._egress.kind, "limits": "cgroup"}

    async def begin(self, stack: AsyncExitStack) -> None:
        await asyncio.to_thread(self._prepare)
        stack.push_async_callback(self._forget)
        command = _runsc(self._machine, "run", "--bundle", str(self._bundle), self._spec.name)
        # The shell waits for a line while it is put under its limits, and runsc dies with us (setpriv).
        script = 'read -r _ && exec setpriv --pdeathsig KILL "$@" </dev/null'
        gate, go = os.pipe()
        try:
            argv = ("/bin/sh", "-c", script, "sh", *command)
            self._child = await Child.start(argv, stdin=gate, sink=self._spec.log)
            allowed = _with_overhead(self._spec.limits)
            group = await self._machine.groups.limit(self._spec.name, allowed, self._child.pid)
            stack.push_async_callback(group.remove)
            await stack.enter_async_context(self._egress.attach(self._child.pid, self._folders.shared))
            for path in (self._folders.shared, *self._folders.shared.iterdir()):
                os.chown(path, HOST_ID, HOST_ID)
            os.write(go, b"\n")
        finally:
            os.close(gate)
            os.close(go)

    def terminate(self) -> None:
        """`runsc run` would not pass a signal on: it would die of it, and everything inside with it."""
        if self._child is not None and not self._child.ended and self._stopping is None:
            self._stopping = asyncio.create_task(self._tell(self._child), name=f"stop of {self._spec.name}")

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill_session()

    async def ended(self) -> int:
        code = 0 if self._child is None else await self._child.finish()
        if self._stopping is not None:
            await self._stopping
        return code

    def log_tail(self) -> str:
        return "" if self._child is None else self._child.log_tail()

    @property
    def _bundle(self) -> Path:
        return self._folders.state / _BUNDLE

    def _prepare(self) -> None:
        spec, interpreter = self._spec, self._machine.interpreter
        hostname = rootfs.short_hostname(spec.hostname or spec.name)
        entries = [
            *rootfs.system(),
            *rootfs.identity(hostname, self._egress.nameserver),
            *interpreter.entries,
            *python.agent_entries(self._machine.agent),
            *rootfs.writable(spec, self._folders.workspace, self._folders.shared),
        ]
        for entry in entries:
            if isinstance(entry, rootfs.Bind) and not entry.read_only:
                dropper.change_owner(entry.source, HOST_ID)
        delete_tree(self._bundle)
        oci.write_bundle(
            self._bundle,
            entries,
            argv=launch(spec, interpreter, self._egress, 0),
            environment=variables(spec, interpreter, self._egress),
            hostname=hostname,
            host_id=HOST_ID,
            workdir=spec.workdir,
        )

    async def _tell(self, child: Child) -> None:
        code = await _run(_runsc(self._machine, "kill", self._spec.name, "TERM"))
        if code and not child.ended:  # its command is not there yet
            signal_process(child.pid, signal.SIGTERM)

    async def _forget(self) -> None:
        await _run(_runsc(self._machine, "delete", "--force", self._spec.name))
        await asyncio.to_thread(delete_tree, self._bundle)


async def open_gvisor(state: Path, sockets: Path, agent: Path) -> LocalRuntime:
    """Raises SandboxUnavailable: gVisor is not installed, or cannot run here."""
    runsc = shutil.which("runsc")
    if sys.platform != "linux" or runsc is None:
        raise SandboxUnavailable(
            "gVisor is not installed: the system's package 'runsc', or gvisor.dev/docs/user_guide/install"
        )
    if os.geteuid() != 0:
        raise SandboxUnavailable("gVisor sandboxes are started by root only; bubblewrap needs no privileges")
    root = Root(state, sockets)
    try:
        groups = limits.open_groups(root.tag)
        if groups is None:
            raise SandboxUnavailable(
                "gVisor's limits need control groups with memory and pids, and none can be made here"
            )
        await groups.sweep()
        machine = Machine(runsc, root.state / _RECORDS, python.interpreter(), agent, groups)
        for stale in _recorded(machine):
            await _run(_runsc(machine, "delete", "--force", stale))
    except BaseException:
        root.close()
        raise

    async def after_close() -> None:
        await groups.close()
        await asyncio.to_thread(delete_tree, machine.records)

    runtime = LocalRuntime(root, lambda spec, folders: Gvisor(machine, spec, folders), after_close)
    try:
        await _try(runtime)
    except BaseException:
        await runtime.close()
        raise
    return runtime


async def _try(runtime: LocalRuntime) -> None:
    spec = ContainerSpec("onmemos-trial", "", command=("true",))
    try:
        container = await runtime.start(spec)
        code = await container.wait()
        if code:
            raise SandboxUnavailable(f"gVisor does not run here: code {code}, {container.log_tail().strip()}")
    except SandboxError as exc:
        raise SandboxUnavailable(f"gVisor does not run here: {exc}") from exc
    finally:
        await runtime.remove(spec.name)


def _recorded(machine: Machine) -> list[str]:
    """The containers that an earlier runtime left in runsc's records."""
    if not machine.records.is_dir():
        return []
    return sorted({path.name.split("_sandbox:")[0].split(".")[0] for path in machine.records.iterdir()})


def _with_overhead(limits: Limits) -> Limits:
    return replace(
        limits,
        memory_bytes=limits.memory_bytes + OVERHEAD_BYTES,
        processes=limits.processes + OVERHEAD_THREADS,
    )


def _runsc(machine: Machine, *arguments: str) -> list[str]:
    flags = ("--platform=ptrace", "--network=none", "--ignore-cgroups", "--host-uds=all")
    return [machine.runsc, f"--root={machine.records}", *flags, *arguments]


async def _run(argv: list[str]) -> int:
    """The exit code of a command whose failure is no error: it tidies up, or asks for what may be over."""
    child = await Child.start(argv)
    try:
        async with asyncio.timeout(_COMMAND_TIMEOUT_S):
            return await child.finish()
    except TimeoutError:
        child.kill()
        return await child.finish()
