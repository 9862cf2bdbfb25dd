"""The API server's proxy: HTTP and WebSockets to a port of a Pod, or of a Service's Pod, as they stream."""

import asyncio
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from starlette.types import Receive, Scope, Send

from infra.emulators.kubernetes.container_life import ContainerLife
from infra.emulators.kubernetes.kinds import PODS
from infra.emulators.kubernetes.kubelet import Kubelet
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.pod_specs import agent_port, is_agent, port_number
from infra.emulators.kubernetes.selectors import matches
from infra.emulators.kubernetes.statuses import BadRequest, StatusError
from infra.emulators.port_connector import PortConnector
from shared import passage, socket_passage

IDLE_S: Final = 3.0  # an agent keeps connections far longer: nothing is sent on one that is about to close
HOST: Final = "http://pod"  # for the URL's sake: the client's Host is passed on
# The first was for us; a browser's WebSocket carries a token as a protocol.
_NOT_PASSED: Final = (b"authorization", b"x-forwarded-uri", b"x-forwarded-host", b"x-forwarded-proto")
_BEARER: Final = "base64url.bearer.authorization.k8s.io."


class ServiceUnavailable(StatusError):
    code, reason = 503, "ServiceUnavailable"

    def __init__(self, why: str) -> None:
        super().__init__(why, {"causes": []})


class Undialed(StatusError):
    """An upgrade that came to nothing: the real server passes on the bare error."""

    code, reason = 500, ""


class Answered(StatusError):
    """The Pod answered a WebSocket's handshake with another status."""

    reason = "Unknown"

    def __init__(self, code: int) -> None:
        super().__init__(f"the server responded with the status code {code} to the upgrade")
        self.code = code


class PodProxy:
    """Handlers for `pods/proxy` and `services/proxy`; an async context manager."""

    def __init__(self, objects: Objects, kubelet: Kubelet) -> None:
        self._objects = objects
        self._kubelet = kubelet
        self._clients: dict[tuple[str, int], tuple[ContainerLife, aiohttp.ClientSession]] = {}

    async def __aenter__(self) -> "PodProxy":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await asyncio.gather(*(client.close() for _, client in self._clients.values()))

    async def pod(self, scope: Scope, receive: Receive, send: Send, namespace: str, name: str, pod: Object) -> None:
        """`name` is [SCHEME:]POD[:PORT]."""
        _, port = _parts(name)
        await self._pass_on(pod, port or _first_port(pod), scope, receive, send)

    async def service(
        self, scope: Scope, receive: Receive, send: Send, namespace: str, name: str, service: Object
    ) -> None:
        """`name` is [SCHEME:]SERVICE[:PORT]; a Pod that is ready answers."""
        bare, wanted = _parts(name)
        ports = service["spec"].get("ports") or ()
        port = next((one for one in ports if wanted in ("", one.get("name"), str(one["port"]))), None)
        if port is None:
            raise ServiceUnavailable(f'no service port "{wanted}" found for service "{bare}"')
        selector = service["spec"].get("selector")
        for pod in self._objects.list(PODS, namespace)[0] if selector else ():
            if matches({"matchLabels": selector}, pod["metadata"].get("labels") or {}) and _is_ready(pod):
                await self._pass_on(pod, str(port.get("targetPort") or port["port"]), scope, receive, send)
                return
        raise ServiceUnavailable(f'no endpoints available for service "{bare}"')

    async def _pass_on(self, pod: Object, port: str, scope: Scope, receive: Receive, send: Send) -> None:
        prefix, path = _split(passage.raw_path(scope))
        if not path:
            if scope["type"] == "websocket" or scope["method"] in ("GET", "HEAD"):
                await _redirect(scope, send, prefix + b"/")
                return
            path = b"/"
        life, number = self._target(pod, port)
        if life is None or life.sandbox is None:
            if not (pod.get("status") or {}).get("podIP"):
                raise BadRequest("address not allowed")
            raise _unreachable(scope, pod, port, "connect: connection refused")
        client = await self._client(life, number)
        url = passage.join(HOST, path, scope["query_string"])
        headers = [*_kept(scope), *_forwarded(scope, prefix + path)]
        try:
            if scope["type"] == "http":
                rewriting = _Rewriting(send, prefix)
                await passage.pass_http(client, url, headers, scope, receive, rewriting)
            else:
                protocols = [p for p in scope.get("subprotocols", ()) if not p.startswith(_BEARER)]
                scope = {**scope, "subprotocols": protocols}
                await socket_passage.pass_websocket(client, url, headers, scope, receive, send)
        except passage.Unreachable as exc:
            raise _unreachable(scope, pod, port, "connect: connection refused") from exc
        except passage.Lost as exc:
            raise _unreachable(scope, pod, port, "read: connection reset by peer") from exc
        except socket_passage.Refused as exc:
            raise Answered(exc.status) from exc

    def _target(self, pod: Object, port: str) -> tuple[ContainerLife | None, int]:
        """The container that listens at that port, as far as it says so; else the first one."""
        containers = pod["spec"]["containers"]
        for container in containers:
            number = port_number(container, port)
            declared = {one["containerPort"] for one in container.get("ports") or ()}
            if number is not None and (number in declared or len(containers) == 1):
                return self._kubelet.life(pod, container["name"]), number
        if not port.isdigit():
            raise ServiceUnavailable(f'no port named "{port}" found for pod "{pod["metadata"]["name"]}"')
        return self._kubelet.life(pod, containers[0]["name"]), int(port)

    async def _client(self, life: ContainerLife, port: int) -> aiohttp.ClientSession:
        """One for each life of a container; those of ended ones are closed here."""
        assert life.sandbox is not None  # noqa: S101 - its caller has looked
        key = (life.container_id, port)
        if key not in self._clients:
            over = [k for k, (other, _) in self._clients.items() if other.container_id != k[0] or not other.sandbox]
            gone = [self._clients.pop(k)[1] for k in over]
            if is_agent(life.container) and port == agent_port(life.container):
                path = str(life.sandbox.socket)
                connector: aiohttp.BaseConnector = aiohttp.UnixConnector(path, limit=0, keepalive_timeout=IDLE_S)
            else:
                connector = PortConnector(life.sandbox.attendant, port, force_close=True)
            self._clients[key] = life, passage.http_client(connector)
            for client in gone:
                await client.close()
        return self._clients[key][1]


