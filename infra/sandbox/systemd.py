"""Limits by control groups that systemd makes for us, as transient scopes: for logins whose own group is not theirs."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox.cgroups import OVERHEAD_PROCESSES, Group
from infra.sandbox.processes import Child
from infra.sandbox.spec import Limits, SandboxError

_COMMAND_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ScopeGroup:
    """A transient systemd scope; it vanishes with its last process."""

    manager: str
    unit: str

    async def remove(self) -> None:
        with contextlib.suppress(SandboxError):
            await _call(self.manager, "StopUnit", "ss", self.unit, "replace")


class SystemdGroups:
    """Groups asked of the user's (or, for root, the system's) systemd, for sessions whose own group is not theirs."""

    def __init__(self, tag: str, manager: str) -> None:
        self._tag = tag
        self._manager = manager

    async def limit(self, name: str, limits: Limits, pid: int) -> Group:
        unit = f"{self._tag}-{name}.scope"
        properties = (
            ("PIDs", "au", "1", str(pid)),
            ("MemoryMax", "t", str(limits.memory_bytes)),
            ("MemorySwapMax", "t", "0"),
            ("TasksMax", "t", str(limits.processes + OVERHEAD_PROCESSES)),
            ("CPUQuotaPerSecUSec", "t", str(int(limits.cpu * 1_000_000))),
            ("CollectMode", "s", "inactive-or-failed"),
        )
        flat = [word for one in properties for word in one]
        arguments = (unit, "fail", str(len(properties)), *flat, "0")
        await _call(self._manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", *arguments)
        await _joined(pid, unit)
        return ScopeGroup(self._manager, unit)

    async def sweep(self) -> None:
        """Nothing to do: a scope ends with its processes."""

    async def close(self) -> None:
        """Nothing to do, as above."""


async def _joined(pid: int, unit: str) -> None:
    """The call only queues a job: wait until the process is where it was asked to be."""
    try:
        async with asyncio.timeout(_COMMAND_TIMEOUT_S):
            while not _is_in(pid, unit):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.005)
    except (TimeoutError, OSError) as exc:
        raise SandboxError(f"systemd scope {unit}: process {pid} did not get into it") from exc


def _is_in(pid: int, unit: str) -> bool:
    return unit in Path(f"/proc/{pid}/cgroup").read_text()


async def _call(manager: str, method: str, signature: str, *arguments: str) -> None:
    name = "org.freedesktop.systemd1"
    call = ("busctl", manager, "call", name, "/org/freedesktop/systemd1", f"{name}.Manager", method, signature)
    child = await Child.start((*call, *arguments))
    try:
        async with asyncio.timeout(_COMMAND_TIMEOUT_S):
            code = await child.finish()
    except TimeoutError as exc:
        child.kill()
        raise SandboxError(f"systemd {method}: no answer in {_COMMAND_TIMEOUT_S:.0f} s") from exc
    if code:
        raise SandboxError(f"systemd {method}: {child.log_tail().strip()}")
