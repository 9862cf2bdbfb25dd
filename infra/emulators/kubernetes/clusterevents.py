"""Events, as `kubectl describe` and `kubectl get events` show them: what is told again is counted, not repeated."""

import asyncio
import contextlib
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from infra.emulators.kubernetes.kinds import EVENTS
from infra.emulators.kubernetes.moments import timestamp
from infra.emulators.kubernetes.objects import Objects
from infra.emulators.kubernetes.statuses import StatusError

log = logging.getLogger(__name__)

MOST_WAITING: Final = 1000
REMEMBERED: Final = 4096
KEPT: Final = timedelta(hours=1)  # kube-apiserver's --event-ttl
SWEEP_S: Final = 60.0
NORMAL, WARNING = "Normal", "Warning"


class Recorder:
    """Writes events in the background, in order: nobody waits for them. An async context manager."""

    def __init__(self, objects: Objects, now: Callable[[], str]) -> None:
        self._objects = objects
        self._now = now
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MOST_WAITING)
        self._known: OrderedDict[tuple[str, ...], str] = OrderedDict()
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Recorder":
        self._writing = asyncio.create_task(self._write(), name="events")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    def tell(self, about: dict[str, Any], type_: str, reason: str, message: str, *, by: str, field: str = "") -> None:
        """What happened to an object. Where nobody keeps up with events, they are dropped."""
        metadata = about["metadata"]
        involved = {
            "kind": about["kind"],
            "apiVersion": about["apiVersion"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
            **({"fieldPath": field} if field else {}),
        }
        now = self._now()
        event = {
            "metadata": {
                "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
                "namespace": metadata.get("namespace") or "default",
            },
            "involvedObject": {key: value for key, value in involved.items() if value},
            "type": type_,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": by},
            "reportingComponent": by,
            "reportingInstance": "",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        if not self._waiting.full():
            self._waiting.put_nowait(event)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        sweep_at = loop.time()
        while True:
            if loop.time() >= sweep_at:
                await self.sweep()
                sweep_at = loop.time() + SWEEP_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(sweep_at):
                    event = await self._waiting.get()
                await self._try_to_store(event)

    async def _try_to_store(self, event: dict[str, Any]) -> None:
        try:
            await self._store(event)
        except StatusError as exc:  # its namespace is being deleted, say
            log.debug("an event was not stored", extra={"reason": str(exc)})

    async def sweep(self) -> None:
        """Delete the events of which nothing was told for as long as an API server keeps them."""
        kept_since = timestamp(datetime.fromisoformat(self._now()) - KEPT)
        for event in self._objects.list(EVENTS)[0]:
            metadata = event["metadata"]
            if (event.get("lastTimestamp") or metadata["creationTimestamp"]) < kept_since:
                with contextlib.suppress(StatusError):
                    await self._objects.delete(EVENTS, metadata["namespace"], metadata["name"])

    async def _store(self, event: dict[str, Any]) -> None:
        involved = event["involvedObject"]
        key = (involved["uid"], involved.get("fieldPath", ""), event["type"], event["reason"], event["message"])
        namespace = event["metadata"]["namespace"]
        if key in self._known:
            try:
                known = self._objects.get(EVENTS, namespace, self._known[key])
            except StatusError:
                del self._known[key]
            else:
                known["count"] = known.get("count", 1) + 1
                known["lastTimestamp"] = event["lastTimestamp"]
                await self._objects.update(EVENTS, known)
                return
        await self._objects.create(EVENTS, event)
        self._known[key] = event["metadata"]["name"]
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
