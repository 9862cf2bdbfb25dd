"""port-forward: connections to ports of a Pod, over a WebSocket's channels or over SPDY within one.

Channels 2i and 2i+1 are the i-th port's data and errors; each begins with the port's number, two bytes, little-endian.
kubectl opens a pair of SPDY streams for each connection instead, in the WebSocket's binary messages.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from infra.emulators.kubernetes import channels, spdy
from infra.emulators.kubernetes.channels import Channels, Departed
from infra.emulators.kubernetes.container_life import ContainerLife
from infra.emulators.kubernetes.kubelet import Kubelet
from infra.emulators.kubernetes.objects import Object
from infra.emulators.kubernetes.pod_specs import port_number
from infra.emulators.kubernetes.probes import connect
from infra.emulators.kubernetes.statuses import BadRequest
from infra.emulators.kubernetes.streaming import Upgraded
from infra.sandbox.spec import SandboxError
from shared.passage import first
from shared.socket_passage import GONE, goodbye

TUNNEL: Final = "SPDY/3.1+portforward.k8s.io"
OFFERED: Final = (TUNNEL, channels.V4, "portforward.k8s.io")
MOST_PORTS: Final = 32
MOST_STREAMS: Final = 512
WAITING: Final = 16  # pieces of a connection that its port has not taken yet; then nothing more is read
CHUNK: Final = 1 << 15

Incoming = asyncio.Queue[bytes]  # an empty piece is the end
Outgoing = Callable[[bytes], Awaitable[None]]


class PortForward:
    """The handler for `pods/portforward`."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    async def forward(self, scope: Scope, receive: Receive, send: Send, namespace: str, name: str, pod: Object) -> None:
        if not any(self._kubelet.life(pod, one["name"]) for one in pod["spec"]["containers"]):
            phase = (pod.get("status") or {}).get("phase", "Pending")
            raise Upgraded(f"unable to forward port because pod is not running. Current status={phase}")
        protocol = channels.agreed(scope, OFFERED)
        ports = [] if protocol == TUNNEL else _ports(scope)
        stream = await channels.accepted(scope, receive, send, OFFERED)
        try:
            if protocol == TUNNEL:
                await first(_Tunnel(self, pod, receive, send).run(), stream.departure())
            else:
                await self._over_channels(pod, ports, stream)
        except* (Departed, spdy.ProtocolError):
            pass
        await goodbye(send, channels.NORMAL)

    async def carry(self, pod: Object, port: int, incoming: Incoming, outgoing: Outgoing) -> str:
        """One connection, until the port ends it; what went wrong, if anything did. Raises Departed."""
        told = f"error forwarding port {port} to pod {pod['metadata']['uid']}, uid : "
        life = self._listening(pod, port)
        if life is None or life.sandbox is None:
            return told + "container not running"
        try:
            async with AsyncExitStack() as stack:
                reader, writer = await connect(stack, life.container, life.sandbox, port)
                up = asyncio.create_task(_up(incoming, writer))
                try:
                    while piece := await reader.read(CHUNK):
                        await outgoing(piece)
                finally:
                    up.cancel()
                    await asyncio.gather(up, return_exceptions=True)
        except (SandboxError, OSError) as exc:
            return told + f"failed to connect to localhost:{port} inside namespace: {exc}"
        return ""

    def _listening(self, pod: Object, port: int) -> ContainerLife | None:
        """The container that has declared the port, else the first one."""
        containers = pod["spec"]["containers"]
        declared = (
            container
            for container in containers
            if any(port_number(container, one["containerPort"]) == port for one in container.get("ports") or ())
        )
        return self._kubelet.life(pod, next(declared, containers[0])["name"])

    async def _over_channels(self, pod: Object, ports: list[int], stream: Channels) -> None:
        queues = [Incoming(WAITING) for _ in ports]

        async def one(index: int, port: int) -> None:
            async def out(piece: bytes) -> None:
                await stream.write(2 * index, piece)

            if failure := await self.carry(pod, port, queues[index], out):
                await stream.write(2 * index + 1, failure.encode())

        for index, port in enumerate(ports):
            for channel in (2 * index, 2 * index + 1):
                await stream.write(channel, port.to_bytes(2, "little"))
        works = [one(index, port) for index, port in enumerate(ports)]
        await first(_all(works), _sort(stream, queues), stream.departure())


