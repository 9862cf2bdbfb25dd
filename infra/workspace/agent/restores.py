"""The work folder's files come back: a tar, taken in parts, in order, each applied as it arrives.

What was taken is known by its length, so a part whose answer was lost, or that broke off, is sent again from there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from .errors import Abandoned, BadRequest, Refused, Superseded
from .gate import Gate
from .threads import in_thread

if TYPE_CHECKING:
    from .extraction import Extraction

log = logging.getLogger(__name__)

MAX_PART_BYTES = 16 * 1024 * 1024
STALL_S = 60.0  # without a byte
APPLIED_BYTES = 524_288  # at once: a hop to a thread costs less than they do

Piece = Callable[[], Awaitable[tuple[bytes, bool]]]


class Restores:
    """One restore for each life of the agent, into `workdir`, before anything else has happened in it."""

    def __init__(self, workdir: str, gate: Gate) -> None:
        self._workdir = workdir
        self._gate = gate
        self._id: str | None = None
        self._offset = 0
        self._done = False
        self._extraction: Extraction | None = None
        self._lock = asyncio.Lock()
        self._arrivals = 0  # of parts
        self._waiting: asyncio.Timeout | None = None  # of the part that is being received
        self._expected: asyncio.TimerHandle | None = None

    def expect(self, seconds: float) -> None:
        """Files are to come: nothing is started before they are there, or so much time has passed without a part.

        A client that has the address from before would else find an empty folder, and take it into use.
        """
        self._gate.restoring = True
        self._expect_no_more()
        self._expected = asyncio.get_running_loop().call_later(seconds, self._despair)

    async def take(self, restore_id: str, offset: int, receive: Piece, *, last: bool) -> tuple[int, bool]:
        """One part; how much of the tar was taken now, and whether that was all.

        `offset` 0 begins anew. A part that arrives while another one does takes its place: whoever sent that one has
        given up, or is told so (the two may have overtaken each other) and sends again. Raises Refused, Superseded,
        BadRequest, BadArchive, Full (begin anew), Abandoned.
        """
        self._arrivals += 1
        arrival = self._arrivals
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(0)
        async with self._lock:
            if self._done and restore_id == self._id:
                return self._offset, True
            self._check(restore_id, offset)
            self._check_newest(arrival)
            if offset == 0:
                await self._begin(restore_id)
            try:
                await self._apply(receive, arrival)
                if last:
                    await self._finish()
            except (Abandoned, Superseded):  # what was taken of the part stays
                log.info("a part of a restore broke off", extra={"offset": self._offset})
                raise
            except BaseException:
                await self._drop()
                raise
            return self._offset, self._done

    def _check(self, restore_id: str, offset: int) -> None:
        if self._done:
            raise Refused("already_restored", f"the restore {self._id} was here; wanted that one or a new workspace")
        if self._gate.used:
            raise Refused("workspace_in_use", "something has run in this workspace; wanted a new one")
        expected = self._offset if restore_id == self._id else 0
        if offset not in (0, expected):
            raise Refused("wrong_offset", f"offset: got {offset}; wanted {expected}", offset=expected)

    async def _begin(self, restore_id: str) -> None:
        """Whatever was there before is of no use: nothing has run on it."""
        from .extraction import Extraction

        self._gate.restoring = True
        self._expect_no_more()
        await self._drop()
        self._extraction = await in_thread(Extraction, self._workdir)
        self._id = restore_id

    def _check_newest(self, arrival: int) -> None:
        if arrival != self._arrivals:
            raise Superseded

    def _expect_no_more(self) -> None:
        if self._expected is not None:
            self._expected.cancel()

    def _despair(self) -> None:
        log.warning("no files have come: the workspace is used without them")
        self._gate.restoring = False

    async def _apply(self, receive: Piece, arrival: int) -> None:
        extraction = self._extraction
        assert extraction is not None  # noqa: S101 - whatever got an offset has begun
        size = 0
        more = True
        while more:
            pieces: list[bytes] = []
            gathered = 0
            try:
                while more and gathered < APPLIED_BYTES:
                    piece, more = await self._received(receive, arrival)
                    pieces.append(piece)
                    gathered += len(piece)
            finally:
                size += gathered
                if size > MAX_PART_BYTES:
                    raise BadRequest(f"a part has more than {MAX_PART_BYTES} bytes")
                if gathered:
                    await in_thread(_feed, extraction, pieces)
                    self._offset += gathered

    async def _received(self, receive: Piece, arrival: int) -> tuple[bytes, bool]:
        self._check_newest(arrival)
        try:
            async with asyncio.timeout(STALL_S) as self._waiting:
                return await receive()
        except TimeoutError as exc:
            self._check_newest(arrival)
            raise Abandoned("the client sends nothing") from exc
        finally:
            self._waiting = None

    async def _finish(self) -> None:
        assert self._extraction is not None  # noqa: S101 - as above
        await in_thread(self._extraction.finish)
        self._extraction.close()
        self._extraction = None
        self._done = True
        self._gate.restoring = False
        log.info("restored", extra={"restore": self._id, "bytes": self._offset})

    async def _drop(self) -> None:
        extraction, self._extraction = self._extraction, None
        self._id, self._offset = None, 0
        if extraction is not None:
            await in_thread(extraction.close)


def _feed(extraction: "Extraction", pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        extraction.feed(piece)
