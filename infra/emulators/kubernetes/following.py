"""A task that follows the changes of all objects: what every controller, the scheduler and the kubelet are."""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from infra.emulators.kubernetes.history import Event
from infra.emulators.kubernetes.objects import Objects
from infra.emulators.kubernetes.statuses import Gone, StatusError

log = logging.getLogger(__name__)


class Following(ABC):
    """An async context manager. It sees first what there is, as ADDED, then each change; and all anew when it fell
    behind.
    """

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._name = name

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow(), name=self._name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)

    @abstractmethod
    async def _saw(self, events: list[Event]) -> None:
        """Changes in their order, whose objects are not to be changed."""

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """What goes wrong within keeps nobody from what follows."""
        try:
            yield
        except StatusError as exc:  # an object has changed meanwhile, and that is an event too
            log.debug("a controller was refused", extra={"controller": self._name, "reason": str(exc)})
        except Exception:
            log.exception("a controller failed", extra={"controller": self._name})

    async def _follow(self) -> None:
        while True:
            watch = self._objects.open_watch(None)
            try:
                while True:
                    events = await watch.next()
                    with self._going_on():
                        await self._saw(events)
            except Gone:
                log.warning("a watch fell behind and begins anew", extra={"controller": self._name})
