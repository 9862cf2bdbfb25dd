"""Containers that are processes of this machine: their folders, lives and ends, whatever isolates them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Protocol
from weakref import WeakValueDictionary

from infra.sandbox.folders import Folders, Root, delete_tree
from infra.sandbox.spec import Attendance, ContainerSpec, SandboxError, SandboxStartFailed, check_name, check_spec

log = logging.getLogger(__name__)

START_TIMEOUT_S = 15.0
KILL_TIMEOUT_S = 5.0
CLOSE_GRACE_S = 1.0


class Process(Protocol):
    """An isolating program at work."""

    @property
    def facts(self) -> Mapping[str, str]: ...

    async def begin(self, stack: AsyncExitStack) -> None:
        """Start it; what must be undone after its end goes on `stack`. Raises SandboxError, OSError."""

    def terminate(self) -> None:
        """Ask its command to end."""

    def kill(self) -> None:
        """End everything in it, also when `begin` has failed half-way."""

    async def ended(self) -> int:
        """The exit code, once nothing in it runs any more; right away if it was never started."""

    def log_tail(self) -> str: ...


class LocalContainer:
    """One container; it leaves its runtime only once started."""

    def __init__(self, spec: ContainerSpec, folders: Folders, process: Process) -> None:
        self.name = spec.name
        self.socket = folders.agent_socket
        self.attendant = folders.attendant_socket
        self._attended = spec.attendance is not Attendance.NONE
        self.facts = process.facts
        self._folders = folders
        self._process = process
        self._stack = AsyncExitStack()
        self._over: asyncio.Task[int] | None = None

    async def start(self) -> None:
        """Raises SandboxStartFailed; nothing is left then."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._process.begin(self._stack)
        except BaseException as exc:
            await asyncio.shield(self._undo())
            if isinstance(exc, SandboxError | OSError | TimeoutError):
                why = str(exc) or f"not started in {START_TIMEOUT_S:.0f} s"
                raise SandboxStartFailed(f"container {self.name}: {why}. {self.log_tail().strip()}".strip()) from exc
            raise
        for socket in (self.socket, self.attendant) if self._attended else (self.socket,):
            publishing = running_task(self._folders.publish(socket.name), f"{socket.name} of {self.name}")
            await self._stack.enter_async_context(publishing)
        self._over = asyncio.create_task(self._until_over(), name=f"container {self.name}")

    @property
    def ended(self) -> bool:
        return self._over is not None and self._over.done()

    async def wait(self) -> int:
        assert self._over is not None  # noqa: S101 - see the class
        return await asyncio.shield(self._over)

    async def stop(self, grace_s: float = 5) -> None:
        if self.ended:
            return
        self._process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.wait()
                return
        self._process.kill()
        async with asyncio.timeout(KILL_TIMEOUT_S):
            await self.wait()

    def log_tail(self) -> str:
        return self._process.log_tail()

    async def _until_over(self) -> int:
        code = await self._process.ended()
        await self._clean()
        log.info("sandbox ended", extra={"container": self.name, "code": code})
        return code

    async def _undo(self) -> None:
        self._process.kill()
        await self._process.ended()
        await self._clean()

    async def _clean(self) -> None:
        await self._stack.aclose()
        await asyncio.to_thread(delete_tree, self._folders.sockets)


class LocalRuntime:
    """Runs containers by what `isolate` makes of a spec; owns the folders of `root` until `close`."""

    def __init__(
        self,
        root: Root,
        isolate: Callable[[ContainerSpec, Folders], Process],
        after_close: Callable[[], Awaitable[None]],
    ) -> None:
        self._root = root
        self._isolate = isolate
        self._after_close = after_close
        self._running: dict[str, LocalContainer] = {}
        self.facts: Mapping[str, str] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._closed = False

    async def start(self, spec: ContainerSpec) -> LocalContainer:
        check_spec(spec)
        async with self._lock(spec.name):
            running = self._running.get(spec.name)
            if self._closed:
                raise SandboxError(f"container {spec.name}: its runtime is closed")
            if running is not None and not running.ended:
                raise SandboxError(f"container {spec.name} already runs")
            folders = self._root.of(spec.name)
            await asyncio.to_thread(folders.make, spec.mounts)
            container = LocalContainer(spec, folders, self._isolate(spec, folders))
            await container.start()
            self._running[spec.name] = container
            self.facts = container.facts
            return container

    async def remove(self, name: str) -> None:
        check_name(name)
        async with self._lock(name):
            container = self._running.pop(name, None)
            if container is not None:
                await container.stop(grace_s=0)
            await asyncio.to_thread(delete_tree, self._root.of(name).state)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for lock in list(self._locks.values()):  # whatever is starting now is stopped below
            async with lock:
                pass
        running, self._running = self._running, {}
        await asyncio.gather(*(container.stop(grace_s=CLOSE_GRACE_S) for container in running.values()))
        await self._after_close()
        self._root.close()

    def _lock(self, name: str) -> asyncio.Lock:
        """Starts and removals of one name wait for each other."""
        return self._locks.setdefault(name, asyncio.Lock())


@contextlib.asynccontextmanager
async def running_task(coroutine: Coroutine[None, None, None], what: str) -> AsyncIterator[None]:
    """Run `coroutine` beside the body, and no longer."""
    task = asyncio.create_task(coroutine, name=what)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