class _Rewriting:
    """Sends on, with a redirect within the Pod as one within its proxy."""

    def __init__(self, send: Send, prefix: bytes) -> None:
        self._send = send
        self._prefix = prefix

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, self._prefix + value if name == b"location" and _is_local(value) else value)
                for name, value in message["headers"]
            ]
        await self._send(message)


def _is_local(location: bytes) -> bool:
    parts = urlsplit(location)
    return not parts.scheme and not parts.netloc and location.startswith(b"/")


def _parts(name: str) -> tuple[str, str]:
    """Name and port of [SCHEME:]NAME[:PORT]. Raises BadRequest."""
    parts = name.split(":")
    if len(parts) == 3:
        if parts[0] not in ("", "http"):
            raise ServiceUnavailable(f"error trying to reach service: {parts[0]} is not served by Pods here")
        return parts[1], parts[2]
    if len(parts) > 3:
        raise BadRequest(f"invalid pod request {name!r}")
    return parts[0], parts[1] if len(parts) == 2 else ""


def _first_port(pod: Object) -> str:
    """As the real one: the first port of a container that has any, or 80; an agent's own where none is declared."""
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            return str(port["containerPort"])
    first = pod["spec"]["containers"][0]
    return str(agent_port(first)) if is_agent(first) else "80"


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """/api/v1/namespaces/N/pods/P/proxy and what follows."""
    parts = raw.split(b"/", 8)
    return b"/".join(parts[:8]), b"/" + parts[8] if len(parts) > 8 else b""


def _kept(scope: Scope) -> list[passage.Header]:
    return [(name, value) for name, value in scope["headers"] if name not in _NOT_PASSED]


def _forwarded(scope: Scope, uri: bytes) -> list[passage.Header]:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    client = (scope.get("client") or ("",))[0].encode()
    return [
        (b"x-forwarded-for", client),
        (b"x-forwarded-uri", uri),
        (b"x-forwarded-host", host),
        (b"x-forwarded-proto", b"http"),
    ]


async def _redirect(scope: Scope, send: Send, location: bytes) -> None:
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    await send({"type": f"{kind}.start", "status": 301, "headers": [(b"location", location + query)]})
    await send({"type": f"{kind}.body", "body": b""})


def _unreachable(scope: Scope, pod: Object, port: str, why: str) -> StatusError:
    address = f"dial tcp {(pod.get('status') or {}).get('podIP', '')}:{port}: {why}"
    if scope["type"] == "websocket":
        return Undialed(address)
    return ServiceUnavailable(f"error trying to reach service: {address}")


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
