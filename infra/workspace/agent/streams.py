"""A command's standard streams: pipes whose agent's end never blocks the event loop."""

import asyncio
import fcntl
import os
from contextlib import ExitStack
from typing import Self

from .answers import Output
from .errors import Exhausted

CHUNK_BYTES = 65_536  # a pipe's usual capacity: pipe(7)
LIFTED = 10  # above any single digit, which is what a POSIX shell can redirect
DRAIN_BYTES = 1_048_576  # the most a pipe may hold (fs.pipe-max-size): enough for all that is in it at one moment


class Streams:
    """The three streams of one command; `numbers` are the child's ends of 0, 1 and 2.

    Without `stdin` the child reads from `nothing`, the caller's descriptor. Raises Exhausted when no pipe can be had.
    Leaving the context closes all; after `finish` only what no longer matters.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_bytes: int, stdin: bytes | None, nothing: int) -> None:
        with ExitStack() as opened:
            try:
                self._stdout = opened.enter_context(Capture(loop, limit_bytes))
                self._stderr = opened.enter_context(Capture(loop, limit_bytes))
                self._stdin = None if stdin is None else opened.enter_context(Feed(loop, stdin))
            except OSError as exc:
                raise Exhausted.because(exc) from exc
            self._opened = opened.pop_all()
        reader = nothing if self._stdin is None else self._stdin.theirs
        self.numbers = (reader, self._stdout.theirs, self._stderr.theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def start(self) -> None:
        """The child has its ends: let go of them and let the data flow."""
        for stream in (self._stdin, self._stdout, self._stderr):
            if stream is not None:
                stream.start()

    def finish(self) -> tuple[Output, Output]:
        """What was written to stdout and stderr up to now."""
        outputs = self._stdout.finish(), self._stderr.finish()
        self._opened.pop_all()
        if self._stdin is not None:
            self._stdin.close()
        return outputs


class Pipe:
    """A pipe with one end for the child (`theirs`, blocking) and one for the agent (`_ours`, not blocking)."""

    __slots__ = ("_loop", "_ours", "theirs")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, child_reads: bool) -> None:
        self._loop = loop
        reader, writer = os.pipe()
        self.theirs, self._ours = (reader, writer) if child_reads else (writer, reader)
        os.set_blocking(self._ours, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lift(self) -> Self:
        """Give the child's end a number beyond those that a child is given: dup2 to one of them would replace it."""
        try:
            lifted = fcntl.fcntl(self.theirs, fcntl.F_DUPFD_CLOEXEC, LIFTED)
        except OSError:
            self.close()
            raise
        self.release()
        self.theirs = lifted
        return self

    def close(self) -> None:
        """Let go of both ends; closing twice is not an error."""
        self.release()
        if self._ours >= 0:
            self._loop.remove_reader(self._ours)
            self._loop.remove_writer(self._ours)
            os.close(self._ours)
            self._ours = -1

    def release(self) -> None:
        """The child has its end."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1


class Capture(Pipe):
    """One output stream. Keeps the first `limit_bytes` and reads on, so that its writers are never blocked.

    After `finish` it goes on discarding until every writer is gone, and then closes itself: a child in the background
    that still has the stream open neither blocks nor dies of SIGPIPE.
    """

    __slots__ = ("_kept", "_limit", "_limit_bytes", "_truncated")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_bytes: int) -> None:
        super().__init__(loop, child_reads=False)
        self._kept: bytearray | None = bytearray()
        self._limit = self._limit_bytes = limit_bytes
        self._truncated = False

    def start(self) -> None:
        self.release()
        self._loop.add_reader(self._ours, self._read)

    def take(self) -> Output:
        """What was written since the last call."""
        budget = DRAIN_BYTES
        while budget > 0 and (size := self._read()):
            budget -= size
        output = Output(self._kept or b"", self._truncated)
        self._kept, self._limit, self._truncated = bytearray(), self._limit_bytes, False
        return output

    def finish(self) -> Output:
        """What was written up to now. Called once."""
        output = self.take()
        self._kept = None
        return output

    def _read(self) -> int:
        """Take one chunk and say how large it is; 0 when there is none now, or never again."""
        if self._ours < 0:
            return 0
        try:
            chunk = os.read(self._ours, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not chunk:
            self.close()
        elif self._kept is not None:
            self._keep(chunk, self._kept)
        return len(chunk)

    def _keep(self, chunk: bytes, kept: bytearray) -> None:
        room = self._limit - len(kept)
        try:
            kept += chunk[:room]
        except MemoryError:  # the container's limit came before ours
            self._limit = len(kept)
            self._truncated = True
        self._truncated = self._truncated or len(chunk) > room


class Feed(Pipe):
    """Standard input: writes `data` as fast as it is read, then closes. A reader that goes away is not an error."""

    __slots__ = ("_rest",)

    def __init__(self, loop: asyncio.AbstractEventLoop, data: bytes) -> None:
        super().__init__(loop, child_reads=True)
        self._rest = memoryview(data)

    def start(self) -> None:
        self._write()  # what fits into the pipe needs no turn of the loop
        self.release()
        if self._ours >= 0:
            self._loop.add_writer(self._ours, self._write)

    def _write(self) -> None:
        try:
            self._rest = self._rest[os.write(self._ours, self._rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.close()
            return
        if not self._rest:
            self.close()
