"""What an attendant has at hand for each connection: descriptors that are waited for, and frames on their way."""

import errno
import os
import select

TYPE_CHECKING = False  # `typing` costs an import
if TYPE_CHECKING:
    from infra.sandbox.inside.frames import CHUNK, HEADER_BYTES, LARGEST_FRAME
else:
    from frames import CHUNK, HEADER_BYTES, LARGEST_FRAME

IN, OUT = select.EPOLLIN, select.EPOLLOUT
HELD = 1 << 18  # more than a terminal holds that was written and not read: Linux's 12 KiB, gVisor's 132 KiB
GONE = (errno.EIO, errno.EPIPE, errno.ECONNRESET, errno.EBADF)  # EIO: a terminal that nobody has open


class Task:
    """Something that waits for descriptors. `step` does what can be done without waiting; `wanted` says for what."""

    def __init__(self, peer: int) -> None:
        self.peer = peer
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.doomed: list[int] = []  # closed once they are no longer watched
        self.watched: dict[int, int] = {}
        self.hung_up = False

    def step(self) -> "Task | None":
        """What the connection has become, if it is no longer this."""
        raise NotImplementedError

    def wanted(self) -> dict[int, int]:
        raise NotImplementedError

    def drop(self, fd: int) -> None:
        if fd >= 0:
            self.doomed.append(fd)

    def listen(self) -> None:
        """Take in what the peer sent, up to one frame more than is in hand."""
        if self.peer >= 0 and len(self.inbox) < HEADER_BYTES + CHUNK:
            data = read(self.peer)
            if data:
                self.inbox += data
            elif data is not None:
                self.departed()

    def frame(self) -> tuple[int, bytes] | None:
        if len(self.inbox) < HEADER_BYTES:
            return None
        size = HEADER_BYTES + int.from_bytes(self.inbox[1:HEADER_BYTES], "big")
        if size > LARGEST_FRAME:
            self.departed()
        if len(self.inbox) < size:
            return None
        kind, payload = self.inbox[0], bytes(self.inbox[HEADER_BYTES:size])
        del self.inbox[:size]
        return kind, payload

    def speak(self) -> None:
        if self.peer >= 0 and self.outbox:
            sent = write(self.peer, self.outbox)
            if sent < 0:
                self.departed()
            else:
                del self.outbox[:sent]

    def departed(self) -> None:
        self.drop(self.peer)
        self.peer = -1
        self.inbox.clear()
        self.outbox.clear()


def read(fd: int) -> bytes | None:
    """None: nothing there yet; empty: nothing comes any more.

    A terminal's `None` counts: all that was written to it before has been read.
    """
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return None
    except OSError as exc:
        if exc.errno in GONE:
            return b""
        raise


def write(fd: int, data: bytes | bytearray) -> int:
    """How many bytes went; -1: nobody reads any more."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0
    except OSError as exc:
        if exc.errno in GONE:
            return -1
        raise
