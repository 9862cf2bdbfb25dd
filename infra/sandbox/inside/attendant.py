"""Serves exec, attach and dial inside a container on a Unix socket, as a container runtime's shim does outside.

One thread, one epoll and C modules alone: it starts with every container and must cost next to nothing.
What is said on a connection: frames.py.
"""

import _signal  # type: ignore[import-not-found]  # `signal` costs the import of enum
import _socket
import os
import select
import sys

TYPE_CHECKING = False  # `typing` costs an import
if TYPE_CHECKING:
    from infra.sandbox.inside.console import Attach, Console
else:
    from console import Attach, Console
if TYPE_CHECKING:
    from infra.sandbox.inside.dialing import Dial
else:
    from dialing import Dial
if TYPE_CHECKING:
    from infra.sandbox.inside.execution import Execution
else:
    from execution import Execution
if TYPE_CHECKING:
    from infra.sandbox.inside.frames import CHUNK, LARGEST_FRAME
else:
    from frames import CHUNK, LARGEST_FRAME
if TYPE_CHECKING:
    from infra.sandbox.inside.listening import bind
    from infra.sandbox.inside.task import IN, Task, read
else:
    from listening import bind
    from task import IN, Task, read


class Newcomer(Task):
    """A connection that has not said yet what it wants."""

    def __init__(self, peer: int, attendant: "Attendant") -> None:
        super().__init__(peer)
        self._attendant = attendant

    def step(self) -> Task | None:
        if self.peer >= 0 and (data := read(self.peer)) is not None:
            self.inbox += data
            if not data or len(self.inbox) > LARGEST_FRAME + CHUNK:
                self.departed()
        asked = self.frame()
        if asked is None:
            return None
        words = asked[1].split(b"\0")
        task: Task
        if words[0] == b"exec":
            task = Execution(self.peer, words[1:], self._attendant.children)
        elif words[0] == b"dial":
            task = Dial(self.peer, int(words[1]))
        else:
            task = Attach(self.peer, self._attendant.console)
        task.inbox = self.inbox
        return task

    def wanted(self) -> dict[int, int]:
        return {self.peer: IN}


class Attendant:
    """All connections and commands of one container."""

    def __init__(self, listener: _socket.socket, console: Console | None) -> None:
        self.children: dict[int, Execution] = {}
        self.console = console
        self._listener = listener
        self._poll = select.epoll()
        self._tasks: dict[int, Task] = {}

    def serve(self, passed_on: tuple[int, ...] = ()) -> int:
        """Until the command with the terminal has ended, and with its exit code; without one, for ever.

        Signals `passed_on` are that command's; they come blocked.
        """
        told, wake = os.pipe()
        for fd in (told, wake):
            os.set_blocking(fd, False)
        _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (_signal.SIGCHLD, *passed_on):
            _signal.signal(number, lambda *_: None)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, passed_on)
        self._listener.setblocking(False)
        listening = self._listener.fileno()
        for fd in (told, listening):
            self._poll.register(fd, IN)
        if self.console is not None:
            self._advance(self.console)
        self._reap()  # what ended before there was a handler
        while self.console is None or self.console.code is None:
            for fd, events in self._poll.poll():
                if fd == listening:
                    self._accept()
                elif fd == told:
                    self._signalled(read(told) or b"")
                elif fd in self._tasks:
                    task = self._tasks[fd]
                    task.hung_up |= fd == task.peer and bool(events & (select.EPOLLHUP | select.EPOLLERR))
                    self._advance(task)
        self.console.drain()
        return self.console.code

    def _signalled(self, numbers: bytes) -> None:
        console = self.console
        for number in numbers:
            # Until it is reaped its number is nobody else's.
            if number != _signal.SIGCHLD and console is not None and console.command and console.code is None:
                os.kill(console.command, number)
        self._reap()

    def _accept(self) -> None:
        try:
            peer, _ = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - `socket` costs imports
        except OSError:
            return
        os.set_blocking(peer, False)
        self._advance(Newcomer(peer, self))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code
            if self.console is not None and pid == self.console.command:
                self.console.code = code
            elif (task := self.children.pop(pid, None)) is not None:
                task.code = code
                self._advance(task)

    def _advance(self, task: Task) -> None:
        try:
            successor = task.step()
        except (OSError, ValueError, IndexError):  # this connection's trouble must not be everybody's
            task.departed()
            successor = None
        if successor is not None:
            self._unwatch(task, task.watched)
            self._advance(successor)
            return
        wanted = task.wanted()
        self._unwatch(task, [fd for fd in task.watched if not wanted.get(fd)])
        for fd, events in wanted.items():
            if events and task.watched.get(fd) != events:
                (self._poll.modify if fd in task.watched else self._poll.register)(fd, events)
                task.watched[fd] = events
                self._tasks[fd] = task
        while task.doomed:
            os.close(task.doomed.pop())

    def _unwatch(self, task: Task, fds: "list[int] | dict[int, int]") -> None:
        for fd in list(fds):
            self._poll.unregister(fd)
            del task.watched[fd]
            del self._tasks[fd]


if __name__ == "__main__":
    Attendant(bind(sys.argv[1]), None).serve()
