"""The stack's ports on 127.0.0.1: bound at once where we listen ourselves, probed where another program will."""

import errno
import socket
from contextlib import closing

import psutil

from infra.local.settings import PORT_VARIABLES, Ports

HOST = "127.0.0.1"
BACKLOG = 2048


class PortTaken(Exception):
    """Somebody else listens there; the message names the port, its setting and, where known, who it is."""

    def __init__(self, port: int, name: str, holder: str = "") -> None:
        self.port = port
        by = f" by {holder}" if holder else ""
        super().__init__(
            f"port {port} is taken{by}. Free it, or set {PORT_VARIABLES[name]} to another port (0: any that is free)"
        )


def listen(ports: Ports, name: str) -> socket.socket:
    """A listening socket on the port of that name. Raises PortTaken."""
    listener = _bound(ports, name)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def free(ports: Ports, name: str) -> int:
    """The port of that name, for a program that will listen there; for 0, one that is free now. Raises PortTaken."""
    with closing(_bound(ports, name)) as probe:
        return int(probe.getsockname()[1])


def _bound(ports: Ports, name: str) -> socket.socket:
    port = int(getattr(ports, name))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as exc:
        listener.close()
        if exc.errno in {errno.EADDRINUSE, errno.EACCES}:
            raise PortTaken(port, name, holder_of(port)) from exc
        raise
    return listener


def holder_of(port: int) -> str:
    """Who listens on a port, as "name (process 123)"; "" where the system doesn't tell us."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):  # macOS tells root alone
        pass
    return ""
