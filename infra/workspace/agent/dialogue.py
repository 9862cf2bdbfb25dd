"""What is said on /v1/shell: commands in, results out, in order; pings and interrupts in between."""

import asyncio

from .frames import PONG, BadFrame, Interrupt, Ping, Run, error, parse, result, status
from .shell import Shell
from .sockets import Socket

MAX_WAITING = 32  # commands; beyond that the client is not read from
RESTARTED = "the shell did not come back from the command and was ended: its state was lost"


class Dialogue:
    """One client and its shell, which are the caller's to close. Both methods run until the client goes (Abandoned)."""

    def __init__(self, socket: Socket, shell: Shell) -> None:
        self._socket = socket
        self._shell = shell
        self._waiting: asyncio.Queue[Run] = asyncio.Queue(MAX_WAITING)
        self._running = False

    async def listen(self) -> None:
        """Take the client's frames."""
        while True:
            try:
                frame = parse(await self._socket.receive())
            except BadFrame as exc:
                await self._socket.send(error(exc))
                continue
            match frame:
                case Run():
                    await self._waiting.put(frame)
                case Ping():
                    await self._socket.send(PONG)
                case Interrupt():
                    if self._running or not self._waiting.empty():
                        self._shell.interrupt()

    async def work(self) -> None:
        """Run what was asked for, one after another; returns when the shell has ended."""
        while (command := await self._next()) is not None:
            outcome = await self._shell.run(command.line, command.timeout_s)
            self._running = False
            await self._socket.send(result(outcome, self._shell.cwd, command.id))
            if self._shell.broken:
                await self._shell.restart()
                await self._socket.send(
                    status(
                        "restarted", "the shell did not come back from the command and was ended: its state was lost"
                    )
                )
        await self._socket.send(status("exited", f"the shell ended with {self._shell.ended.result()}"))

    async def _next(self) -> Run | None:
        """None when the shell has ended."""
        if self._waiting.empty() and not self._shell.ended.done():
            getting = asyncio.ensure_future(self._waiting.get())
            await asyncio.wait((getting, self._shell.ended), return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                self._running = True
                return getting.result()
            getting.cancel()
        if self._shell.ended.done():
            return None
        self._running = True
        return self._waiting.get_nowait()
