"""Which Firestore the stack has: Google's emulator where this machine has one, or our own among the other emulators."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from infra.local import ports
from infra.local.children import ChildFailed
from infra.local.settings import Firestore, Settings

if TYPE_CHECKING:
    from infra.emulators.firestore_official import OfficialEmulator

WATCHED_S = 1.0


async def choose(settings: Settings) -> "OfficialEmulator | None":
    """Google's emulator, or None for our own. Raises ChildFailed: Google's was asked for, and there is none."""
    if settings.firestore is Firestore.EMBEDDED:
        return None
    from infra.emulators.firestore_official import find_official

    found = await asyncio.to_thread(find_official, settings.inherited)
    if found is None and settings.firestore is Firestore.OFFICIAL:
        raise ChildFailed(
            "ONMEMOS_FIRESTORE: got 'official', but there is no emulator of Google's here. Wanted one that runs "
            "(FIRESTORE_EMULATOR_HOST), or a Java and the emulator of the Google Cloud SDK or of the Firebase CLI; "
            "'embedded' needs none"
        )
    return found


@asynccontextmanager
async def running(official: "OfficialEmulator", settings: Settings, project: str) -> AsyncIterator[str]:
    """Google's emulator at its "host:port", with what it held at its last good end. Raises PortTaken, ChildFailed."""
    from infra.emulators.firestore_official import OfficialEmulatorError

    port = 0 if official.address else ports.free(settings.ports, "firestore")
    log = settings.logs / "firestore.log"
    try:
        async with official.run(
            ports.HOST, port, log, data_path=settings.state / "firestore-official", project=project
        ) as address:
            yield address
    except OfficialEmulatorError as exc:
        raise ChildFailed(f"firestore: {exc}") from exc


async def gone(address: str) -> ChildFailed:
    """Wait until nobody listens at "host:port" any more."""
    host, _, port = address.rpartition(":")
    while True:
        await asyncio.sleep(WATCHED_S)
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return ChildFailed(f"firestore ended by itself: nobody listens at {address}")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
