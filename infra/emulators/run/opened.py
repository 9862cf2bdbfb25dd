"""An async context over others: what it enters is left in reverse, also when opening fails half-way."""

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self


class Opened(ABC):
    _entered: AsyncExitStack

    @abstractmethod
    async def _open(self, opening: AsyncExitStack) -> None:
        """Enter the other contexts on `opening`, and begin."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            await self._open(opening)
            self._entered = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._entered.aclose()
