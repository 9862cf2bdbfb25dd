"""Bytes between a connection of an attendant and a port of its container."""

import _socket
import errno
import os
import select

TYPE_CHECKING = False  # `typing` costs an import
if TYPE_CHECKING:
    from infra.sandbox.inside.frames import CHUNK, CONNECTED, FAILED, frame
else:
    from frames import CHUNK, CONNECTED, FAILED, frame
if TYPE_CHECKING:
    from infra.sandbox.inside.task import IN, OUT, Task, read, write
else:
    from task import IN, OUT, Task, read, write


class Dial(Task):
    """Bytes between the peer and a port of this container."""

    def __init__(self, peer: int, port: int) -> None:
        super().__init__(peer)
        inner = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        inner.setblocking(False)
        inner.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        code = inner.connect_ex(("127.0.0.1", port))
        self._socket: _socket.socket | None = inner
        self._inner = inner.fileno()
        self._connected = False
        self._ended = [False, False]  # the peer has sent all, the port has
        self._passed_on = [False, False]
        if code not in (0, errno.EINPROGRESS):
            self._refuse(code)

    def step(self) -> Task | None:
        if not self._connected and self._socket is not None:
            code = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            if code:
                self._refuse(code)
            else:
                try:
                    self._socket.getpeername()
                except OSError:
                    return None  # not yet
                self._connected = True
                self.outbox += frame(CONNECTED, b"")
        if self._connected:
            self._move(0, self.peer, self._inner, self.inbox)
            self._move(1, self._inner, self.peer, self.outbox)
        else:
            self.speak()
        over = all(self._passed_on) or (self._socket is None and not self.outbox)
        if over or (self.hung_up and not self.inbox and (self._ended[0] or not self._connected)):
            self.departed()
        return None

    def wanted(self) -> dict[int, int]:
        if self.peer < 0:
            return {}
        if self._socket is None:
            return {self.peer: OUT}
        if not self._connected:
            return {self._inner: OUT, self.peer: select.EPOLLHUP}
        hears, speaks = len(self.inbox) < CHUNK, len(self.outbox) < CHUNK
        hears = hears and not self._ended[0]
        if self.hung_up:  # nothing reaches it any more: with what it sent passed on, it is over
            self.outbox.clear()
        alive = 0 if self.hung_up else select.EPOLLHUP
        return {
            self.peer: (IN if hears else 0) | (OUT if self.outbox else 0) | alive,
            self._inner: (IN if speaks and not self._ended[1] else 0) | (OUT if self.inbox else 0),
        }

    def departed(self) -> None:
        super().departed()
        if self._socket is not None:
            self.drop(self._socket.detach())
            self._socket = None

    def _move(self, way: int, source: int, sink: int, waiting: bytearray) -> None:
        if self.peer < 0:
            return
        if not self._ended[way] and len(waiting) < CHUNK and (data := read(source)) is not None:
            waiting += data
            self._ended[way] = not data
        if waiting:
            sent = write(sink, waiting)
            if sent < 0:
                self.departed()
                return
            del waiting[:sent]
        if self._ended[way] and not waiting and not self._passed_on[way]:
            self._passed_on[way] = True
            shut(sink)

    def _refuse(self, code: int) -> None:
        if self._socket is not None:
            self.drop(self._socket.detach())
            self._socket = None
        self.outbox += frame(FAILED, os.strerror(code).lower().encode())


def shut(fd: int) -> None:
    """No more comes to this socket; it may still send."""
    end = _socket.socket(fileno=fd)
    try:
        end.shutdown(_socket.SHUT_WR)
    except OSError:
        return
    finally:
        end.detach()
