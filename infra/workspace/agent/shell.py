"""A shell that lives over its commands: a process that reads them from a pipe and keeps its state between them.

What a command leaves in the background lives on, and its later output is the next command's. A timeout ends the
command's own processes, an interrupt signals them; whose they are, the time tells at which they started.
"""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from .answers import SIGNALLED, TIMED_OUT, Outcome
from .children import Child, Children, copies, copy
from .commands import GRACE_S, KILL_S, LOOK_S, end
from .driver import BASH, CONTROL, SCRIPT, SH, Dialect, status
from .errors import CannotExecute, Exhausted
from .family import Family, Process
from .streams import Capture, Pipe

OUTPUT_LIMIT_BYTES = 1_000_000  # per stream and command; a frame holds hardly more
INTERRUPTED = SIGNALLED + signal.SIGINT
LOOKS = 5  # for processes that were just being started when an interrupt came
MAX_ANSWER_BYTES = 65_536  # a folder's path may be longer than PATH_MAX; what is longer than this is not an answer
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Shell:
    """One shell process. `cwd` is where it is; `broken` says that it did not come back from its last command.

    Leaving the context ends the shell and all that descends from it.
    """

    def __init__(self, children: Children, environment: Mapping[str, str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._children = children
        self._environment = environment
        self._interrupt: asyncio.Future[None] = self._loop.create_future()
        self._start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    @property
    def name(self) -> str:
        return self._dialect.name

    @property
    def ended(self) -> asyncio.Future[int]:
        """The shell's exit code, once it has one."""
        return self._child.ended

    async def run(self, line: str, timeout_s: float) -> Outcome:
        """Run one command line to its end. Nothing else may run at the time.

        When the shell itself ends, its exit code is the outcome's.
        """
        started, since = time.monotonic(), _ticks()
        answer = self._control.next()
        self._script.write(self._dialect.command(line).encode())
        interrupted = await self._until_answered(answer, started + timeout_s, since)
        if not (answer.done() or self.ended.done()):
            await self._children.gate.thawed()
        timed_out = not (answer.done() or self.ended.done())
        if timed_out:
            await self._end_command(answer, since)
        stdout, stderr = self._stdout.take(), self._stderr.take()
        duration_ms = (time.monotonic() - started) * 1000
        returncode = 0
        if answer.done():
            returncode, self.cwd = answer.result()
        elif not timed_out and not interrupted:
            returncode = self.ended.result()
        if timed_out or interrupted:
            returncode = TIMED_OUT if timed_out else INTERRUPTED
            self.broken = not answer.done()
            self._prepare(self._dialect.recovery)
        if self._interrupt.done():
            self._interrupt = self._loop.create_future()
        return Outcome(stdout, stderr, returncode, timed_out, duration_ms)

    async def restart(self) -> None:
        """End the shell and start a new one, which knows nothing of the old one's state. Raises Exhausted."""
        await self._end()
        self._start()

    def interrupt(self) -> None:
        """SIGINT to what the running command has started, or else to the next one."""
        if not self._interrupt.done():
            self._interrupt.set_result(None)

    def _start(self) -> None:
        """Raises Exhausted."""
        earliest = _ticks()
        with ExitStack() as opened:
            try:
                self._stdout = opened.enter_context(Capture(self._loop, OUTPUT_LIMIT_BYTES))
                self._stderr = opened.enter_context(Capture(self._loop, OUTPUT_LIMIT_BYTES))
                self._script = opened.enter_context(Script(self._loop))
                self._control = opened.enter_context(Control(self._loop))
            except OSError as exc:
                raise Exhausted.because(exc) from exc
            try:
                self._dialect, self._child = BASH, self._spawn(BASH)
            except CannotExecute:
                self._dialect, self._child = SH, self._spawn(SH)
            self._opened = opened.pop_all()
        self._spawned = range(earliest, _ticks() + 1)
        for pipe in (self._stdout, self._stderr, self._control):
            pipe.start()
        self._script.release()
        self._prepare(self._dialect.opening)
        self._family = Family(self._child.pid)
        self.cwd = os.fsencode(Path.cwd()).decode(errors="replace")
        self.broken = False

    def _prepare(self, text: str) -> None:
        """Have the shell read what is no command; until it has, it does not know what to do with a signal."""
        self._ready = self._control.next()
        self._script.write((text + self._dialect.command("")).encode())

    def _spawn(self, dialect: Dialect) -> Child:
        actions = copies((self._children.nothing, self._stdout.theirs, self._stderr.theirs))
        actions += [copy(self._script.theirs, SCRIPT), copy(self._control.theirs, CONTROL)]
        return self._children.spawn(dialect.argv, self._environment, None, actions)

    async def _end(self) -> None:
        """TERM, then KILL for all that descends from the shell. Cancelling kills."""
        try:
            await self._children.gate.thawed()
            await end(self._child)
        except asyncio.CancelledError:
            self._family.signal(signal.SIGKILL)
            raise
        finally:
            self._opened.close()

    async def _until_answered(self, answer: asyncio.Future[tuple[int, str]], deadline: float, since: int) -> bool:
        """Wait for the answer, the shell's end or the deadline, passing interrupts on; True when there was one."""
        interrupted = False
        while True:
            await asyncio.wait(
                (answer, self.ended, self._interrupt),
                timeout=max(deadline - time.monotonic(), 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answer.done() or self.ended.done() or not self._interrupt.done():
                return interrupted
            interrupted = True
            self._interrupt = self._loop.create_future()
            await asyncio.wait(
                (self._ready, self.ended),
                timeout=max(deadline - time.monotonic(), 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            await self._pass_on_interrupt(answer, since)

    async def _pass_on_interrupt(self, answer: asyncio.Future[tuple[int, str]], since: int) -> None:
        """The shell first, so that it starts nothing more; then each process once, when it is what it shall be.

        A fork of the shell forgets a signal that comes before it has put its parent's traps away.
        """
        await self._children.gate.thawed()
        self._abandon_line()
        signalled: set[tuple[int, int]] = set()
        for _ in range(LOOKS):
            new = [process for process in self._members(since) if (process.pid, process.started) not in signalled]
            signalled.update((process.pid, process.started) for process in new if not self._is_fork(process))
            _signal(new, signal.SIGINT)
            await asyncio.wait((answer, self.ended), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if answer.done() or self.ended.done():
                return

    async def _end_command(self, answer: asyncio.Future[tuple[int, str]], since: int) -> None:
        """TERM, then KILL, until nothing is left of the command and the shell goes on, or does not."""
        for number, patience_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, KILL_S)):
            deadline = time.monotonic() + patience_s
            self._abandon_line()
            members = self._members(since)
            _signal(members, number)
            while (members or not answer.done()) and time.monotonic() < deadline and not self.ended.done():
                await asyncio.sleep(LOOK_S)
                members = self._members(since)
                if number == signal.SIGKILL:
                    _signal(members, number)

    def _is_fork(self, process: Process) -> bool:
        """A subshell, or a command that is not executed yet."""
        return _arguments(process.pid) == _arguments(self._child.pid)

    def _abandon_line(self) -> None:
        if not self.ended.done():
            os.kill(self._child.pid, signal.SIGINT)

    def _members(self, since: int) -> list[Process]:
        """Who was started since then, within the 10 ms of a tick: in doubt, it is the command's."""
        members = self._family.members()
        shell = next((p for p in members if p.pid == self._child.pid), None)
        if shell is not None and shell.started not in self._spawned:
            since += shell.started - self._spawned.start  # /proc has another zero than the clock
        return [p for p in members if p.pid != self._child.pid and p.started >= since]


class Script(Pipe):
    """What the shell reads; written as fast as it does."""

    __slots__ = ("_rest",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, child_reads=True)
        self._rest = b""
        self.lift()

    def write(self, data: bytes) -> None:
        """A shell that has ended is not an error."""
        waiting = bool(self._rest)
        self._rest += data
        if not waiting:
            self._write()

    def _write(self) -> None:
        if self._ours < 0:
            return
        try:
            self._rest = self._rest[os.write(self._ours, self._rest) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._rest = b""
        if self._rest:
            self._loop.add_writer(self._ours, self._write)
        else:
            self._loop.remove_writer(self._ours)


class Control(Pipe):
    """Where the shell says how each command went."""

    __slots__ = ("_begun", "_expected")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, child_reads=False)
        self._expected: deque[asyncio.Future[tuple[int, str]]] = deque()
        self._begun = b""
        self.lift()

    def start(self) -> None:
        self.release()
        self._loop.add_reader(self._ours, self._read)

    def next(self) -> asyncio.Future[tuple[int, str]]:
        """The exit code and the folder of the next command that is written to the shell."""
        answer: asyncio.Future[tuple[int, str]] = self._loop.create_future()
        self._expected.append(answer)
        return answer

    def _read(self) -> None:
        chunk = os.read(self._ours, MAX_ANSWER_BYTES)
        *answers, self._begun = (self._begun + chunk).split(b"\0")
        if not chunk or len(self._begun) > MAX_ANSWER_BYTES:
            self.close()
        for answer in answers:
            with suppress(ValueError, IndexError):  # not the driver's: a command has found the descriptor
                self._expected.popleft().set_result(status(answer))


def _signal(processes: list[Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):  # ended meanwhile, or became another user's (setuid)
            os.kill(process.pid, number)


def _arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # ended meanwhile
        return b""


def _ticks() -> int:
    """Now, in the unit in which /proc says when a process started."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * TICKS_PER_S // 1_000_000_000
