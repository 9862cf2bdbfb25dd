"""Chooses how containers run on this machine, and says what is missing where they cannot be isolated."""

import asyncio
import logging
import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from infra.sandbox import bubblewrap, bwrap, docker, egress, gvisor, limits, python
from infra.sandbox.bubblewrap import Machine
from infra.sandbox.folders import Root
from infra.sandbox.spec import ContainerSpec, Limits, Runtime, SandboxError, SandboxStartFailed, SandboxUnavailable

log = logging.getLogger(__name__)

KINDS = ("auto", "bubblewrap", "gvisor", "docker")
AGENT = Path(__file__).parents[1] / "workspace" / "agent"
# Host uids for containers when root runs the stack: a range that no distribution gives away (systemd's UIDS-GIDS).
FIRST_UID = 1_900_000_000
_UIDS = 1 << 26
_TRIAL = ContainerSpec("onmemos-trial", "", limits=Limits(memory_bytes=256 << 20), command=("true",))
_TRIAL_TIMEOUT_S = 20.0


async def open_runtime(
    kind: str, *, state: Path, sockets: Path, egress_kind: str = "auto", agent: Path = AGENT
) -> Runtime:
    """Open the runtime `kind`: auto, bubblewrap, gvisor or docker; auto is bubblewrap, else Docker.

    Folders below `state` outlive containers, those below `sockets` don't; keep both closed to other users.
    `egress_kind` is auto, slirp4netns, pasta, proxy or none; it concerns bubblewrap only. What it returns has run a
    container once. Raises SandboxUnavailable, naming what is missing and how to get it.
    """
    match kind:
        case "bubblewrap":
            return await _bubblewrap(state, sockets, egress_kind, agent)
        case "gvisor":
            return await gvisor.open_gvisor(state, sockets, agent)
        case "docker":
            return await docker.open_docker(state, sockets)
        case "auto":
            try:
                return await _bubblewrap(state, sockets, egress_kind, agent)
            except SandboxUnavailable as first:
                try:
                    runtime = await docker.open_docker(state, sockets)
                except SandboxUnavailable as second:
                    raise SandboxUnavailable(f"no isolation on this machine: {first}; nor {second}") from first
                log.warning("bubblewrap does not work here: using Docker", extra={"reason": str(first)})
                return runtime
    raise SandboxUnavailable(f"sandbox kind {kind!r}: wanted one of {', '.join(KINDS)}")


async def _bubblewrap(state: Path, sockets: Path, egress_kind: str, agent: Path) -> Runtime:
    if sys.platform != "linux":
        raise SandboxUnavailable(f"bubblewrap needs Linux, this is {sys.platform}: install Docker")
    program = await asyncio.to_thread(bwrap.find)
    ways_out = egress.candidates(egress_kind)
    await asyncio.to_thread(python.precompile, (agent, Path(__file__).parent / "inside"))
    root = Root(state, sockets)
    try:
        groups = limits.open_groups(root.tag)
        if groups is not None:
            await groups.sweep()
        machine = Machine(
            program=program,
            interpreter=python.interpreter(),
            agent=agent,
            egress=ways_out[0],
            groups=groups,
            uid_of=_uids(root.tag) if os.geteuid() == 0 else None,
        )
        return await _tried(machine, ways_out, root)
    except BaseException:
        root.close()
        raise


def _uids(tag: str) -> Callable[[str], int]:
    """A host uid for each container name, the same at every start."""
    return lambda name: FIRST_UID + zlib.crc32(f"{tag}/{name}".encode()) % _UIDS


async def _tried(machine: Machine, ways_out: list[egress.Egress], root: Root) -> Runtime:
    """The first combination of limits and egress in which a container really runs, best first."""
    failures: list[str] = []
    for groups in dict.fromkeys((machine.groups, None)):
        for way_out in ways_out:
            candidate = replace(machine, egress=way_out, groups=groups)
            runtime = bubblewrap.runtime(candidate, root)
            try:
                await _run_once(runtime)
            except SandboxStartFailed as exc:
                failures.append(str(exc))
                continue
            except SandboxError as exc:  # the folders', not the isolation's
                raise SandboxUnavailable(str(exc)) from exc
            if failures:
                facts = {"egress": way_out.kind, "cgroups": groups is not None, "failures": failures}
                log.warning("the best sandbox does not work here: using the next", extra=facts)
            if groups is None and machine.groups is not None:
                await machine.groups.close()
            return runtime
    if machine.groups is not None:
        await machine.groups.close()
    raise SandboxUnavailable(f"bubblewrap cannot isolate here: {failures[-1]}. {_advice()}")


async def _run_once(runtime: Runtime) -> None:
    try:
        container = await runtime.start(_TRIAL)
        async with asyncio.timeout(_TRIAL_TIMEOUT_S):
            code = await container.wait()
        if code:
            raise SandboxStartFailed(f"a trial container ended with {code}: {container.log_tail().strip()}")
    except TimeoutError as exc:
        raise SandboxStartFailed(f"a trial container did not end in {_TRIAL_TIMEOUT_S:.0f} s") from exc
    finally:
        await runtime.remove(_TRIAL.name)


def _advice(sysctls: Path = Path("/proc/sys")) -> str:
    """What usually is in the way, as far as it can be seen."""
    wanted = (
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that lets bwrap",
        ),
    )
    for name, bad, remedy in wanted:
        try:
            value = (sysctls / name).read_text().strip()
        except OSError:
            continue
        if value == bad:
            return f"{name.replace('/', '.')} is {value}; to allow sandboxes: {remedy}"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "In a container, user namespaces need --privileged, or seccomp=unconfined and CAP_SYS_ADMIN"
    return "Wanted: a kernel with user namespaces (CONFIG_USER_NS) that ordinary users may create"
