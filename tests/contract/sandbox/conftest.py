"""Runtimes on folders of their own, and a way to run one command in a fresh container."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.sandbox.runtime import open_runtime
from infra.sandbox.spec import Container, ContainerSpec, Limits, Mount, Runtime, SandboxUnavailable

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    output: str
    container: Container


@dataclass(slots=True)
class Lab:
    """A runtime and its folders; `run` waits for the command's end."""

    runtime: Runtime
    state: Path
    sockets: Path
    names: list[str] = field(default_factory=list)

    async def start(
        self,
        script: str,
        *,
        name: str = "",
        egress: bool = False,
        mounts: tuple[Mount, ...] = (),
        limits: Limits | None = None,
    ) -> Container:
        """Start `sh -c script` in a container."""
        name = name or f"c-{secrets.token_hex(3)}"
        limits = limits or Limits(memory_bytes=512 * MIB)
        spec = ContainerSpec(
            name,
            "python",
            env={"GREETING": "hi"},
            mounts=mounts,
            limits=limits,
            egress=egress,
            command=("sh", "-c", script),
        )
        return await self.runtime.start(spec)

    async def run(self, script: str, **options: object) -> Result:
        container = await self.start(script, **options)  # type: ignore[arg-type]
        code = await container.wait()
        return Result(code, container.log_tail(), container)


class Printed:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def add(self, stream: str, data: bytes) -> None:
        self.kept[stream] += data


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does: that raises no event here."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """pytest's own temporary folders are too deep for Unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def opened(folder: Path, kind: str = "bubblewrap", egress_kind: str = "none") -> AsyncIterator[Lab]:
    try:
        runtime = await open_runtime(kind, state=folder / "state", sockets=folder / "s", egress_kind=egress_kind)
    except SandboxUnavailable as exc:
        pytest.skip(str(exc))
    try:
        yield Lab(runtime, folder / "state", folder / "s")
    finally:
        await runtime.close()


@pytest.fixture
async def lab(short_folder: Path) -> AsyncIterator[Lab]:
    """Bubblewrap, closed network."""
    async with opened(short_folder) as lab:
        yield lab


@pytest.fixture
async def open_lab(short_folder: Path) -> AsyncIterator[Callable[..., Awaitable[Lab]]]:
    """`await open_lab(kind="bubblewrap", egress_kind="proxy")`; skips with the reason where that cannot be had."""
    async with AsyncExitStack() as stack:

        async def open_one(**options: str) -> Lab:
            return await stack.enter_async_context(opened(short_folder, **options))

        yield open_one
