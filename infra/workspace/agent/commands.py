"""Running commands: one process family each, bounded in time and output, independent of one another.

A command is over when its main process is: what it left in the background lives on and its later output is discarded.
A timeout, a client that went away and the agent's own end all end the whole family: TERM, then KILL.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress

from .answers import TIMED_OUT, Outcome, Output
from .children import Child, Children, copies
from .errors import Abandoned, CannotExecute, Stopping
from .family import Family, alone
from .requests import Command
from .streams import Streams

log = logging.getLogger(__name__)

GRACE_S = 2.0  # between TERM and KILL
KILL_S = 1.0  # for what KILL has hit to disappear; a process in an uninterruptible wait is left behind
INIT = 1
LOOK_S = 0.02  # between two looks at a family that was asked to end: an orphan's end is nobody's event


class Commands:
    """Starts commands with `environment`, keeps `output_limit_bytes` of each stream. `children` is the caller's.

    While the session is frozen a command's time goes on, and what ends a command waits for the thaw.
    """

    def __init__(self, children: Children, environment: Mapping[str, str], output_limit_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._children = children
        self._environment = environment
        self._limit_bytes = output_limit_bytes
        self._running: set[Child] = set()
        self._stopping = False

    async def run(self, command: Command, gone: asyncio.Future[None]) -> Outcome:
        """Run to the end, or to the timeout (returncode 124), or until `gone` is done: nobody waits any more.

        Raises BadRequest, Exhausted, Frozen, Restoring and Stopping (nothing was run), and Abandoned (the command was
        killed).
        A program that cannot be executed is an outcome (126, 127), as in a shell. Cancelling kills.
        """
        if self._stopping:
            raise Stopping("the workspace is being stopped")
        started = time.monotonic()
        env = {**self._environment, **command.env} if command.env else self._environment
        try:
            with Streams(self._loop, self._limit_bytes, command.stdin, self._children.nothing) as streams:
                child = self._children.spawn(command.argv, env, command.cwd, copies(streams.numbers))
                streams.start()
                returncode = await self._end_of(child, command.timeout_s, gone)
                stdout, stderr = streams.finish()
        except CannotExecute as exc:
            returncode, stdout, stderr = exc.returncode, Output(), Output(f"{exc}\n".encode())
        duration_ms = (time.monotonic() - started) * 1000
        if returncode is None:
            return Outcome(stdout, stderr, TIMED_OUT, True, duration_ms)
        return Outcome(stdout, stderr, returncode, False, duration_ms)

    async def stop(self) -> None:
        """Start nothing more and end what runs; each command is still answered. Idempotent.

        As pid 1 the agent takes the whole container with it, so what runs in the background is asked to end, too.
        """
        self._stopping = True
        ends = [end(child) for child in self._running]
        if os.getpid() == INIT:
            ends.append(_end_of_everybody())
        await asyncio.gather(*ends)

    async def _end_of(self, child: Child, timeout_s: float, gone: asyncio.Future[None]) -> int | None:
        """The exit code, or None for a command that was ended because its time was up."""
        self._running.add(child)
        try:
            await asyncio.wait((child.ended, gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not child.ended.done():
                await self._children.gate.thawed()
            if child.ended.done():
                return child.ended.result()
            await end(child)
        except asyncio.CancelledError:
            Family(child.pid).signal(signal.SIGKILL)
            raise
        finally:
            self._running.discard(child)
        if gone.done():
            raise Abandoned("the client went away before the command ended")
        return None


async def end(child: Child, *more: signal.Signals) -> None:
    """End a command's family: TERM (and `more`), then KILL after a grace; early when nobody is left. Idempotent."""
    family = Family(child.pid)
    for number in (signal.SIGTERM, *more):
        family.signal(number)
    if await _all_gone(family, GRACE_S):
        return
    family.signal(signal.SIGKILL)
    if not await _all_gone(family, KILL_S, again=signal.SIGKILL):
        log.warning("processes outlived SIGKILL", extra={"pids": [process.pid for process in family.members()]})


async def _end_of_everybody() -> None:
    """TERM to all that this pid 1 can see; what is left after the grace, the kernel kills with it."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while not alone():
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(LOOK_S)


async def _all_gone(family: Family, patience_s: float, *, again: signal.Signals | None = None) -> bool:
    """Wait for the family's end; with `again`, signal whoever appeared since."""
    deadline = time.monotonic() + patience_s
    while family.signal(again) if again else family.members():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_S)
    return True
