"""Startup, readiness and liveness of a container: HTTP, a connection, or a command."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

from infra.emulators.kubernetes.pod_specs import agent_port, is_agent, port_number
from infra.emulators.run.keeper import FIRST_PROBES_S, LATER_PROBES_S, PROBE_CLOSELY_S
from infra.sandbox.attendance import Exited, NotStarted, dial, execute
from infra.sandbox.spec import Container, SandboxError

Object = dict[str, Any]
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r\n)")
_SAID_BYTES: Final = 1024


class Unhealthy(Exception):
    """Why a probe failed, in the kubelet's words."""


class Probes:
    """Runs until cancelled. `started` and `ready` are called when they change; `failed` once, when it must be killed.

    At first a container is looked at more often than its period says: a late probe is time lost, and no failure of
    such a look counts.
    """

    def __init__(
        self,
        container: Object,
        sandbox: Container,
        *,
        started: Callable[[], None],
        ready: Callable[[bool], None],
        failed: Callable[[str], None],
        unhealthy: Callable[[str], None],
    ) -> None:
        self._container = container
        self._sandbox = sandbox
        self._started = started
        self._ready = ready
        self._failed = failed
        self._unhealthy = unhealthy

    async def run(self) -> None:
        if not await self._startup():
            return
        self._started()
        async with asyncio.TaskGroup() as group:
            if probe := self._container.get("readinessProbe"):
                group.create_task(self._readiness(probe))
            else:
                self._ready(True)
            if probe := self._container.get("livenessProbe"):
                group.create_task(self._liveness(probe))

    async def _startup(self) -> bool:
        probe = self._container.get("startupProbe")
        if not probe:
            return True
        period, threshold = _number(probe, "periodSeconds", 10), _number(probe, "failureThreshold", 3)
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + _number(probe, "initialDelaySeconds", 0) + period * threshold
        while True:
            try:
                await self._look(probe)
                return True
            except Unhealthy as exc:
                waited = loop.time() - began
                if loop.time() >= deadline:
                    self._unhealthy(f"Startup probe failed: {exc}")
                    self._failed("failed startup probe")
                    return False
            await asyncio.sleep(_closely(waited) or min(period, max(deadline - loop.time(), 0.01)))

    async def _readiness(self, probe: Object) -> None:
        period = _number(probe, "periodSeconds", 10)
        loop = asyncio.get_running_loop()
        began = loop.time()
        ready, failures, successes = False, 0, 0
        while True:
            try:
                await self._look(probe)
                failures, successes = 0, successes + 1
                if not ready and successes >= _number(probe, "successThreshold", 1):
                    ready = True
                    self._ready(True)
                pause = float(period)
            except Unhealthy as exc:
                failures, successes = failures + 1, 0
                pause = (not ready and _closely(loop.time() - began)) or period
                if pause == period:
                    self._unhealthy(f"Readiness probe failed: {exc}")
                if ready and failures >= _number(probe, "failureThreshold", 3):
                    ready = False
                    self._ready(False)
            await asyncio.sleep(pause)

    async def _liveness(self, probe: Object) -> None:
        await asyncio.sleep(_number(probe, "initialDelaySeconds", 0) or _number(probe, "periodSeconds", 10))
        failures = 0
        while True:
            try:
                await self._look(probe)
                failures = 0
            except Unhealthy as exc:
                failures += 1
                self._unhealthy(f"Liveness probe failed: {exc}")
                if failures >= _number(probe, "failureThreshold", 3):
                    self._failed("failed liveness probe")
                    return
            await asyncio.sleep(_number(probe, "periodSeconds", 10))

    async def _look(self, probe: Object) -> None:
        timeout_s = _number(probe, "timeoutSeconds", 1)
        try:
            async with asyncio.timeout(timeout_s):
                await self._act(probe)
        except TimeoutError as exc:
            raise Unhealthy("context deadline exceeded") from exc
        except (SandboxError, OSError) as exc:
            raise Unhealthy(str(exc)) from exc

    def _act(self, probe: Object) -> Awaitable[None]:
        return act(self._container, self._sandbox, probe)


async def act(container: Object, sandbox: Container, action: Object) -> None:
    """A probe's or hook's action. Raises Unhealthy, SandboxError, OSError."""
    if "exec" in action:
        await _execute(sandbox, action["exec"].get("command") or [])
    elif "sleep" in action:
        await asyncio.sleep(int(action["sleep"]["seconds"]))
    else:
        async with AsyncExitStack() as stack:
            target = action.get("httpGet") or action.get("tcpSocket") or action.get("grpc") or {}
            reader, writer = await connect(stack, container, sandbox, target.get("port", 0))
            if "httpGet" in action:
                await _get(reader, writer, action["httpGet"])


async def connect(
    stack: AsyncExitStack, container: Object, sandbox: Container, port: int | str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a port of a container, to be closed with `stack`; an agent's is its Unix socket.

    Raises SandboxError, OSError.
    """
    number = port_number(container, port)
    if number is None:
        raise SandboxError(f'couldn\'t find port "{port}"')
    if is_agent(container) and number == agent_port(container):
        reader, writer = await asyncio.open_unix_connection(str(sandbox.socket))
        stack.callback(writer.close)
        return reader, writer
    return await stack.enter_async_context(dial(sandbox.attendant, number))


async def _execute(sandbox: Container, argv: list[str]) -> None:
    said = bytearray()
    async with execute(sandbox.attendant, argv) as command:
        try:
            while not isinstance(got := await command.next(), Exited):
                if len(said) < _SAID_BYTES:
                    said += got.data
        except NotStarted as exc:
            raise Unhealthy(str(exc)) from exc
    if got.code:
        raise Unhealthy(said[:_SAID_BYTES].decode(errors="replace").strip() or f"exit code {got.code}")


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: Object) -> None:
    given = {header["name"]: header["value"] for header in wanted.get("httpHeaders") or ()}
    headers = {"Host": "localhost", "Connection": "close", "User-Agent": "kube-probe/1.36", "Accept": "*/*", **given}
    path = wanted.get("path") or "/"
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode())
    try:
        status = _STATUS_LINE.match(await reader.readline())
    except ValueError:  # longer than any line of HTTP
        status = None
    with contextlib.suppress(OSError):
        writer.close()
    if status is None:
        raise Unhealthy(f'Get "{path}": malformed HTTP response')
    if not 200 <= int(status[1]) < 400:
        raise Unhealthy(f"HTTP probe failed with statuscode: {int(status[1])}")


def _closely(waited_s: float) -> float:
    """How soon to look again at a container that is young; 0: it no longer is."""
    if waited_s < PROBE_CLOSELY_S:
        return FIRST_PROBES_S
    return LATER_PROBES_S if waited_s < 10 * PROBE_CLOSELY_S else 0.0


def _number(probe: Object, field: str, default: int) -> int:
    return int(probe.get(field) or default)
