"""A stream of bytes in parts of one size, the next of which is gathered while one is worked on."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress


async def parts(chunks: AsyncIterator[bytes], size: int) -> AsyncGenerator[tuple[bytes, bool], None]:
    """(part, whether it is the last one); all but the last have `size` bytes. Of no bytes there is one part.

    Three parts are in memory at most. Raises what `chunks` raises; they are closed with this.
    """
    async with aclosing(_gathered(chunks, size)) as gathered:
        part = await anext(gathered)
        pending = _next(gathered)
        try:
            while (following := await pending) is not None:  # only then it is known that this part is not the last one
                pending = _next(gathered)
                yield part, False
                part = following
            yield part, True
        finally:
            pending.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await pending


def _next(gathered: AsyncGenerator[bytes, None]) -> "asyncio.Task[bytes | None]":
    async def one() -> bytes | None:
        return await anext(gathered, None)

    return asyncio.create_task(one())


async def _gathered(chunks: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    begun: list[bytes] = []
    begun_size = 0
    is_first = True
    try:
        async for chunk in chunks:
            at = 0
            while len(chunk) - at >= size - begun_size:
                end = at + size - begun_size
                yield b"".join((*begun, chunk[at:end]))
                begun, begun_size, at, is_first = [], 0, end, False
            if at < len(chunk):
                begun.append(chunk[at:])
                begun_size += len(chunk) - at
        if begun or is_first:
            yield b"".join(begun)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
