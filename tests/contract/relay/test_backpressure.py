"""Who does not read makes the other side wait, and nothing piles up in between."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
from yarl import URL

from tests.contract.relay.rig import KEY, SESSION, SOON_S, House

MESSAGE_BYTES = 100_000
PILED_UP_BYTES = 32 << 20  # more than the kernel's buffers of two connections, far less than what was to be sent
MINE = {"X-API-Key": KEY}
STILL_S = 0.3


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame, with a mask of zeros."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


PINGS = masked(0x9, bytes(125)) * 1000


async def handshaken(relay: House) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A shell's WebSocket at the level of bytes."""
    url = URL(relay.url)
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=PILED_UP_BYTES)
    head = (
        f"GET /v1/sessions/{SESSION}/shell?api_key={KEY} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    writer.write(head.encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    return reader, writer


def resident_bytes() -> int:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


async def until_still(count: Callable[[], int]) -> int:
    """What a count came to when it no longer grows: nobody can wait for what does not happen but by waiting."""
    async with asyncio.timeout(3 * SOON_S):
        before = -1
        while before != (now := count()) or not now:
            before = now
            await asyncio.sleep(STILL_S)
        return now


async def test_a_client_that_does_not_read_stops_the_agent_and_fills_no_memory(
    relay: House, client: aiohttp.ClientSession
) -> None:
    before = resident_bytes()
    async with client.ws_connect(relay.ws(), headers=MINE) as socket:
        await socket.send_str(f"flood {MESSAGE_BYTES}")
        sent = await until_still(lambda: relay.agent.sent_bytes)
        assert sent < PILED_UP_BYTES
        assert resident_bytes() - before < PILED_UP_BYTES
        read = 0
        while read <= sent + MESSAGE_BYTES:  # and it goes on where the client reads again: nothing was lost
            read += len(await socket.receive_bytes(timeout=SOON_S))
        assert relay.agent.sent_bytes > sent


async def test_an_agent_that_does_not_read_stops_the_client_and_fills_no_memory(
    relay: House, client: aiohttp.ClientSession
) -> None:
    before, sent = resident_bytes(), 0
    impatient = aiohttp.ClientWSTimeout(ws_close=0.1)
    async with client.ws_connect(relay.ws(), headers=MINE, timeout=impatient) as socket:
        await socket.send_str("deaf")
        await asyncio.wait_for(relay.agent.silent.wait(), SOON_S)

        async def flood() -> None:
            nonlocal sent
            while True:
                await socket.send_bytes(bytes(MESSAGE_BYTES))
                sent += MESSAGE_BYTES

        flooding = asyncio.create_task(flood())
        assert await until_still(lambda: sent) < PILED_UP_BYTES
        assert resident_bytes() - before < PILED_UP_BYTES
        flooding.cancel()


async def test_pings_are_not_answered_for_a_client_that_does_not_read(relay: House) -> None:
    reader, writer = await handshaken(relay)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    before, pings = resident_bytes(), 0
    for _ in range(PILED_UP_BYTES // len(PINGS) * 2):
        writer.write(PINGS)
        await asyncio.wait_for(writer.drain(), SOON_S)
        pings += len(PINGS)
    assert pings > PILED_UP_BYTES
    assert resident_bytes() - before < PILED_UP_BYTES // 2
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    writer.write(masked(0x9, b"last"))
    await asyncio.wait_for(reader.readuntil(b"\x8a\x04last"), SOON_S)
    writer.close()


async def test_an_http_answer_that_is_not_read_stops_the_agent(relay: House, client: aiohttp.ClientSession) -> None:
    before = resident_bytes()
    async with client.get(relay.http_url("/endless"), headers=MINE):
        assert await until_still(lambda: relay.agent.sent_bytes) < PILED_UP_BYTES
        assert resident_bytes() - before < PILED_UP_BYTES
