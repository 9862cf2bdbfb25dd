"""Commands that an attendant starts and serves; each goes on when whoever asked for it has gone."""

import _signal  # type: ignore[import-not-found]  # `signal` costs the import of enum
import fcntl
import os
import sys
import termios

TYPE_CHECKING = False  # `typing` costs an import
if TYPE_CHECKING:
    from infra.sandbox.inside.frames import (
        CHUNK,
        EXITED,
        FAILED,
        HEADER_BYTES,
        RESIZE,
        SIGNAL,
        STDERR,
        STDIN,
        STDOUT,
        frame,
    )
else:
    from frames import CHUNK, EXITED, FAILED, HEADER_BYTES, RESIZE, SIGNAL, STDERR, STDIN, STDOUT, frame
if TYPE_CHECKING:
    from infra.sandbox.inside.task import HELD, IN, OUT, Task, read, write
else:
    from task import HELD, IN, OUT, Task, read, write


class Execution(Task):
    """A command, with its peer or after it."""

    def __init__(self, peer: int, words: list[bytes], children: "dict[int, Execution]") -> None:
        super().__init__(peer)
        self.code: int | None = None
        self._pid = 0
        self._tty = words[0] == b"1"
        self._outputs: dict[int, int] = {}
        self._stdin = -1
        self._typed = b""
        self._held = HELD
        self._over = False
        count = int(words[4])
        variables = dict(os.environb)
        variables.update(word.partition(b"=")[::2] for word in words[5 + count :])
        try:
            self._start(words[5 : 5 + count], words[3], variables, window(int(words[1]), int(words[2])))
        except OSError as exc:
            self._end(FAILED, (exc.strerror or str(exc)).encode())
        else:
            children[self._pid] = self

    def _start(self, argv: list[bytes], cwd: bytes, variables: dict[bytes, bytes], size: bytes) -> None:
        ours: tuple[int, ...]
        if self._tty:
            master, slave = os.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
            ours, theirs = (master,), (slave,) * 3
            self._stdin = master
            self._outputs = {master: STDOUT}
        else:
            (r0, w0), (r1, w1), (r2, w2) = os.pipe(), os.pipe(), os.pipe()
            ours, theirs = (w0, r1, r2), (r0, w1, w2)
            self._stdin = w0
            self._outputs = {r1: STDOUT, r2: STDERR}
        try:
            self._pid = spawn(argv, cwd, variables, theirs, controls=self._tty)
        except OSError:
            self._stdin, self._outputs = -1, {}
            self.doomed += ours
            raise
        finally:
            for fd in set(theirs):
                os.close(fd)
        for fd in ours:
            os.set_blocking(fd, False)

    def step(self) -> Task | None:
        self.listen()
        self._type()
        while not self._typed and (got := self.frame()) is not None:
            self._told(*got)
            self._type()
        for fd, kind in list(self._outputs.items()):
            self._pass_on(fd, kind)
        if self.code is not None and not self._outputs and not self._over:
            self._end(EXITED, str(self.code).encode())
        self.speak()
        if self._over and not self.outbox:
            self.departed()
        return None

    def wanted(self) -> dict[int, int]:
        events = dict.fromkeys(self._outputs, IN if self._room() else 0)
        if self._typed:
            events[self._stdin] = events.get(self._stdin, 0) | OUT
        if self.peer >= 0:
            hears = len(self.inbox) < HEADER_BYTES + CHUNK and not self._over
            events[self.peer] = (IN if hears else 0) | (OUT if self.outbox else 0)
        return events

    def departed(self) -> None:
        super().departed()
        self._typed = b""
        self._close_stdin()

    def _told(self, kind: int, payload: bytes) -> None:
        if kind == STDIN and payload:
            self._typed = payload if self._stdin >= 0 else b""
        elif kind == STDIN:
            self._close_stdin()
        elif kind == RESIZE and self._tty and self._stdin >= 0:
            resize(self._stdin, payload)
        elif kind == SIGNAL and self.code is None and self._pid:
            try:
                os.killpg(self._pid, int(payload))
            except OSError:
                return

    def _room(self) -> bool:
        return self.peer < 0 or len(self.outbox) < CHUNK

    def _pass_on(self, fd: int, kind: int) -> None:
        """Pass on some of what is there; once the command has ended, what is in its terminal, and close that.

        A terminal ends with the command that leads it, whoever else may hold it; a pipe ends with its last holder.
        """
        last = self._tty and self.code is not None
        while self._room():
            data = read(fd)
            if data and self.peer >= 0:
                self.outbox += frame(kind, data)
            over = data == b""
            if last:
                self._held -= len(data or b"")
                over = not data or self._held <= 0
            if over:
                self._close_output(fd)
            if over or not last:
                return

    def _type(self) -> None:
        if self._typed:
            sent = write(self._stdin, self._typed)
            self._typed = self._typed[sent:] if sent >= 0 else b""
            if sent < 0:
                self._close_stdin()

    def _close_stdin(self) -> None:
        """A terminal stays open: what is typed there ends with ^D, and what is printed still comes."""
        if self._stdin >= 0 and not self._tty:
            self.drop(self._stdin)
            self._stdin = -1

    def _close_output(self, fd: int) -> None:
        del self._outputs[fd]
        self.drop(fd)
        if fd == self._stdin:
            self._stdin, self._typed = -1, b""

    def _end(self, kind: int, payload: bytes) -> None:
        self._over = True
        if not self._tty:
            self.drop(self._stdin)
            self._stdin, self._typed = -1, b""
        if self.peer >= 0:
            self.outbox += frame(kind, payload)


def spawn(
    argv: list[bytes], cwd: bytes, variables: dict[bytes, bytes], stdio: tuple[int, ...], *, controls: bool
) -> int:
    """Start a command in a session of its own; `controls` makes stdio its terminal. Raises OSError: why it cannot."""
    failed, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        act = b"chdir"
        try:
            become(stdio, controls=controls)
            if cwd:
                os.chdir(cwd)
            act = b"exec"
            os.execvpe(argv[0], argv, variables)  # noqa: S606 - what was asked for
        except OSError as exc:
            os.write(tell, b"%d %s" % (exc.errno or 0, act))
        finally:
            os._exit(127)
    os.close(tell)
    said = os.read(failed, 100)
    os.close(failed)
    if said:
        os.waitpid(pid, 0)
        number, _, act = said.partition(b" ")
        word = (cwd if act == b"chdir" else argv[0]).decode(errors="replace")
        raise OSError(int(number), f"{act.decode()}: {word!r}: {os.strerror(int(number)).lower()}")
    return pid


def become(stdio: tuple[int, ...], *, controls: bool) -> None:
    """In a new process: a session of its own, its standard streams, and signals as a program expects them."""
    _signal.set_wakeup_fd(-1)  # the attendant's own
    os.setsid()
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
    if controls:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    default_signals()


def default_signals() -> None:
    """Python ignores these two, and what is ignored stays so in the programs it becomes."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def resize(terminal: int, payload: bytes) -> None:
    rows, columns = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, window(rows, columns))
    except OSError:
        return


def window(rows: int, columns: int) -> bytes:
    """struct winsize of man 2 TIOCSWINSZ; also the payload of RESIZE, but for its byte order there."""
    return b"".join(n.to_bytes(2, sys.byteorder) for n in (rows, columns, 0, 0))
