"""The agent's child processes: the one place that starts them and the one place that waits, also for orphans.

As pid 1 of its container the agent inherits every process whose parent died. One waitpid(-1) loop on SIGCHLD serves
both: an end that belongs to a child of ours settles its future, any other is an orphan's and is forgotten. Nothing
else in this process may wait for children. (No pidfds: gVisor gained them late, and they would not see orphans.)
"""

import asyncio
import errno
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from .answers import NOT_EXECUTABLE, NOT_FOUND, SIGNALLED
from .errors import BadRequest, CannotExecute, Exhausted
from .gate import Gate

SHELL = "/bin/sh"
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"  # when the environment has none
# What is ignored stays ignored across exec, and Python ignores SIGPIPE: `yes | head` would never end.
RESTORED_SIGNALS = [n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
Action = tuple[object, ...]  # one of posix_spawn's file actions
NO_ROOM = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
NO_SUCH_PROGRAM = frozenset({errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class Child:
    """A process that leads its own session and process group. `ended` becomes its exit code, 128+N after signal N."""

    pid: int
    ended: asyncio.Future[int]


class Children:
    """Opens `workdir`, where commands start, and makes it the current folder of this process.

    `gate` says whether anything may be started; `nothing` is a descriptor to read nothing from.
    """

    def __init__(self, workdir: str, gate: Gate) -> None:
        self.gate = gate
        self._loop = asyncio.get_running_loop()
        self._workdir = os.open(workdir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchdir(self._workdir)
        self.nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._ended: dict[int, asyncio.Future[int]] = {}

    def __enter__(self) -> Self:
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_signal_handler(signal.SIGCHLD)
        os.close(self.nothing)
        os.close(self._workdir)

    def spawn(self, argv: tuple[str, ...], env: Mapping[str, str], cwd: str | None, actions: Sequence[Action]) -> Child:
        """Start a program. `actions` give it its descriptors, in order; what they copy stays the caller's to close.

        Raises BadRequest (cwd; too much argv and env), CannotExecute, Exhausted, and what the gate does.
        """
        self.gate.enter()
        with self._current_folder(cwd):
            program = _program(argv[0], env)
            try:
                pid = _spawn(program, argv, env, actions)
            except OSError as exc:
                raise _translated(exc, argv[0]) from exc
        ended: asyncio.Future[int] = self._loop.create_future()
        self._ended[pid] = ended  # before SIGCHLD can be looked at: that happens in this very loop, later
        return Child(pid, ended)

    def reap(self) -> None:
        """Collect every process that has ended; called on SIGCHLD, which does not say how many there are."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = self._ended.pop(pid, None)
            if ended is not None:
                code = os.waitstatus_to_exitcode(status)
                ended.set_result(code if code >= 0 else SIGNALLED - code)

    @contextmanager
    def _current_folder(self, cwd: str | None) -> Iterator[None]:
        """posix_spawn has no folder of its own in Python. Nothing here awaits, so nobody else sees the change."""
        if cwd is None:
            yield
            return
        try:
            os.chdir(cwd)
        except OSError as exc:
            raise BadRequest.field("cwd", f'got "{cwd}", {exc.strerror}; wanted a folder of the session') from exc
        try:
            yield
        finally:
            os.fchdir(self._workdir)


def copies(descriptors: Iterable[int]) -> list[Action]:
    """The descriptors as 0, 1, 2, ….

    As dup2 replaces what is at its target, each of them must be beyond the last of those numbers or before its own.
    """
    return [copy(descriptor, number) for number, descriptor in enumerate(descriptors)]


def copy(descriptor: int, number: int) -> Action:
    """The caller's descriptor as the child's `number`."""
    return (os.POSIX_SPAWN_DUP2, descriptor, number)


def _spawn(program: str, argv: tuple[str, ...], env: Mapping[str, str], actions: Sequence[Action]) -> int:
    try:
        return os.posix_spawn(
            program, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=RESTORED_SIGNALS
        )
    except OSError as exc:
        if exc.errno != errno.ENOEXEC:
            raise
    # A script without #! is the shell's: POSIX, 2.9.1.
    return _spawn(SHELL, (SHELL, program, *argv[1:]), env, actions)


def _program(name: str, env: Mapping[str, str]) -> str:
    """The file that `name` means, by the PATH of the command's own environment. Raises CannotExecute."""
    if "/" in name:
        return name
    refused = False
    for folder in env.get("PATH", DEFAULT_PATH).split(":"):
        path = f"{folder or '.'}/{name}"
        if os.access(path, os.X_OK) and not os.path.isdir(path):  # noqa: PTH112 - no Path objects for each PATH entry
            return path
        refused = refused or os.access(path, os.F_OK)
    if refused:
        raise CannotExecute(name, "Permission denied", NOT_EXECUTABLE)
    raise CannotExecute(name, "not found", NOT_FOUND)


def _translated(exc: OSError, program: str) -> Exception:
    if exc.errno in NO_ROOM:
        return Exhausted.because(exc)
    if exc.errno == errno.E2BIG:
        return BadRequest("command, argv and env together are more than the kernel passes: send data as stdin")
    if exc.errno in NO_SUCH_PROGRAM:
        return CannotExecute(program, "not found", NOT_FOUND)
    return CannotExecute(program, exc.strerror or "cannot be executed", NOT_EXECUTABLE)
