"""HTTP connections to a port inside a container, which its attendant dials."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from infra.sandbox.attendance import NotListening, Stream, Unattended, dial

CHUNK = 1 << 16


class PortConnector(aiohttp.BaseConnector):
    """Connects every request to `port`, whatever its URL says, by the Unix socket of the container's attendant.

    aiohttp wants a transport of its own, so there is a pair of sockets between the two. `carriers` are the tasks that
    carry what is sent; each ends with its connection, or when the caller cancels it.
    """

    def __init__(self, attendant: Path, port: int, keepalive_s: float, carriers: set[asyncio.Task[None]]) -> None:
        super().__init__(limit=0, keepalive_timeout=keepalive_s)
        self._attendant = attendant
        self._port = port
        self._carriers = carriers

    async def _create_connection(self, req: aiohttp.ClientRequest, *_: Any) -> ResponseHandler:
        """What BaseConnector asks of its kinds. Raises aiohttp.ClientConnectorError: nobody listens there."""
        async with AsyncExitStack() as opening:
            try:
                inside = await opening.enter_async_context(dial(self._attendant, self._port))
            except (NotListening, Unattended, TimeoutError) as exc:
                raise aiohttp.ClientConnectorError(req.connection_key, OSError(str(exc))) from exc
            ours, theirs = socket.socketpair()
            outside = await asyncio.open_unix_connection(sock=theirs)
            connection = await self._loop.create_unix_connection(self._factory, sock=ours)
            carrier = asyncio.create_task(_carry(inside, outside, opening.pop_all()), name=f"port {self._port}")
            self._carriers.add(carrier)
            carrier.add_done_callback(self._carriers.discard)
        return connection[1]


async def _carry(inside: Stream, outside: Stream, opened: AsyncExitStack) -> None:
    """Both ways, until both have ended or one has broken."""
    async with opened:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(inside[0], outside[1]))
                group.create_task(_copy(outside[0], inside[1]))
        except* OSError:
            pass
        finally:
            outside[1].close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        sink.write(data)
        await sink.drain()
    sink.write_eof()
