"""/v1/terminal: an interactive shell on a pseudo-terminal; bytes both ways, nothing of them kept."""

import asyncio
import errno
import os
import signal
import termios
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

from .children import Action, Child, Children, copy
from .commands import end
from .errors import CannotExecute, Exhausted
from .family import Family
from .frames import BadFrame, Size, error, exited, parse_resize
from .sockets import Socket
from .streams import CHUNK_BYTES, DRAIN_BYTES

PROGRAMS = (("bash",), ("/bin/sh",))
KIND = "xterm-256color"  # what the terminals of browsers and of most systems understand


class Terminal:
    """A shell that has a terminal of its own. Leaving the context hangs up and ends all that descends from it."""

    def __init__(self, children: Children, environment: Mapping[str, str], size: Size) -> None:
        """Raises Exhausted, and what the gate does."""
        self._loop = asyncio.get_running_loop()
        self._gate = children.gate
        try:
            self._ours, theirs = os.openpty()
        except OSError as exc:
            raise Exhausted.because(exc) from exc
        try:
            os.set_blocking(self._ours, False)
            self.resize(size)
            self._child = _shell(children, {"TERM": KIND, **environment}, os.ttyname(theirs))
        except BaseException:
            os.close(self._ours)
            raise
        finally:
            os.close(theirs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.remove_reader(self._ours)
        self._loop.remove_writer(self._ours)
        os.close(self._ours)
        try:
            await self._gate.thawed()
            await end(self._child, signal.SIGHUP)  # an interactive shell ignores SIGTERM
        except asyncio.CancelledError:
            Family(self._child.pid).signal(signal.SIGKILL)
            raise

    def resize(self, size: Size) -> None:
        """The foreground program gets SIGWINCH."""
        termios.tcsetwinsize(self._ours, (size.rows, size.cols))

    async def talk(self, socket: Socket) -> None:
        """Pass on what the terminal shows, as fast as the client reads, up to the shell's exit code."""
        after_end = DRAIN_BYTES  # a program in the background may write for ever
        while after_end > 0:
            ended = self._child.ended.done()
            try:
                shown = os.read(self._ours, CHUNK_BYTES)
            except BlockingIOError:
                if ended:
                    break
                await self._ready(self._loop.add_reader, self._loop.remove_reader, self._child.ended)
                continue
            except OSError as exc:
                if exc.errno != errno.EIO:
                    raise
                break  # nobody has the terminal open any more
            after_end -= len(shown) if ended else 0
            await socket.send(shown)
        await socket.send(exited(await asyncio.shield(self._child.ended)))

    async def listen(self, socket: Socket) -> None:
        """Take what the client types, as fast as the foreground program reads, and its resizes."""
        while True:
            message = await socket.receive()
            if isinstance(message, bytes):
                await self._write(message)
                continue
            try:
                self.resize(parse_resize(message))
            except BadFrame as exc:
                await socket.send(error(exc))

    async def _write(self, typed: bytes) -> None:
        rest = memoryview(typed)
        while rest:
            try:
                rest = rest[os.write(self._ours, rest) :]
            except BlockingIOError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)
            except OSError as exc:
                if exc.errno != errno.EIO:
                    raise
                return  # the shell has just ended

    async def _ready(
        self,
        add: Callable[[int, Callable[[], object]], object],
        remove: Callable[[int], object],
        *others: asyncio.Future[Any],
    ) -> None:
        """Wait until the terminal can be read from (written to), or one of the others is done."""
        ready = asyncio.Event()
        add(self._ours, ready.set)
        waiting = asyncio.ensure_future(ready.wait())
        try:
            await asyncio.wait((waiting, *others), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            remove(self._ours)


def _shell(children: Children, environment: Mapping[str, str], terminal: str) -> Child:
    """The first that there is. Opening a terminal makes it the controlling one of a session that has none."""
    opened: Action = (os.POSIX_SPAWN_OPEN, 0, terminal, os.O_RDWR, 0)
    actions = (opened, copy(0, 1), copy(0, 2))
    for argv in PROGRAMS[:-1]:
        with suppress(CannotExecute):
            return children.spawn(argv, environment, None, actions)
    return children.spawn(PROGRAMS[-1], environment, None, actions)