@dataclass
class _Pair:
    """The two streams of one connection, by the client's request ID."""

    port: int
    error: int = 0
    data: int = 0
    incoming: Incoming = field(default_factory=lambda: Incoming(WAITING))


class _Tunnel:
    """SPDY in a WebSocket's binary messages."""

    def __init__(self, forward: PortForward, pod: Object, receive: Receive, send: Send) -> None:
        self._forward = forward
        self._pod = pod
        self._receive = receive
        self._send = send
        self._spdy = spdy.Connection()
        self._pairs: dict[str, _Pair] = {}
        self._by_stream: dict[int, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Raises Departed, spdy.ProtocolError."""
        try:
            while True:
                message = await self._receive()
                if message["type"] != "websocket.receive":
                    return
                for event in self._spdy.receive(message.get("bytes") or b""):
                    await self._took(event)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _took(self, event: spdy.Event) -> None:
        match event:
            case spdy.Opened():
                await self._opened(event)
            case spdy.Data(stream=number, data=content, ended=ended):
                pair = self._by_stream.get(number)
                if pair is not None and pair.data == number:
                    if content:
                        await pair.incoming.put(content)
                    if ended:
                        await pair.incoming.put(b"")
            case spdy.Reset(stream=number):
                if (pair := self._by_stream.get(number)) is not None and pair.data == number:
                    await pair.incoming.put(b"")
            case spdy.Ping(number=number):
                await self._say(spdy.pong(number))
            case spdy.GoneAway():
                raise Departed

    async def _opened(self, event: spdy.Opened) -> None:
        headers, number = event.headers, event.stream
        port, request = headers.get("port", ""), headers.get("requestid", "")
        if not port.isdigit() or not 0 < int(port) < 65536 or len(self._by_stream) >= MOST_STREAMS:
            await self._say(spdy.refuse(number))
            return
        pair = self._pairs.setdefault(request, _Pair(int(port)))
        self._by_stream[number] = pair
        if headers.get("streamtype") == "error":
            pair.error = number
        else:
            pair.data = number
        await self._say(self._spdy.reply(number))
        if event.ended and pair.data == number:
            await pair.incoming.put(b"")
        if pair.error and pair.data:
            del self._pairs[request]
            task = asyncio.create_task(self._carry(pair), name=f"forward to {port}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, pair: _Pair) -> None:
        async def out(piece: bytes) -> None:
            await self._say(spdy.data(pair.data, piece))

        try:
            failure = await self._forward.carry(self._pod, pair.port, pair.incoming, out)
            await self._say(spdy.data(pair.error, failure.encode(), ended=True))
            await self._say(spdy.data(pair.data, b"", ended=True))
        except Departed:
            return
        finally:
            del self._by_stream[pair.error], self._by_stream[pair.data]
            while not pair.incoming.empty():  # whoever waits to put more must not wait for ever
                pair.incoming.get_nowait()

    async def _say(self, frame: bytes) -> None:
        try:
            await self._send({"type": "websocket.send", "bytes": frame})
        except GONE as exc:
            raise Departed from exc


async def _all(works: list[Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


async def _up(incoming: Incoming, writer: asyncio.StreamWriter) -> None:
    """Also after the port takes nothing more: the rest is thrown away, so that others are read."""
    open_ = True
    while True:
        piece = await incoming.get()
        if not open_:
            continue
        try:
            if piece:
                writer.write(piece)
                await writer.drain()
            else:
                writer.write_eof()
        except (OSError, RuntimeError):
            open_ = False


async def _sort(stream: Channels, queues: list[Incoming]) -> None:
    """What the client sends, to the port it is for. Raises Departed."""
    while True:
        channel, content = await stream.read()
        if channel % 2 == 0 and channel // 2 < len(queues) and content:
            await queues[channel // 2].put(content)


def _ports(scope: Scope) -> list[int]:
    """Raises BadRequest."""
    query = parse_qs(scope["query_string"].decode("latin-1"))
    words = [word for value in query.get("ports", ()) for word in value.split(",")]
    if not words:
        raise BadRequest('query parameter "ports" is required')
    if len(words) > MOST_PORTS or not all(word.isdigit() and 0 < int(word) < 65536 for word in words):
        raise BadRequest(f"ports {','.join(words)[:100]}: wanted at most {MOST_PORTS} numbers from 1 to 65535")
    return [int(word) for word in words]
