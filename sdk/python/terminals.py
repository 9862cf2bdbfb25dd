"""A terminal in a session: an interactive shell behind a PTY, as bytes both ways."""

import json
from collections import deque
from contextlib import suppress
from typing import Self

from .errors import ConnectionLost, OnMemOSError, ShellExited, Timeout
from .faces import AsyncContext, BlockingContext, fact, operation
from .lines import Line
from .shells import frame_of


class TerminalFace:
    """What both faces of a terminal can do."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._ahead: deque[str | bytes] = deque()
        self._returncode: int | None = None
        self._over = False

    @fact
    def returncode(self) -> int | None:
        """How the shell ended; None: it has not, or nobody said."""
        return self._returncode

    @operation
    async def read(self) -> bytes:
        """What the terminal shows next, as soon as there is some; empty when the shell has ended.

        For one reader at a time. Raises SessionEnded, ConnectionLost and the others that a shell's execute raises.
        """
        while not self._over:
            message = await self._next(None)
            if isinstance(message, bytes):
                if message:
                    return message
                continue
            frame = frame_of(message)
            if frame["type"] == "exit":
                self._over = True
                self._returncode = frame.get("returncode")
        return b""

    @operation
    async def write(self, data: bytes) -> None:
        """Type these bytes. Nothing happens when the shell has ended: read says so."""
        await self._send(data)

    @operation
    async def resize(self, rows: int, cols: int) -> None:
        """The window has another size now."""
        await self._send(json.dumps({"type": "resize", "rows": rows, "cols": cols}))

    @operation
    async def close(self) -> None:
        """End the shell and what it runs. Idempotent."""
        self._over = True
        await self._line.close()

    async def _leave(self, exc: BaseException | None) -> None:
        await self.close()

    async def _send(self, message: str | bytes) -> None:
        if self._over:
            return
        with suppress(OnMemOSError):  # what came before the end is still to be read, and then why it ended
            await self._line.send(message)

    async def _next(self, timeout_s: float | None) -> str | bytes:
        if self._ahead:
            return self._ahead.popleft()
        try:
            return await self._line.receive(timeout_s)
        except OnMemOSError as exc:
            if not isinstance(exc, ShellExited) and not self._over:
                raise
            self._over = True
            return b""


class AsyncTerminal(TerminalFace, AsyncContext):
    """A terminal whose calls are awaited: one task reads, another may write and resize."""

    @classmethod
    async def begun(cls, line: Line, within_s: float) -> Self:
        """The terminal at the other end, after a look whether it refuses. Raises what the refusal means."""
        terminal = cls(line)
        with suppress(Timeout):  # a shell without a prompt
            terminal._ahead.append(await terminal._next(within_s))
        if terminal._over:
            raise ConnectionLost("the terminal was closed as soon as it was open")
        return terminal


class Terminal(BlockingContext, TerminalFace):
    """A terminal whose calls block: one thread reads, another may write and resize."""
