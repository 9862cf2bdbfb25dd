"""The terminal of a container's own command, which is the child of the attendant that reads it."""

import _signal  # type: ignore[import-not-found]  # `signal` costs the import of enum
import fcntl
import os
import termios

TYPE_CHECKING = False  # `typing` costs an import
if TYPE_CHECKING:
    from collections.abc import Callable

# What is sent to the container's first process is meant for its command.
PASSED_ON = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGTERM)


def lead(attend: "Callable[[int, int, tuple[int, ...]], None]") -> None:
    """Return in a child that leads a terminal; this process goes on as `attend`: the terminal's other end, the child,
    and signals that are blocked until there is somebody to pass them on to."""
    ours, theirs = os.openpty()
    unblocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, PASSED_ON)
    command = os.fork()
    if command:
        os.close(theirs)
        attend(ours, command, PASSED_ON)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, unblocked)
    os.close(ours)
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(theirs, fd)
    os.close(theirs)
