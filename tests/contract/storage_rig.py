"""fake-gcs-server on a folder, with what stands in front of it: as the local stack runs them."""

import asyncio
import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Bucket, Client

from infra.emulators.buckets.front import Front
from infra.emulators.jwks import HttpServer
from infra.local import storage

READY_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Store:
    """`root` holds the buckets' folders; `url` is where clients ask, `client` one of them."""

    root: Path
    url: str
    client: Client

    def bucket(self, name: str) -> tuple[Bucket, Path]:
        """A new bucket and its folder."""
        return self.client.create_bucket(name), self.root / name


@contextmanager
def running_store(folder: Path) -> Iterator[Store]:
    root, uploads = folder / "buckets", folder / "uploads"
    root.mkdir()
    storage.sweep(root, uploads)
    listener = socket.create_server(("127.0.0.1", 0))
    front_port = listener.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program = storage.program(port, front_port, root, uploads, os.environ)
    url = f"http://127.0.0.1:{front_port}"
    with subprocess.Popen(program.argv, env=dict(program.environment)) as server:
        try:
            _until_listening(server, port)
            with _served(Front(root, f"http://127.0.0.1:{port}"), listener):
                options = {"api_endpoint": url}
                yield Store(root, url, Client("test", credentials=AnonymousCredentials(), client_options=options))
        finally:
            server.kill()


@contextmanager
def _served(front: Front, listener: socket.socket) -> Iterator[None]:
    """In a thread of its own: Google's client blocks."""
    loop, stop, up = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(front.close)
            await stack.enter_async_context(HttpServer(front, listener))
            up.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    up.wait(READY_WITHIN_S)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def _until_listening(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert server.poll() is None, "fake-gcs-server ended"
            assert time.monotonic() < deadline, "fake-gcs-server does not listen"
            time.sleep(0.02)
        else:
            return
