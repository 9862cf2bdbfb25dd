"""Docker."""

from pathlib import Path

from infra.sandbox.spec import Runtime, SandboxUnavailable


async def open_docker(state: Path, sockets: Path) -> Runtime:
    raise SandboxUnavailable("docker: not yet")
