"""What the attendant of a container is asked for: to run a command in it, to type for its own, to reach a port of it.

The other side is inside/attendant.py, the words are inside/frames.py. What comes from there is the session's: it is
bounded, and never trusted.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox.inside import frames as wire
from infra.sandbox.spec import SandboxError

APPEARS_S = 5.0  # an attendant starts in some milliseconds; Docker's with the first connection
CONNECT_TIMEOUT_S = 5.0
_POLL_S = 0.003

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Unattended(SandboxError):
    """Nobody answers in the container: it has ended, or its session has killed the attendant."""


class NotStarted(SandboxError):
    """The command could not be started; the message says why."""


class NotListening(SandboxError):
    """Nothing takes connections at that port."""


@dataclass(frozen=True, slots=True)
class Output:
    """Something printed; `stream` is 1 or 2, as descriptors are numbered. A terminal has stream 1 only."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Exited:
    """128 + N for a death by signal N."""

    code: int


@dataclass(frozen=True, slots=True)
class Window:
    rows: int
    columns: int


class Typing:
    """The input of a command: typing waits until what was typed before is on its way."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Raises Unattended."""
        view = memoryview(data)
        for start in range(0, len(view), wire.CHUNK):
            await self._send(wire.STDIN, bytes(view[start : start + wire.CHUNK]))

    async def end(self) -> None:
        """A terminal has no end of its own: there it is ^D that says so."""
        await self._send(wire.STDIN, b"")

    async def resize(self, window: Window) -> None:
        sides = (min(max(n, 0), 65535) for n in (window.rows, window.columns))
        await self._send(wire.RESIZE, b"".join(n.to_bytes(2, "big") for n in sides))

    async def _send(self, kind: int, payload: bytes) -> None:
        try:
            self._writer.write(wire.frame(kind, payload))
            await self._writer.drain()
        except OSError as exc:
            raise Unattended(f"the attendant went away: {exc}") from exc


class Execution(Typing):
    """A command that runs in a container. It goes on when its caller goes away."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(writer)
        self._reader = reader

    async def next(self) -> Output | Exited:
        """What it prints, and at last how it ended. Raises NotStarted, Unattended."""
        kind, payload = await _frame(self._reader)
        if kind in (wire.STDOUT, wire.STDERR):
            return Output(kind, payload)
        if kind == wire.EXITED and payload.isdigit():
            return Exited(int(payload[:3]))
        if kind == wire.FAILED:
            raise NotStarted(payload.decode(errors="replace"))
        raise Unattended(f"the attendant sent a frame of kind {kind}")

    async def signal(self, number: int) -> None:
        """Signal the command's process group; one that has ended is not an error."""
        await self._send(wire.SIGNAL, b"%d" % number)


@asynccontextmanager
async def execute(
    attendant: Path,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str = "",
    terminal: Window | None = None,
) -> AsyncIterator[Execution]:
    """Run `argv` with the container's variables and `env`, in `cwd` or the container's own; leaving doesn't end it.

    With `terminal` it leads a terminal of that size. Raises Unattended; NotStarted comes with `next`.
    """
    size = terminal or Window(24, 80)
    words = ["exec", str(int(terminal is not None)), str(size.rows), str(size.columns), cwd, str(len(argv)), *argv]
    request = "\0".join([*words, *(f"{name}={value}" for name, value in (env or {}).items())]).encode()
    if len(request) > wire.LARGEST_FRAME - wire.HEADER_BYTES or any("\0" in word for word in (cwd, *argv)):
        raise NotStarted(f"a command of {len(request)} bytes; wanted at most 1 MiB, and no NUL bytes")
    async with _asked(attendant, request) as (reader, writer):
        yield Execution(reader, writer)


@asynccontextmanager
async def attach(attendant: Path) -> AsyncIterator[Typing]:
    """Type for the container's own command; what it prints is in its log. Raises Unattended."""
    async with _asked(attendant, b"attach") as (_, writer):
        yield Typing(writer)


async def dialed(attendant: Path, port: int) -> socket.socket:
    """The same as `dial`, as a bare connected socket for the caller to close. Raises NotListening, Unattended."""
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await loop.sock_connect(connection, str(attendant))
            await loop.sock_sendall(connection, wire.frame(wire.REQUEST, b"dial\0%d" % port))
            kind, payload = await _answer(connection)
        if kind != wire.CONNECTED:
            raise _not_listening(port, payload)
    except OSError as exc:
        connection.close()
        raise Unattended(f"nobody attends to the container: {exc}") from exc
    except BaseException:
        connection.close()
        raise
    return connection


@asynccontextmanager
async def dial(attendant: Path, port: int) -> AsyncIterator[Stream]:
    """A connection to 127.0.0.1:`port` inside. Raises NotListening, Unattended."""
    async with _asked(attendant, b"dial\0%d" % port) as (reader, writer):
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            kind, payload = await _frame(reader)
        if kind != wire.CONNECTED:
            raise _not_listening(port, payload)
        yield reader, writer


@asynccontextmanager
async def _asked(attendant: Path, request: bytes) -> AsyncIterator[Stream]:
    reader, writer = await _connected(attendant)
    try:
        writer.write(wire.frame(wire.REQUEST, request))
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await writer.wait_closed()


def _not_listening(port: int, why: bytes) -> NotListening:
    return NotListening(f"dial tcp 127.0.0.1:{port}: connect: {why.decode(errors='replace')}")


async def _answer(connection: socket.socket) -> tuple[int, bytes]:
    """One frame and not a byte more. Raises OSError."""
    loop = asyncio.get_running_loop()

    async def exactly(size: int) -> bytes:
        got = b""
        while len(got) < size:
            data = await loop.sock_recv(connection, size - len(got))
            if not data:
                raise ConnectionResetError("it went away")
            got += data
        return got

    header = await exactly(wire.HEADER_BYTES)
    return header[0], await exactly(min(int.from_bytes(header[1:], "big"), wire.CHUNK))


async def _connected(attendant: Path) -> Stream:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + APPEARS_S
    while True:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await asyncio.open_unix_connection(str(attendant))
        except FileNotFoundError as exc:
            if loop.time() > deadline or not attendant.parent.is_dir():
                raise Unattended("nobody attends to the container") from exc
            await asyncio.sleep(_POLL_S)
        except OSError as exc:
            raise Unattended(f"nobody attends to the container any more: {exc}") from exc


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    try:
        header = await reader.readexactly(wire.HEADER_BYTES)
        size = int.from_bytes(header[1:], "big")
        if size > wire.CHUNK:
            raise Unattended(f"the attendant sent a frame of {size} bytes; wanted at most {wire.CHUNK}")
        return header[0], await reader.readexactly(size)
    except (asyncio.IncompleteReadError, OSError) as exc:
        raise Unattended("the container ended") from exc
