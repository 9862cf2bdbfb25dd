"""Whether the session's work may begin, and whether it goes on: what everything that starts or ends processes asks."""

import asyncio

from .errors import Frozen, Restoring


class Gate:
    """`used` says that something was started since the agent is up; `restoring`, that the work folder is not whole."""

    def __init__(self) -> None:
        self.used = False
        self.restoring = False
        self._going = asyncio.Event()
        self._going.set()

    @property
    def frozen(self) -> bool:
        return not self._going.is_set()

    def enter(self) -> None:
        """Something is about to be started. Raises Frozen, Restoring."""
        if not self._going.is_set():
            raise Frozen("the workspace is frozen while its files are saved; nothing was run")
        if self.restoring:
            raise Restoring("the workspace gets its files back; nothing was run")
        self.used = True

    def freeze(self) -> None:
        """Idempotent, as `thaw` is."""
        self._going.clear()

    def thaw(self) -> None:
        self._going.set()

    async def thawed(self) -> None:
        """Wait until nothing is frozen."""
        await self._going.wait()
