"""Processes of this machine: starting one whose output is kept, and looking at the tree below one."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from infra.sandbox.spec import Sink

LOG_TAIL_BYTES = 16_384
_READ_BYTES = 65_536
_LAST_WAITS, _LAST_WAIT_S = 10, 0.05


class LogTail:
    """The last LOG_TAIL_BYTES of what was added."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        self._kept += data
        del self._kept[:-LOG_TAIL_BYTES]

    def text(self) -> str:
        return self._kept.decode(errors="replace")


class Child:
    """A child process whose stdout and stderr end in a log tail; its owner awaits `finish` or calls `kill`."""

    def __init__(self, process: asyncio.subprocess.Process, log: LogTail, sink: Sink | None) -> None:
        self._process = process
        self._log = log
        self._sink = sink
        streams = (("stdout", process.stdout), ("stderr", process.stderr))
        reading = [self._read(name, stream) for name, stream in streams if stream is not None]
        self._reader = asyncio.gather(*(asyncio.create_task(r, name=f"log of {process.pid}") for r in reading))

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        stdin: int = asyncio.subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        sink: Sink | None = None,
    ) -> "Child":
        """`sink` gets all output, each stream by itself."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if sink is None else asyncio.subprocess.PIPE,
            pass_fds=pass_fds,
            env=env,
            start_new_session=True,  # a Ctrl-C in the terminal is the stack's to handle
        )
        return cls(process, LogTail(), sink)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    def log_tail(self) -> str:
        return self._log.text()

    async def finish(self) -> int:
        """The exit code, 128 + N for a death by signal N, once everything printed is in the log."""
        code = await self._process.wait()
        # A stray holder of the pipe must not keep us: what it prints later is not this process's. Many short waits: if
        # our own loop is held up, one wait is over before anything was read.
        for _ in range(_LAST_WAITS):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._reader), _LAST_WAIT_S)
                break
        self._reader.cancel()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def kill_session(self) -> None:
        """Kill it and what it started, as far as that stayed in its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _read(self, name: str, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(_READ_BYTES):
            self._log.add(data)
            if self._sink is not None:
                self._sink.add(name, data)


class Watched:
    """A process that is not our child: its end can be awaited, and a signal cannot hit a later owner of its number."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError: it is gone already."""
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def kill(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    async def ended(self) -> None:
        """Return once it has ended; the first of a pid namespace ends after all others in it."""
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_reader(self._fd, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def children(pid: int) -> list[int]:
    """The direct children of `pid`; empty once it is gone."""
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> Iterator[int]:
    """`pid` and everything below it. Inside a pid namespace nothing leaves the tree of its first process."""
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        yield current
        for task in _tasks(current):
            with contextlib.suppress(OSError):
                waiting += [int(n) for n in Path(f"/proc/{current}/task/{task}/children").read_text().split()]


def _tasks(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names only, many times a second
    except OSError:
        return []


def signal_process(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that is gone is not an error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
