"""One stack for the tests of a worker, on free ports and in a home of its own."""

import asyncio
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from infra.local.settings import ANY_PORTS, Firestore, Settings
from infra.local.stack import Stack

Running = Callable[[Settings], AbstractContextManager[Stack]]


@contextmanager
def running_stack(settings: Settings) -> Iterator[Stack]:
    """A stack that is up, watched by an event loop in a thread; ended on leaving."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stack")
    thread.start()
    stack = Stack(settings)
    try:
        asyncio.run_coroutine_threadsafe(stack.__aenter__(), loop).result()
        try:
            yield stack
        finally:
            asyncio.run_coroutine_threadsafe(stack.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def settings_in(home: Path, environment: dict[str, str] | None = None) -> Settings:
    """Settings for a stack of a test's own: free ports, our own Firestore unless ONMEMOS_FIRESTORE says otherwise."""
    chosen = Settings.from_environment({"ONMEMOS_FIRESTORE": Firestore.EMBEDDED, **os.environ, **(environment or {})})
    return dataclasses.replace(chosen, home=home, ports=ANY_PORTS)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that is up: `base_url`, `api_key`, `home`, `environment` (what `<home>/env` holds)."""
    with running_stack(settings_in(tmp_path_factory.mktemp("home"))) as stack:
        yield stack
