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
        self._to_run = 0  # commands that wait or run

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
                    self._to_run += 1
                    await self._waiting.put(frame)
                case Ping():
                    await self._socket.send(PONG)
                case Interrupt():
                    if self._to_run:
                        self._shell.interrupt()

    async def work(self) -> None:
        """Run what was asked for, one after another; returns when the shell has ended."""
        while (command := await self._next()) is not None:
            outcome = await self._shell.run(command.line, command.timeout_s)
            self._to_run -= 1
            await self._socket.send(result(outcome, self._shell.cwd, command.id))
            if self._shell.broken:
                await self._shell.restart()
                await self._socket.send(status("restarted", RESTARTED))
        await self._socket.send(status("exited", f"the shell ended with {self._shell.ended.result()}"))

    async def _next(self) -> Run | None:
        """None when the shell has ended."""
        getting = asyncio.ensure_future(self._waiting.get())
        try:
            await asyncio.wait((getting, self._shell.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            getting.cancel()
        return None if self._shell.ended.done() else getting.result()
