"""A watch over HTTP: a line of JSON for each change, bookmarks between, and an end in time."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, Final

from starlette.types import Send

from infra.emulators.kubernetes.answers import encoded
from infra.emulators.kubernetes.history import Event, Watch, not_in_future, parse_revision
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.lists import selector
from infra.emulators.kubernetes.objects import Objects
from infra.emulators.kubernetes.requests import JSON, Request
from infra.emulators.kubernetes.selectors import Selects
from infra.emulators.kubernetes.statuses import Invalid, StatusError, forbidden

BOOKMARK_EVERY_S: Final = 60.0  # as the real server's
SHORTEST_S: Final = 1800  # of a watch that does not say how long; up to twice that, at random
_OPTIONS = Kind("meta.k8s.io", "v1", "listoptions", "ListOptions")

Shape = Callable[[dict[str, Any], bool], dict[str, Any]]


async def stream(
    objects: Objects,
    kind: Kind,
    namespace: str,
    request: Request,
    send: Send,
    *,
    shape: Shape,
    stopping: asyncio.Event,
    name: str = "",
) -> None:
    """`shape`: the form in which an object goes out, told whether it is the first. Raises StatusError at first only."""
    watching = _Watching(objects, kind, namespace, request, shape, name)
    headers = [(b"content-type", f"{JSON};stream=watch".encode()), (b"cache-control", b"no-cache, private")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    writing = asyncio.create_task(watching.write(send))
    others = [asyncio.create_task(request.disconnected()), asyncio.create_task(stopping.wait())]
    try:
        await asyncio.wait([writing, *others], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (writing, *others):
            task.cancel()
        await asyncio.gather(writing, *others, return_exceptions=True)
    with contextlib.suppress(OSError):
        await send({"type": "http.response.body", "body": b""})


class _Watching:
    def __init__(self, objects: Objects, kind: Kind, namespace: str, request: Request, shape: Shape, name: str) -> None:
        query = request.query
        self._kind, self._namespace, self._shape, self._name = kind, namespace, shape, name
        self._selects: Selects = selector(kind, query)
        self._bookmarks = request.flag("allowWatchBookmarks")
        timeout = request.seconds("timeoutSeconds")
        self._timeout_s = timeout if timeout and timeout > 0 else SHORTEST_S * (1 + random.random())  # noqa: S311
        self._first = True
        self._initial_end = _initial(query)
        since = query.get("resourceVersion", "")
        if since:
            not_in_future(parse_revision(since), int(objects.resource_version))
        self._gone: StatusError | None = None
        self._watch: Watch | None = None
        try:
            if self._initial_end or request.flag("sendInitialEvents"):
                self._watch = objects.open_watch(kind)
            elif query.get("sendInitialEvents") and since in ("", "0"):
                self._watch = objects.open_watch(kind, objects.resource_version)
            else:
                self._watch = objects.open_watch(kind, since)
        except StatusError as exc:
            self._gone = exc  # told in the stream, as the real server does

    async def write(self, send: Send) -> None:
        """Until the time is over or the client was too slow."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout_s
        bookmark = loop.time() + BOOKMARK_EVERY_S
        watch, lines = self._watch, b""
        if watch is None:
            await self._line(send, self._failed())
            return
        if self._initial_end:
            lines = b"".join(filter(None, map(self._event, watch.ready())))
            await self._line(send, lines + self._bookmark(watch, {"k8s.io/initial-events-end": "true"}))
        while (left := min(end, bookmark) - loop.time()) > 0 or loop.time() < end:
            try:
                events = await watch.next(max(left, 0))
            except StatusError as exc:
                self._gone = exc
                await self._line(send, self._failed())
                return
            if lines := b"".join(filter(None, map(self._event, events))):
                await self._line(send, lines)
            if self._bookmarks and loop.time() >= bookmark:
                await self._line(send, self._bookmark(watch, {}))
            if loop.time() >= bookmark:
                bookmark = loop.time() + BOOKMARK_EVERY_S
        if self._bookmarks:
            await self._line(send, self._bookmark(watch, {}))

    @staticmethod
    async def _line(send: Send, lines: bytes) -> None:
        await send({"type": "http.response.body", "body": lines, "more_body": True})

    def _event(self, event: Event) -> bytes:
        """ "" for what the selector leaves out."""
        matched = event.before is not None and self._matches(event.before)
        matches = self._matches(event.object)
        if event.type == "DELETED":
            change = "DELETED" if matched or matches else ""
        elif matches:
            change = "MODIFIED" if matched else "ADDED"
        else:
            change = "DELETED" if matched else ""
        if not change:
            return b""
        obj = {**event.object, "apiVersion": self._kind.api_version}
        shaped = self._shape(obj, self._first)
        self._first = False
        return encoded({"type": change, "object": shaped}) + b"\n"

    def _matches(self, obj: dict[str, Any]) -> bool:
        metadata = obj["metadata"]
        if self._namespace and metadata.get("namespace") != self._namespace:
            return False
        return (not self._name or metadata["name"] == self._name) and self._selects(obj)

    def _bookmark(self, watch: Watch, annotations: dict[str, str]) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(watch.position), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        obj = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata}
        return encoded({"type": "BOOKMARK", "object": obj}) + b"\n"

    def _failed(self) -> bytes:
        return encoded({"type": "ERROR", "object": self._gone.body() if self._gone else {}}) + b"\n"


def _initial(query: dict[str, str]) -> bool:
    """Whether a bookmark has to tell where the initial state ends. Raises Invalid."""
    said, match = query.get("sendInitialEvents", ""), query.get("resourceVersionMatch", "")
    if not said:
        if match:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise Invalid(_OPTIONS, "", [forbidden("resourceVersionMatch", why)])
        return False
    if match != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise Invalid(_OPTIONS, "", [forbidden("resourceVersionMatch", why)])
    return said in ("true", "1") and query.get("allowWatchBookmarks") in ("true", "1")
