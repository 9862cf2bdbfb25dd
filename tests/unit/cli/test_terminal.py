"""This terminal tied to another: bytes both ways, its size, and its settings put back."""

import fcntl
import os
import queue
import signal
import struct
import termios
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

from sdk.python.cli.terminal import _type, attached, size_of
from sdk.python.errors import ConnectionLost

if TYPE_CHECKING:
    from sdk.python.terminals import Terminal

WAIT_S = 10.0


class There:
    """The terminal in the session. What it shows is put into `shown`; what is typed and the sizes can be waited for."""

    def __init__(self) -> None:
        self.shown: queue.Queue[bytes | Exception] = queue.Queue()
        self.typed: queue.Queue[bytes] = queue.Queue()
        self.sizes: queue.Queue[tuple[int, int]] = queue.Queue()
        self.closed = False

    def read(self) -> bytes:
        shown = self.shown.get(timeout=WAIT_S)
        if isinstance(shown, Exception):
            raise shown
        return shown

    def write(self, data: bytes) -> None:
        self.typed.put(data)

    def resize(self, rows: int, cols: int) -> None:
        self.sizes.put((rows, cols))

    def close(self) -> None:
        self.closed = True
        self.shown.put(b"")


class Here:
    """A terminal of our own: `person` is the end where somebody sits, `program` the end that programs read."""

    def __init__(self) -> None:
        self.person, self.program = os.openpty()

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.program, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.program)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)


@pytest.fixture
def here() -> Iterator[Here]:
    here = Here()
    yield here
    os.close(here.person)
    os.close(here.program)


@pytest.fixture
def there() -> There:
    return There()


def while_attached(here: Here, there: There, person: threading.Thread) -> None:
    """The main thread is attached, as in the command; a person acts in another."""
    person.start()
    try:
        attached(cast("Terminal", there), here.program, here.program)
    finally:
        person.join()


def test_bytes_go_both_ways_and_the_settings_come_back(here: Here, there: There) -> None:
    before = termios.tcgetattr(here.program)
    seen: list[object] = []

    def act() -> None:
        there.shown.put(b"$ ")
        seen.append(os.read(here.person, 100))
        seen.append(here.raw)
        os.write(here.person, b"\x03ls\r")
        typed = b""
        while len(typed) < 4:
            typed += there.typed.get(timeout=WAIT_S)
        seen.append(typed)
        there.shown.put(b"")

    while_attached(here, there, threading.Thread(target=act))
    assert seen == [b"$ ", True, b"\x03ls\r"]
    assert termios.tcgetattr(here.program) == before
    assert there.closed


def test_a_new_size_is_told(here: Here, there: There) -> None:
    seen: list[object] = []

    def act() -> None:
        there.shown.put(b"$")
        os.read(here.person, 1)  # what is shown tells that it is attached
        here.resize(50, 132)
        os.kill(os.getpid(), signal.SIGWINCH)
        seen.append(there.sizes.get(timeout=WAIT_S))
        there.shown.put(b"")

    before = signal.getsignal(signal.SIGWINCH)
    while_attached(here, there, threading.Thread(target=act))
    assert seen == [(50, 132)]
    assert signal.getsignal(signal.SIGWINCH) is before


def test_a_connection_that_breaks_is_raised_with_the_settings_back(here: Here, there: There) -> None:
    before = termios.tcgetattr(here.program)
    there.shown.put(ConnectionLost("broke"))
    with pytest.raises(ConnectionLost):
        attached(cast("Terminal", there), here.program, here.program)
    assert termios.tcgetattr(here.program) == before


def test_a_person_who_leaves_ends_it(there: There) -> None:
    stdin, keyboard = os.pipe()  # a terminal whose other end is closed reads as this does
    wake_reader, wake_writer = os.pipe()
    os.close(keyboard)
    _type(cast("Terminal", there), stdin, wake_reader)
    assert there.closed
    for descriptor in (stdin, wake_reader, wake_writer):
        os.close(descriptor)


def test_a_terminal_without_a_size_has_the_usual_one(here: Here) -> None:
    here.resize(0, 0)
    assert size_of(here.program) == (24, 80)
    here.resize(30, 100)
    assert size_of(here.program) == (30, 100)
