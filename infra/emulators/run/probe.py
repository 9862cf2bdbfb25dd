"""Startup probes over a container's Unix socket: bare HTTP/1.1, for a client library costs more than the answer."""

import asyncio
import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r\n)")
_CONNECT_S = 1.0  # a Unix socket accepts at once or its backlog is full


@dataclass(frozen=True, slots=True)
class StartupProbe:
    """`path` None only connects (tcp_socket). A container that isn't up `deadline_s` after its start has failed."""

    path: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float = 1.0
    deadline_s: float = 240.0

    async def succeeds(self, socket: Path) -> bool:
        """One attempt; a status from 200 to 399 is a success: cloud.google.com/run/docs/configuring/healthchecks."""
        if not socket.exists():  # noqa: ASYNC240  # most attempts end here: a connection costs a hundred times as much
            return False
        try:
            if self.path is None:
                async with asyncio.timeout(_CONNECT_S):
                    _, writer = await asyncio.open_unix_connection(str(socket))
                await _close(writer)
                return True
            async with asyncio.timeout(self.timeout_s):
                return await self._get(socket)
        except (OSError, TimeoutError, asyncio.LimitOverrunError):
            return False

    async def _get(self, socket: Path) -> bool:
        reader, writer = await asyncio.open_unix_connection(str(socket))
        try:
            headers = {"Host": "localhost", "Connection": "close", "User-Agent": "GoogleHC/1.0", **dict(self.headers)}
            lines = [f"GET {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            status = _STATUS_LINE.match(await reader.readline())
            return status is not None and 200 <= int(status[1]) < 400
        finally:
            await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
