"""Both Firestores, started once for each pytest process; every test has a project of its own."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import grpc.aio
import pytest
import pytest_asyncio
from google.cloud import firestore

from infra.emulators.firestore import FirestoreEmulator
from infra.emulators.firestore_official import find_official

OWNER = [("authorization", "Bearer owner")]  # what the official emulator wants for some bare calls
MAX_MESSAGE_BYTES = 16 * 2**20


@asynccontextmanager
async def embedded_server(path: Path, port: int = 0) -> AsyncIterator[str]:
    """The embedded emulator on a port; gives its address."""
    async with FirestoreEmulator(path) as emulator:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
        server.add_generic_rpc_handlers(emulator.handlers())
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        try:
            yield f"127.0.0.1:{bound}"
        finally:
            await server.stop(grace=0)


def connect(address: str, project: str) -> firestore.AsyncClient:
    """The official client, pointed at an address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "FIRESTORE_EMULATOR_HOST", address)
        return firestore.AsyncClient(project=project)


def connect_sync(address: str, project: str) -> firestore.Client:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "FIRESTORE_EMULATOR_HOST", address)
        return firestore.Client(project=project)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with embedded_server(tmp_path_factory.mktemp("firestore") / "firestore.sqlite") as address:
        yield address


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def official_address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    official = find_official()
    if official is None:
        pytest.skip("no official Firestore emulator or no Java on this machine")
    async with official.run(log_path=tmp_path_factory.mktemp("official") / "firestore.log") as address:
        yield address


@pytest.fixture(params=["embedded", "official"])
def address(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_address")
    return found


@pytest.fixture
def project() -> str:
    return f"t-{uuid4().hex}"


@pytest.fixture
def client(address: str, project: str) -> firestore.AsyncClient:
    return connect(address, project)


@pytest.fixture
def another_client(address: str, project: str) -> Callable[[], firestore.AsyncClient]:
    """More clients of the same database, each with its own connection."""
    return lambda: connect(address, project)
