"""One attempt of a task: a container that runs to its end, to its timeout, or until it is not wanted any more."""

import asyncio
import signal
from dataclasses import dataclass

from google.cloud.run_v2 import types
from google.rpc import code_pb2, status_pb2

from infra.emulators.run.keeper import said
from infra.sandbox.spec import Container, ContainerSpec, Runtime, SandboxError

CLOSE_GRACE_S = 1.0  # for a container that runs when the emulator ends


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that an attempt may take, and that its container has between TERM and KILL."""

    timeout_s: float
    grace_s: float


async def attempt(runtime: Runtime, spec: ContainerSpec, limits: Limits, end: asyncio.Event) -> types.TaskAttemptResult:
    """`end` ends it early, as cancelled. Nothing runs any more on return, nor when it is cancelled itself."""
    try:
        container = await runtime.start(spec)
    except (SandboxError, OSError) as exc:
        return failed(code_pb2.INTERNAL, f"The sandbox did not start: {exc}")
    exited = asyncio.create_task(container.wait())
    asked = asyncio.create_task(end.wait())
    try:
        await asyncio.wait({exited, asked}, timeout=limits.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if exited.done():
            return _exited(exited.result(), container)
        await container.stop(limits.grace_s)
        if end.is_set():
            return failed(code_pb2.CANCELLED, "The execution was cancelled.", signal_of(await exited))
        message = f"The task was terminated: it reached its timeout of {limits.timeout_s:g} seconds."
        return failed(code_pb2.DEADLINE_EXCEEDED, said(message, container), signal_of(await exited))
    finally:
        exited.cancel()
        asked.cancel()
        await container.stop(min(limits.grace_s, CLOSE_GRACE_S))


def failed(code: int, message: str, term_signal: int = 0) -> types.TaskAttemptResult:
    """`term_signal`: what the system ended the container by."""
    return types.TaskAttemptResult(status=status_pb2.Status(code=code, message=message), term_signal=term_signal)


def signal_of(exit_code: int) -> int:
    """What ended a container that was told to end."""
    return int(signal.SIGKILL if exit_code == 128 + signal.SIGKILL else signal.SIGTERM)


def _exited(exit_code: int, container: Container) -> types.TaskAttemptResult:
    if exit_code == 0:
        return types.TaskAttemptResult()
    message = said(f"The container exited with code {exit_code}.", container)
    return types.TaskAttemptResult(
        status=status_pb2.Status(code=code_pb2.UNKNOWN, message=message), exit_code=exit_code
    )
