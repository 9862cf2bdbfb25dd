"""Calls that block, each in a thread, and waited for to its end whatever becomes of who waits."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def in_thread(call: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """What the call gives. Cancelled, it ends when the call has: what that one uses may be closed then."""
    work = asyncio.get_running_loop().run_in_executor(None, call, *args)
    try:
        return await asyncio.shield(work)
    finally:
        if not work.done():
            await asyncio.wait((work,))
