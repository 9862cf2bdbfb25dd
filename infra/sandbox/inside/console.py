"""The input of a container's own command, and those who type there."""

import os

TYPE_CHECKING = False  # `typing` costs an import
if TYPE_CHECKING:
    from infra.sandbox.inside.execution import resize
else:
    from execution import resize
if TYPE_CHECKING:
    from infra.sandbox.inside.frames import RESIZE, STDIN
else:
    from frames import RESIZE, STDIN
if TYPE_CHECKING:
    from infra.sandbox.inside.task import HELD, IN, OUT, Task, read, write
else:
    from task import HELD, IN, OUT, Task, read, write


class Console(Task):
    """The standard input of the container's own command; of a terminal also its output, which goes to the log.

    A command with a terminal is the attendant's child, `command`; others are not, and have 0. `code` is its exit code.
    """

    def __init__(self, fd: int, command: int) -> None:
        super().__init__(-1)
        self.fd = fd
        self.command = command
        self.tty = command > 0
        self.code: int | None = None
        os.set_blocking(fd, False)

    def step(self) -> Task | None:
        if self.tty and self.fd >= 0:
            data = read(self.fd)
            if data:
                _log(data)
            elif data is not None:
                self.drop(self.fd)
                self.fd = -1
        return None

    def drain(self) -> None:
        """Log what the command printed before its end, and not all that whoever it leaves behind still prints."""
        left = HELD
        while self.fd >= 0 and left > 0 and (data := read(self.fd)):
            _log(data)
            left -= len(data)

    def wanted(self) -> dict[int, int]:
        return {self.fd: IN} if self.tty and self.fd >= 0 else {}


def _log(data: bytes) -> None:
    while data:  # a signal may cut a write short
        data = data[os.write(1, data) :]


class Attach(Task):
    """Somebody who types for the container's own command."""

    def __init__(self, peer: int, console: Console | None) -> None:
        super().__init__(peer)
        self._console = console
        # An epoll takes a descriptor from one task only, and the console may watch its own.
        self._fd = -1 if console is None or console.fd < 0 else os.dup(console.fd)
        self._typed = b""

    def step(self) -> Task | None:
        self.listen()
        self._type()
        while not self._typed and (got := self.frame()) is not None:
            kind, payload = got
            if kind == STDIN and payload:
                self._typed = payload
            elif kind == STDIN:
                self._end()
            elif kind == RESIZE and self._fd >= 0:
                resize(self._fd, payload)
            self._type()
        return None

    def wanted(self) -> dict[int, int]:
        if self.peer < 0:
            return {}
        return {self._fd: OUT} if self._typed else {self.peer: IN}

    def departed(self) -> None:
        super().departed()
        self._typed = b""
        self.drop(self._fd)
        self._fd = -1

    def _type(self) -> None:
        if self._typed:
            sent = -1 if self._fd < 0 else write(self._fd, self._typed)
            self._typed = self._typed[sent:] if sent >= 0 else b""

    def _end(self) -> None:
        """A terminal has no end: there it is ^D that says so."""
        if self._console is not None and not self._console.tty:
            self.drop(self._console.fd)  # nobody watches it
            self._console.fd = -1
            self.drop(self._fd)
            self._fd = -1
