"""What is done to a workspace as a whole: it is frozen, its files go and come, and a session adopts it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from .errors import Abandoned, BadRequest, SettingsError
from .exchange import Checks, Exchange
from .freezer import LEASE_S, MAX_LEASE_S, Freezer
from .gate import Gate
from .identity import Identity
from .requests import parse_adoption, parse_lease, parse_part
from .restores import MAX_PART_BYTES, STALL_S, Restores
from .settings import awaits_files_s
from .threads import in_thread

if TYPE_CHECKING:
    from .archive import Archive

log = logging.getLogger(__name__)

TAR = b"application/x-tar"


class Upkeep:
    """Each method is one of the agent's operations and answers its exchange, or raises what is to be answered."""

    def __init__(
        self,
        tickets: Callable[[], Awaitable[Checks]],
        identity: Identity,
        gate: Gate,
        freezer: Freezer,
        workdir: str,
        awaits_files_s: float,
    ) -> None:
        """`awaits_files_s`: 0 where no files are to come."""
        self._tickets = tickets
        self._identity = identity
        self._gate = gate
        self._freezer = freezer
        self._workdir = workdir
        self._restores = Restores(workdir, gate)
        if awaits_files_s:
            self._restores.expect(awaits_files_s)

    @property
    def frozen(self) -> bool:
        return self._gate.frozen

    async def freeze(self, exchange: Exchange) -> None:
        await self._admit(exchange)
        lease_s = parse_lease(await exchange.body(), LEASE_S, MAX_LEASE_S)
        await exchange.send_json({"processes": await self._freezer.freeze(lease_s)})

    async def thaw(self, exchange: Exchange) -> None:
        await self._admit(exchange)
        await exchange.send_json({"processes": await self._freezer.thaw()})

    async def archive(self, exchange: Exchange) -> None:
        """Known beforehand: everything can be read. What goes wrong later leaves the answer without an end."""
        await self._admit(exchange)
        from .archive import Archive

        archive = await in_thread(Archive, self._workdir)
        gone = asyncio.ensure_future(exchange.disconnected())
        try:
            await in_thread(archive.check)
            await self._stream(archive, exchange, gone)
        finally:
            gone.cancel()
            await in_thread(archive.close)

    async def restore(self, exchange: Exchange) -> None:
        await self._admit(exchange)
        part = parse_part(exchange.query())
        announced = exchange.header(b"content-length")
        if announced is not None and int(announced) > MAX_PART_BYTES:
            raise BadRequest(f"the part has {int(announced)} bytes; wanted at most {MAX_PART_BYTES}")
        offset, done = await self._restores.take(part.restore_id, part.offset, exchange.piece, last=part.last)
        await exchange.send_json({"offset": offset, "done": done})

    async def adopt(self, exchange: Exchange) -> None:
        """The ticket is for the name that the workspace has had first, so that a call can be repeated."""
        tickets = await self._tickets()
        tickets.check_adoption(exchange.ticket())
        exchange.meant_for_this_boot()
        session_id, environment = parse_adoption(await exchange.body())
        patience_s = _patience(environment)
        if self._identity.adopt(session_id, environment, used=self._gate.used) and patience_s:
            self._restores.expect(patience_s)
        tickets.readdress(session_id)
        log.info("adopted", extra={"session_id": session_id})
        await exchange.send_json({"session_id": session_id})

    async def _admit(self, exchange: Exchange) -> None:
        (await self._tickets()).check(exchange.ticket())
        exchange.meant_for_this_boot()

    async def _stream(self, archive: "Archive", exchange: Exchange, gone: asyncio.Future[None]) -> None:
        pieces = archive.pieces()
        await exchange.begin(TAR)
        try:
            while (piece := await in_thread(next, pieces, None)) is not None:
                async with asyncio.timeout(STALL_S):
                    await exchange.go_on(piece)
                if gone.done():
                    raise Abandoned("the client went away")
            await exchange.go_on(b"", more=False)
        except TimeoutError as exc:
            raise Abandoned("the client does not read") from exc
        except OSError as exc:
            log.exception("an archive breaks off")
            raise Abandoned("a file of the work folder could not be read") from exc
        finally:
            await in_thread(pieces.close)


def _patience(environment: Mapping[str, str]) -> float:
    try:
        return awaits_files_s(environment)
    except SettingsError as exc:
        raise BadRequest.field("env", str(exc)) from exc
