"""Processes of the stack: each with a log of its own, watched while it runs, ended with all the others.

None outlives the process that started them, however that ends: a guard, a few lines of shell in the children's own
process group, sees its standard input close, ends them, and removes what the stack would have removed.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STOP_GRACE_S = 8.0  # the emulators end every sandbox in it, each with a grace of its own
LAST_WORDS_S = 1.0  # a grandchild may hold the pipe open for longer
LOG_TAIL_BYTES = 4000
LOG_TAIL_LINES = 15
KEPT_LOGS = 3

# Reads the children's process ids until the stack is gone, then ends them: TERM, and KILL for what is left after 4 s.
GUARD = """
trap '' INT TERM HUP
pids=
while read -r pid; do pids="$pids $pid"; done
[ -n "$pids" ] && kill -TERM $pids
turns=80
while [ $turns -gt 0 ]; do
  alive=
  for pid in $pids; do kill -0 "$pid" && alive=1; done
  [ -z "$alive" ] && break
  sleep 0.05
  turns=$((turns - 1))
done
rm -rf -- "$@"
kill -KILL 0
"""


class ChildFailed(Exception):
    """A process of the stack could not be started, or ended by itself; the message ends with its log's last lines."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `fds` are passed on under their numbers; `environment` is the whole of it."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    fds: tuple[int, ...] = ()


class Child:
    """A running process. Its standard output and error go to `log`; it lives on an open standard input, `stdin`.

    The pipes are ours and not asyncio's: there a process has not ended while a grandchild holds one.
    """

    def __init__(self, name: str, log: Path, process: asyncio.subprocess.Process, stdin: int, stdout: int) -> None:
        self.name = name
        self.pid = process.pid
        self.log = log
        self._process = process
        self._stdin = os.fdopen(stdin, "wb", buffering=0)  # closed in _kill
        self._copying = asyncio.create_task(self._copy(stdout), name=f"log of {self.name}")
        self._first_line: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def line(self) -> bytes:
        """The first line that it prints: how our own processes say that they are ready. Raises ChildFailed."""
        text = await self._first_line
        if not text.endswith(b"\n"):
            raise await self.failure()
        return text

    async def tell(self, line: bytes) -> None:
        """Write a line, shorter than a pipe's buffer, to its standard input. Raises ChildFailed."""
        try:
            self._stdin.write(line + b"\n")
        except BrokenPipeError:
            raise await self.failure() from None

    async def failure(self) -> ChildFailed:
        """Wait for its end, and say how it ended."""
        code = await self._process.wait()
        await asyncio.wait([self._copying], timeout=LAST_WORDS_S)
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return ChildFailed(f"{self.name} ended by itself ({how}). The end of {self.log}:\n{tail(self.log)}")

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """TERM, and after `grace_s` KILL. Idempotent; cancelled, it kills at once."""
        try:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.terminate()
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
        except TimeoutError:
            pass
        finally:
            await self._kill()

    async def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                self._process.kill()
        self._stdin.close()
        await self._process.wait()
        await asyncio.wait([self._copying], timeout=LAST_WORDS_S)
        self._copying.cancel()

    async def _copy(self, stdout: int) -> None:
        """Standard output into the log; standard error goes there by itself."""
        output = asyncio.StreamReader()
        pipe = os.fdopen(stdout, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), pipe
        )
        try:
            first_line = await output.readline()
            self._first_line.set_result(first_line)
            with self.log.open("ab", buffering=0) as log:
                log.write(first_line)
                while chunk := await output.read(1 << 16):
                    log.write(chunk)
        finally:
            transport.close()
            if not self._first_line.done():
                self._first_line.set_result(b"")


class Children:
    """The processes of one stack. Use as an async context manager: they end in the reverse order of their start.

    `leftovers`: what the guard removes when this process is killed; `held`: descriptors that it holds until then.
    """

    def __init__(self, logs: Path, leftovers: Sequence[Path] = (), held: tuple[int, ...] = ()) -> None:
        self._logs = logs
        self._held = held
        self._leftovers = leftovers
        self._running: list[Child] = []
        self._guard: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> "Children":
        self._guard = subprocess.Popen(  # noqa: ASYNC220  # a blocking write to it cannot be lost to a cancellation
            ["/bin/sh", "-c", GUARD, "onmemos-guard", *map(str, self._leftovers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            pass_fds=self._held,
            process_group=0,
        )
        return self

    async def __aexit__(self, *_: Any) -> None:
        try:
            while self._running:
                await self._running[-1].stop()
                self._running.pop()
        finally:
            self._end_group()  # if the stopping was cancelled, without any more grace

    async def start(self, program: Program) -> Child:
        """Start a process. Raises ChildFailed: there is no such program, or it cannot be run."""
        guard = self._guard
        if guard is None or guard.stdin is None:
            raise RuntimeError("the children are not entered")
        log = self._logs / f"{program.name}.log"
        rotate(log)
        (their_stdin, our_stdin), (our_stdout, their_stdout) = os.pipe(), os.pipe()
        try:
            with log.open("ab", buffering=0) as errors:
                process = await asyncio.create_subprocess_exec(
                    *program.argv,
                    stdin=their_stdin,
                    stdout=their_stdout,
                    stderr=errors,
                    env=dict(program.environment),
                    cwd=program.folder,
                    pass_fds=program.fds,
                    process_group=guard.pid,
                )
        except OSError as exc:
            os.close(our_stdin)
            os.close(our_stdout)
            raise ChildFailed(f"{program.name} cannot be started: {program.argv[0]}: {exc.strerror}") from exc
        finally:
            os.close(their_stdin)
            os.close(their_stdout)
        guard.stdin.write(b"%d\n" % process.pid)
        guard.stdin.flush()
        child = Child(program.name, log, process, our_stdin, our_stdout)
        self._running.append(child)
        return child

    async def first_failure(self) -> ChildFailed:
        """Wait until one of them ends by itself."""
        waiting = [asyncio.create_task(child.failure()) for child in self._running]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in waiting:
                task.cancel()

    def _end_group(self) -> None:
        """Kill what is left in the group: the guard, and what a child may have forgotten."""
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(guard.pid, signal.SIGKILL)
            guard.wait()


def rotate(log: Path) -> None:
    """Make room for a new log: `name.log` becomes `name.log.1`, and so on; the oldest goes."""
    for number in range(KEPT_LOGS, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        newer = log.with_name(f"{log.name}.{number - 1}") if number > 1 else log
        if newer.exists():
            newer.replace(older)


def tail(log: Path) -> str:
    """The last lines of a log; of lines in JSON, what they say."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (it printed nothing)"
