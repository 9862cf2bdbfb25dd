"""The socket and name of an attendant, there before the rest of its code is loaded: most containers need only that."""

import _socket
import os
import select


def bind(path: str) -> _socket.socket:
    """The path appears once it takes connections."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    early = f"{path}.new"
    listener.bind(early)
    os.chmod(early, 0o666)  # noqa: PTH101, S103 - the folder says who comes near
    listener.listen(64)
    os.rename(early, path)  # noqa: PTH104
    return listener


def call_process(name: str) -> None:
    """What `ps` calls this process; gVisor's keep their names."""
    try:
        with open("/proc/self/comm", "w") as file:  # noqa: PTH123
            file.write(name)
    except OSError:
        return


def wait(listener: _socket.socket) -> None:
    """Until somebody connects."""
    select.select([listener], [], [])
