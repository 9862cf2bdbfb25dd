"""A session's work folder as a tar, to and from its agent: whole or not at all, however often a part of it is lost."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import aiohttp

from shared.agent_way import CONNECT_TIMEOUT_S, Refused, Way, json_of
from shared.errors import OnMemOSError, WorkspaceLost, WorkspaceUnreachable
from shared.parts import parts

log = logging.getLogger(__name__)

PATH = "/v1/workspace"
PART_BYTES = 8 << 20  # the agent takes 16 MiB, Cloud Run 32 MiB in a request
READ_BYTES = 1 << 20  # ahead of who takes the pieces
END = bytes(1024)  # what every whole tar ends with
# Without a byte; before the first one the agent looks through the whole folder.
READ_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=60.0)
PART_TIMEOUT = aiohttp.ClientTimeout(total=120.0, sock_connect=CONNECT_TIMEOUT_S)
TRIES = 5  # of one part
PAUSE_S = 0.2  # before the second try of a part; twice as long before each one after it
WRONG_OFFSET = "wrong_offset"
SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """`client` is the caller's to close; `way` leads to the agent."""

    client: aiohttp.ClientSession
    way: Way

    async def archive(self) -> AsyncGenerator[bytes, None]:
        """Raises WorkspaceUnreachable, and WorkspaceLost when it breaks off or something in it cannot be read."""
        end = b""
        try:
            async with self.way.asked(self.client, "GET", PATH, READ_TIMEOUT, read_bufsize=READ_BYTES) as response:
                async for piece in response.content.iter_any():
                    end = (end + piece[-len(END) :])[-len(END) :]
                    yield piece
        except Refused as exc:
            raise self.way.refusal(exc) from exc
        if end != END:
            raise WorkspaceLost(f"the archive of {self.way.session_id} breaks off")

    async def restore(self, restore_id: str, boot_id: str, tar: AsyncIterator[bytes]) -> None:
        """Raises WorkspaceUnreachable, WorkspaceLost, WorkspaceExhausted, and what `tar` raises.

        `boot_id` is the process of the agent that gets all of it.
        """
        offset = 0
        async with aclosing(parts(tar, PART_BYTES)) as stream:
            async for part, is_last in stream:
                if await self._send(restore_id, boot_id, offset, part, is_last=is_last):
                    return
                offset += len(part)
        raise WorkspaceLost(f"the workspace of {self.way.session_id} has all of the tar and does not say so")

    async def _send(self, restore_id: str, boot_id: str, offset: int, part: bytes, *, is_last: bool) -> bool:
        """Whether the agent has all that it wants. What it has of a part that broke off is not sent again."""
        end = offset + len(part)
        for attempt in range(TRIES):
            query = {"restore": restore_id, "offset": str(offset), "last": str(is_last).lower()}
            headers = {"X-Boot-Id": boot_id, "Content-Type": "application/x-tar"}
            rest = part[len(part) - (end - offset) :]
            try:
                async with self.way.asked(
                    self.client, "PUT", PATH, PART_TIMEOUT, headers, params=query, data=rest
                ) as response:
                    return bool(json_of(await response.read()).get("done"))
            except Refused as exc:
                if exc.body.get("code") == SUPERSEDED:  # by a try that was given up here and had not arrived yet
                    await self._pause(attempt, offset, self.way.refusal(exc))
                    continue
                expected = exc.body.get("offset")
                if exc.body.get("code") != WRONG_OFFSET or not isinstance(expected, int):
                    raise self.way.refusal(exc) from exc
                if not offset <= expected <= end or (expected == offset):
                    raise WorkspaceLost(
                        f"the restore of {self.way.session_id} is at {expected}; wanted {offset} to {end}"
                    ) from exc
                offset = expected
                if offset == end and not is_last:
                    return False
            except (WorkspaceUnreachable, WorkspaceLost) as exc:
                await self._pause(attempt, offset, exc)
        raise WorkspaceLost(f"the workspace of {self.way.session_id} did not take the part at {offset}")

    async def _pause(self, attempt: int, offset: int, exc: OnMemOSError) -> None:
        """Before a part is tried again. Raises `exc` when it was tried enough."""
        if attempt == TRIES - 1:
            raise exc
        log.info("a part is sent again", extra={"session_id": self.way.session_id, "offset": offset, "error": str(exc)})
        await asyncio.sleep(PAUSE_S * 2**attempt)
