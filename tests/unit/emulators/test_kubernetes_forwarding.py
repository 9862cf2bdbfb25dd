"""A port-forward to a port that takes nothing more ends with its client; a probe that is told nonsense is unhealthy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from infra.emulators.kubernetes import channels, spdy
from infra.emulators.kubernetes.kubelet import Kubelet
from infra.emulators.kubernetes.portforward import TUNNEL, PortForward
from infra.emulators.kubernetes.probes import Unhealthy, act
from infra.sandbox.inside import frames

PORT = 7000
POD = {"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [{"name": "c", "command": ["x"]}]}}


@dataclass
class Attendant:
    """It connects whoever asks to a port that says `says`, and takes nothing."""

    says: bytes = b""
    folder: Path = field(default_factory=Path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        cast("asyncio.ReadTransport", writer.transport).pause_reading()
        writer.write(frames.frame(frames.CONNECTED, b"") + self.says)
        if self.says:
            writer.close()

    @property
    def sandbox(self) -> Any:
        return SimpleNamespace(name="s", attendant=self.folder / "attendant.sock", socket=self.folder / "agent.sock")


@pytest_asyncio.fixture
async def attendant(tmp_path: Path) -> AsyncIterator[Attendant]:
    opened = Attendant(folder=tmp_path)
    server = await asyncio.start_unix_server(opened.serve, opened.sandbox.attendant)
    yield opened
    server.close()


@pytest.mark.parametrize("protocol", [channels.V4, TUNNEL])
async def test_a_client_that_leaves_while_its_port_takes_nothing_is_let_go(attendant: Attendant, protocol: str) -> None:
    life = SimpleNamespace(container=POD["spec"]["containers"][0], sandbox=attendant.sandbox)  # type: ignore[index]
    kubelet = cast("Kubelet", SimpleNamespace(life=lambda *_: life))
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stuck = asyncio.Event()
    opening: list[Any] = [{"type": "websocket.connect"}]
    if protocol == TUNNEL:
        client = spdy.Connection()
        for stream, kind in ((1, "error"), (3, "data")):
            headers = {"streamType": kind, "port": str(PORT), "requestID": "0"}
            opening.append({"type": "websocket.receive", "bytes": client.open(stream, headers)})
    piece = spdy.data(3, bytes(1 << 16)) if protocol == TUNNEL else b"\0" + bytes(1 << 16)

    async def receive() -> Any:
        stuck.clear()
        asyncio.get_running_loop().call_later(0.3, stuck.set)
        await asyncio.sleep(0)
        return opening.pop(0) if opening else {"type": "websocket.receive", "bytes": piece}

    async def send(message: Any) -> None:
        pass

    scope = {
        "type": "websocket",
        "query_string": f"ports={PORT}".encode(),
        "headers": [],
        "subprotocols": [protocol],
        "state": {"lost": lost},
    }
    async with asyncio.timeout(10):
        forwarding = asyncio.create_task(PortForward(kubelet).forward(scope, receive, send, "n", "p", POD))
        await stuck.wait()
        assert not forwarding.done()
        lost.set_result(None)
        await forwarding


async def test_a_probe_that_is_answered_without_end_has_failed(attendant: Attendant) -> None:
    attendant.says = b"x" * (1 << 17)
    container = {"name": "c", "command": ["x"]}
    async with AsyncExitStack(), asyncio.timeout(10):
        with pytest.raises(Unhealthy, match="malformed HTTP response"):
            await act(container, attendant.sandbox, {"httpGet": {"port": PORT}})
