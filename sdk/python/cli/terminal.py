"""This terminal tied to one in a session: keys go there as they are pressed, what it shows comes here."""

import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .lifetime import signals_raise

if TYPE_CHECKING:
    from ..terminals import Terminal

CHUNK_BYTES = 65_536
USUAL_SIZE = (24, 80)
RESIZED, DONE = b"r", b"d"


def attached(terminal: "Terminal", stdin: int, stdout: int) -> None:
    """Until the shell there ends. Raises what Terminal.read raises; this terminal is as it was before, in any case."""
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)  # written to in a signal handler
    typing = threading.Thread(target=_type, args=(terminal, stdin, wake_reader), name="keys", daemon=True)
    try:
        with signals_raise(), _raw(stdin), _told_of_resizing(wake_writer):
            typing.start()
            try:
                while shown := terminal.read():
                    _write_all(stdout, shown)
            finally:
                os.write(wake_writer, DONE)
                terminal.close()  # ends a write that waits
                typing.join()
    finally:
        os.close(wake_reader)
        os.close(wake_writer)


def size_of(stdin: int) -> tuple[int, int]:
    """Rows and columns of a terminal; the usual ones where it does not know."""
    size = os.get_terminal_size(stdin)
    return (size.lines, size.columns) if size.lines and size.columns else USUAL_SIZE


def _type(terminal: "Terminal", stdin: int, wake: int) -> None:
    """In a thread of its own: two ends are waited for, and the SDK's read blocks."""
    while True:
        ready, _, _ = select.select([stdin, wake], [], [])
        if wake in ready:
            asked = os.read(wake, CHUNK_BYTES)
            if DONE in asked:
                return
            terminal.resize(*size_of(stdin))
        if stdin in ready:
            try:
                keys = os.read(stdin, CHUNK_BYTES)
            except OSError:  # the terminal is gone: EIO
                keys = b""
            if not keys:
                terminal.close()
                return
            terminal.write(keys)


@contextmanager
def _raw(stdin: int) -> Iterator[None]:
    before = termios.tcgetattr(stdin)
    tty.setraw(stdin, termios.TCSADRAIN)  # what was typed ahead is kept
    try:
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


@contextmanager
def _told_of_resizing(wake: int) -> Iterator[None]:
    def resized(*_: object) -> None:
        with suppress(BlockingIOError):  # thousands are waiting to be read: this one is among them
            os.write(wake, RESIZED)

    before = signal.signal(signal.SIGWINCH, resized)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _write_all(stdout: int, shown: bytes) -> None:
    while shown:
        shown = shown[os.write(stdout, shown) :]
