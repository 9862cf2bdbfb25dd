"""What a WebSocket is for: by its path, a shell or a terminal, held until one side has enough."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

from . import VERSION
from .children import Children
from .dialogue import Dialogue
from .errors import Abandoned, AgentError, BadRequest, Exhausted, Frozen, Restoring
from .frames import parse_size, welcome
from .identity import Identity
from .shell import Shell
from .sockets import DONE, FAILED, RESTARTING, TRY_AGAIN, WRONG, Socket
from .terminal import Terminal

log = logging.getLogger(__name__)

CODES: dict[type[AgentError], int] = {BadRequest: WRONG, Exhausted: TRY_AGAIN, Frozen: TRY_AGAIN, Restoring: TRY_AGAIN}


class Conversations:
    """All that are held. `children` is the caller's."""

    def __init__(self, identity: Identity, boot_id: str, children: Children) -> None:
        self._identity = identity
        self._boot_id = boot_id
        self._children = children
        self._stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """Close all, and each that would begin, as a restart (1012). Idempotent."""
        if not self._stopping.done():
            self._stopping.set_result(None)

    async def hold(self, path: str, query: Mapping[str, str], socket: Socket) -> None:
        """One conversation, to its end; the socket is closed then, and what was started for it has ended."""
        try:
            if path == "/v1/shell":
                await self._shell(socket)
            else:
                await self._terminal(socket, query)
        except Abandoned:
            log.info("client went away", extra={"path": path})
        except AgentError as exc:
            code = next((code for kind, code in CODES.items() if isinstance(exc, kind)), FAILED)
            await socket.close(code, str(exc))
        except Exception:
            log.exception("conversation failed", extra={"path": path})
            await socket.close(FAILED, "the agent failed; its log says why")

    async def _shell(self, socket: Socket) -> None:
        async with Shell(self._children, self._identity.environment) as shell:
            await socket.send(welcome(self._identity.session_id, self._boot_id, shell.name, shell.cwd, VERSION))
            dialogue = Dialogue(socket, shell)
            await self._until_over(socket, dialogue.listen(), dialogue.work())

    async def _terminal(self, socket: Socket, query: Mapping[str, str]) -> None:
        async with Terminal(self._children, self._identity.environment, parse_size(query)) as terminal:
            await self._until_over(socket, terminal.listen(socket), terminal.talk(socket))

    async def _until_over(self, socket: Socket, *sides: Coroutine[Any, Any, None]) -> None:
        """Close the socket when the first side is over, or the agent stops. Raises what a side raises."""
        tasks = [asyncio.ensure_future(side) for side in sides]
        try:
            await asyncio.wait((*tasks, socket.lost, self._stopping), return_when=asyncio.FIRST_COMPLETED)
            over = [task for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._stopping.done():
            await socket.close(RESTARTING, "the workspace is being stopped")
            return
        for task in over:
            task.result()
        await socket.close(DONE)
