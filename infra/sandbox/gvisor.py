"""gVisor."""

from pathlib import Path

from infra.sandbox.spec import Runtime, SandboxUnavailable


async def open_gvisor(state: Path, sockets: Path, agent: Path) -> Runtime:
    raise SandboxUnavailable("gvisor: not yet")
