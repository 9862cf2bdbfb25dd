"""Carries TCP connections to 127.0.0.1 over to the host's egress proxy, which listens on a Unix socket.

One thread and one epoll for all connections: it lives as long as the container and must cost next to nothing.
"""

import select
import socket

CHUNK = 65536


class _Pipe:
    """One direction of one connection: what was read from `source` and `sink` has not taken yet."""

    __slots__ = ("ended", "pending", "sink", "source")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.pending = b""
        self.ended = False

    def move(self) -> bool:
        """Read if nothing is waiting, write what is; False once this direction is over."""
        try:
            if not self.pending and not self.ended:
                self.pending = self.source.recv(CHUNK)
                self.ended = not self.pending
            if self.pending:
                self.pending = self.pending[self.sink.send(self.pending) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        if self.ended and not self.pending:
            try:
                self.sink.shutdown(socket.SHUT_WR)
            except OSError:
                return False
        return True


class _Connection:
    """Both directions between a client inside and the proxy."""

    __slots__ = ("inner", "outer", "pipes")

    def __init__(self, inner: socket.socket, outer: socket.socket) -> None:
        self.inner = inner
        self.outer = outer
        self.pipes = (_Pipe(inner, outer), _Pipe(outer, inner))

    def over(self, *, hung_up: bool) -> bool:
        """An end that hung up takes no more either: the connection is over with its last byte passed on."""
        done = [pipe.ended and not pipe.pending for pipe in self.pipes]
        return any(done) if hung_up else all(done)

    def events(self, end: socket.socket) -> int:
        """Wait to read from `end` only while its last data was passed on, and to write only while some waits."""
        wanted = 0
        for pipe in self.pipes:
            if pipe.source is end and not pipe.pending and not pipe.ended:
                wanted |= select.EPOLLIN
            if pipe.sink is end and pipe.pending:
                wanted |= select.EPOLLOUT
        return wanted


def serve(port: int, proxy: str) -> None:
    """Forward for ever."""
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, _Connection] = {}
    while True:
        for number, events in poll.poll():
            if number == listener.fileno():
                _accept(listener, proxy, poll, connections)
            elif number in connections:
                _step(connections[number], events, poll, connections)


def _accept(listener: socket.socket, proxy: str, poll: select.epoll, connections: dict[int, _Connection]) -> None:
    try:
        inner, _ = listener.accept()
    except OSError:
        return
    outer = socket.socket(socket.AF_UNIX)
    try:
        outer.connect(proxy)
    except OSError:
        inner.close()
        outer.close()
        return
    connection = _Connection(inner, outer)
    for end in (inner, outer):
        end.setblocking(False)
        connections[end.fileno()] = connection
        poll.register(end, select.EPOLLIN)


def _step(connection: _Connection, events: int, poll: select.epoll, connections: dict[int, _Connection]) -> None:
    hung_up = bool(events & (select.EPOLLHUP | select.EPOLLERR))
    there, back = (pipe.move() for pipe in connection.pipes)
    ends = (connection.inner, connection.outer)
    if there and back and not connection.over(hung_up=hung_up):
        for end in ends:
            poll.modify(end, connection.events(end))
        return
    for end in ends:
        del connections[end.fileno()]
        poll.unregister(end)
        end.close()
