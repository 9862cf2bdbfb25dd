"""Which container of a Pod is meant, and its log over HTTP."""

import asyncio
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from infra.emulators.kubernetes.answers import text
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.kubelet import Kubelet
from infra.emulators.kubernetes.log_options import log_option_errors, log_options
from infra.emulators.kubernetes.objects import Object
from infra.emulators.kubernetes.podlogs import read_log
from infra.emulators.kubernetes.statuses import BadRequest, Invalid, MethodNotSupported

_OPTIONS: Final = Kind("", "v1", "podlogoptions", "PodLogOptions")
_NOT_YET: Final = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
    "InvalidImageName": "InvalidImageName",
    "CrashLoopBackOff": "",
}


def chosen(pod: Object, wanted: str) -> str:
    """Raises BadRequest."""
    name, spec = pod["metadata"]["name"], pod["spec"]
    names: list[str] = [container["name"] for container in spec["containers"]]
    everybody = [*names, *(container["name"] for container in spec.get("initContainers") or ())]
    if not wanted:
        if len(everybody) == 1:
            return names[0]
        told = f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
        inits = [one for one in everybody if one not in names]
        raise BadRequest(told + (f" or one of the init containers: [{' '.join(inits)}]" if inits else ""))
    if wanted not in everybody:
        raise BadRequest(f"container {wanted} is not valid for pod {name}")
    return wanted


class Logs:
    """The handler for `pods/log`."""

    def __init__(self, kubelet: Kubelet, folder: Path) -> None:
        self._kubelet = kubelet
        self._folder = folder

    async def log(self, scope: Scope, receive: Receive, send: Send, namespace: str, name: str, pod: Object) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            raise MethodNotSupported
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        container = chosen(pod, query.get("container", ""))
        try:
            options = log_options(query)
        except ValueError as exc:
            raise BadRequest(f"logs: {exc}") from exc
        if faults := list(log_option_errors(query)):
            raise Invalid(_OPTIONS, name, faults)
        previous = query.get("previous") in ("true", "1")
        path = self._path(pod, container, previous=previous)
        life = self._kubelet.life(pod, container)
        live = life.log if life and not previous and life.log and life.log.path == path else None
        if scope["method"] == "HEAD":
            await text(send, 200, "")
            return
        headers = [(b"content-type", b"text/plain"), (b"cache-control", b"no-cache, private")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = asyncio.create_task(_left(receive))
        try:
            chunks = read_log(path, options, live)
            while (chunk := await _unless(left, anext(chunks, None))) is not None:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if not left.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            await chunks.aclose()

    def _path(self, pod: Object, container: str, *, previous: bool) -> Path:
        """Raises BadRequest: it never ran."""
        status = pod.get("status") or {}
        known = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
        found = next((one for one in known if one["name"] == container), None)
        metadata = pod["metadata"]
        uid: str = metadata["uid"]
        named = f'container "{container}" in pod "{metadata["name"]}"'
        if found is None:
            if not pod["spec"].get("nodeName"):
                raise BadRequest(f"{named} is waiting to start: no host assigned")
            raise BadRequest(f"{named} is waiting to start: ContainerCreating")
        state, restarts = found.get("state") or {}, int(found.get("restartCount", 0))
        if previous:
            if not (found.get("lastState") or {}).get("terminated"):
                raise BadRequest(f"previous terminated {named} not found")
            number = restarts if "waiting" in state else restarts - 1
        else:
            waiting = state.get("waiting")
            if waiting and not (found.get("lastState") or {}).get("terminated"):
                why = waiting.get("reason", "ContainerCreating")
                raise BadRequest(f"{named} is waiting to start: {_NOT_YET.get(why, why)}")
            number = restarts
        return self._folder / uid / container / f"{max(number, 0)}.log"


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _unless(left: "asyncio.Task[None]", chunk: object) -> bytes | None:
    """The next chunk; None where there is none, or the client has gone."""
    task = asyncio.ensure_future(chunk)  # type: ignore[call-overload]
    try:
        await asyncio.wait((task, left), return_when=asyncio.FIRST_COMPLETED)
        result: bytes | None = task.result() if task.done() else None
        return result
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
