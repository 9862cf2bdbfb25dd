"""The window of past changes that a watch can begin in, and the watches themselves."""

import asyncio
import bisect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.statuses import BadRequest, Gone, Timeout

WINDOW: Final = 10_000  # changes of all kinds that are kept for watches that begin late or read slowly

Change = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Event:
    """`before` is the object as it was until then: a selector may have matched one and not the other."""

    type: Change
    kind: Kind
    object: dict[str, Any]
    revision: int = 0
    before: dict[str, Any] | None = field(default=None, repr=False)


class History:
    """`revision`: of the state that is older than all that is kept."""

    def __init__(self, revision: int, window: int = WINDOW) -> None:
        self._window = window
        self._forgotten = revision
        self._events: list[Event] = []
        self._waiting: set[asyncio.Event] = set()

    def add(self, event: Event) -> None:
        self._events.append(event)
        if len(self._events) > self._window + self._window // 4:  # not at each: cutting a list moves all of it
            cut = len(self._events) - self._window
            self._forgotten = self._events[cut - 1].revision
            del self._events[:cut]
        for waiting in self._waiting:
            waiting.set()

    def after(self, revision: int) -> list[Event]:
        """Raises Gone."""
        if revision < self._forgotten:
            raise Gone(f"too old resource version: {revision} ({self._forgotten})")
        return self._events[bisect.bisect_right(self._events, revision, key=lambda event: event.revision) :]


class Watch:
    """Changes of `resource` (None: of all) after a revision; each is to be left unchanged by who gets it.

    `position` is a revision up to which all changes have been handed out: what a bookmark tells.
    """

    def __init__(self, history: History, resource: str | None, initial: list[Event], position: int) -> None:
        history.after(position)
        self._history = history
        self._resource = resource
        self._initial = initial
        self._news = asyncio.Event()
        self._pending: list[Event] = []
        self.position = position

    def ready(self) -> list[Event]:
        """What there is now, perhaps nothing. Raises Gone: it was read too slowly."""
        if self._initial:
            initial, self._initial = self._initial, []
            return initial
        events = self._history.after(self.position)
        if events:
            self.position = events[-1].revision
        return [event for event in events if self._resource is None or event.kind.resource == self._resource]

    async def next(self, timeout_s: float | None = None) -> list[Event]:
        """At least one change; none when the time is over. Raises Gone."""
        self._history._waiting.add(self._news)  # noqa: SLF001
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._news.clear()
                    if events := self.ready():
                        return events
                    await self._news.wait()
        except TimeoutError:
            return []
        finally:
            self._history._waiting.discard(self._news)  # noqa: SLF001

    async def events(self, copy: Callable[[dict[str, Any]], dict[str, Any]]) -> AsyncIterator[Event]:
        while True:
            for event in await self.next():
                yield Event(event.type, event.kind, copy(event.object), event.revision, event.before)


def parse_revision(text: str | None) -> int:
    """A resourceVersion. Raises BadRequest."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 20:
        raise BadRequest(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def not_in_future(wanted: int, revision: int) -> None:
    """Raises Timeout, as the real server does after it has waited in vain."""
    if wanted > revision:
        raise Timeout(
            f"Too large resource version: {wanted}, current: {revision}",
            {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            },
        )
