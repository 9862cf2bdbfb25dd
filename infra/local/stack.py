"""The local stack: starts the emulators, the gateway and the functions, watches them, and ends them.

    async with Stack(Settings.from_environment()) as stack:
        ...                            # stack.base_url answers
        raise await stack.failure()    # when one of its processes ends by itself

Nothing outlives it: not on leaving, not after an error at its start, not when this process is killed.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Self

from infra.local import home, ports, storage
from infra.local.children import Child, Children, ChildFailed, Program
from infra.local.firestore import Choice, choose
from infra.local.ports import HOST
from infra.local.settings import PROJECT, Settings

READY_TIMEOUT_S = 60.0

CLOUD = {
    "GOOGLE_CLOUD_PROJECT": "onmemos-local",
    "ONMEMOS_LOCATION": "us-central1",
    "ONMEMOS_IMAGE": "onmemos/workspace-{template}:local",
    "ONMEMOS_TASK_ACCOUNT": "tasks@onmemos-local.iam.gserviceaccount.com",
    "ONMEMOS_CLOSED_SUBNETWORK": "projects/onmemos-local/regions/us-central1/subnetworks/closed",
}
LOOPBACK = "127.0.0.1,localhost"

Tell = Callable[[str, bool], None]
"""Called with a process' name when it is started (False) and when it is ready (True)."""


class NotReady(Exception):
    """Some processes did not come up in time; the message names them."""


class Stack:
    """One stack in one home. `environment` is what `<home>/env` holds; `ready_s` is how long the start took.

    Entering raises HomeTaken, PortTaken, ChildFailed, NotReady; what was started by then has ended.
    """

    def __init__(self, settings: Settings, tell: Tell = lambda name, ready: None) -> None:
        self.settings = settings
        self.environment: dict[str, str] = {}
        self.ready_s = 0.0
        self.firestore = ""
        self._tell = tell
        self._closing = AsyncExitStack()

    @property
    def base_url(self) -> str:
        """The gateway's URL."""
        return self.environment["ONMEMOS_URL"]

    @property
    def api_key(self) -> str:
        """The key that the API takes."""
        return self.settings.api_key

    @property
    def home(self) -> Path:
        """All that outlives the stack."""
        return self.settings.home

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._closing.aclose()

    async def failure(self) -> ChildFailed:
        """Wait until one of the processes ends by itself."""
        return await self._children.first_failure()

    async def _start(self) -> None:
        began = time.monotonic()
        settings = self.settings
        wanted = settings.ports
        lock = self._closing.enter_context(home.claimed(settings))
        with closing(ports.listen(wanted, "gateway")) as gateway, closing(ports.listen(wanted, "functions")) as pushes:
            self.environment = self._addresses(gateway.getsockname()[1], pushes.getsockname()[1])
            leftovers = (settings.env_file, settings.runtime)
            self._children = await self._closing.enter_async_context(Children(settings.logs, leftovers, (lock,)))
            fds = (gateway.fileno(), pushes.fileno())
            serve = await self._child(self._serve(fds))
        storage_port = ports.free(wanted, "storage")
        firestore = choose(settings)
        await self._ready_or_failed(
            self._emulators_ready(firestore),
            self._storage_ready(storage_port),
            self._firestore_ready(firestore),
        )
        self.environment["STORAGE_EMULATOR_HOST"] = f"http://{HOST}:{storage_port}"
        home.keep_ticket_key(settings.ticket_key)
        await self._ready_or_failed(self._serve_ready(serve))
        home.write_env(settings.env_file, self.environment)
        self.ready_s = time.monotonic() - began
