"""A real agent process on a Unix socket, and a client that holds a ticket for it."""

import asyncio
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, unix_connect

AGENT_PARENT = Path(__file__).parents[3] / "infra" / "workspace"
SESSION = "ws-test-agent-1"
KEY = Ed25519PrivateKey.generate()
BOOT_LIMIT_S = 20.0
SOON_S = 10.0
# Among processes of its own, as in a container. What freezes has to be: it stops all that are new around it.
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
ALONE = (*UNSHARE, sys.executable, "-m", "agent")
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one reads every CA certificate, for each client


def jwk_set(key: Ed25519PrivateKey = KEY, kid: str = "k1") -> str:
    jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
    return json.dumps({"keys": [{**jwk, "kid": kid, "alg": "EdDSA", "use": "sig"}]})


def claims(**changes: Any) -> dict[str, Any]:
    """What the control plane puts into a ticket; a change to None leaves the claim out."""
    now = int(time.time())
    good = {"iss": "onmemos", "aud": SESSION, "sub": "test", "iat": now, "exp": now + 300, "jti": "j1"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def ticket(key: Ed25519PrivateKey = KEY, kid: str | None = "k1", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, "EdDSA", headers={"kid": kid} if kid else {})


def unshares() -> bool:
    """Whether this machine lets us have processes of our own."""
    if shutil.which(UNSHARE[0]) is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True, slots=True)
class Agent:
    """A running agent: `folder` is its work folder."""

    process: subprocess.Popen[bytes]
    socket: Path
    folder: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def resident_mb(self) -> float:
        return self._memory_mb("VmRSS")

    def peak_mb(self) -> float:
        return self._memory_mb("VmHWM")

    def descriptors(self) -> list[str]:
        return [entry.name for entry in Path(f"/proc/{self.pid}/fd").iterdir()]

    def _memory_mb(self, name: str) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) / 1024

    @asynccontextmanager
    async def client(self) -> AsyncIterator["Client"]:
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket), verify=NO_TLS, limits=httpx.Limits())
        async with httpx.AsyncClient(transport=transport, base_url="http://agent", timeout=30) as http:
            yield Client(http)

    @asynccontextmanager
    async def websocket(
        self, path: str, headers: Mapping[str, str] | None = None, **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """A WebSocket; with a good ticket, unless other headers are given."""
        given = {"X-OnMemOS-Ticket": ticket()} if headers is None else headers
        async with unix_connect(
            str(self.socket),
            uri=f"ws://agent{path}",
            additional_headers=given,
            compression=None,
            max_size=None,
            proxy=None,
            **options,
        ) as connection:
            yield connection

    @asynccontextmanager
    async def shell(self, **options: Any) -> AsyncIterator["Shell"]:
        """A shell that has said welcome."""
        async with self.websocket("/v1/shell", **options) as connection:
            yield Shell(connection, json.loads(await connection.recv()))


@dataclass(frozen=True, slots=True)
class Shell:
    """The client's side of /v1/shell."""

    connection: ClientConnection
    welcome: dict[str, Any]

    async def send(self, kind: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def next(self, kind: str = "command_result") -> dict[str, Any]:
        """The next frame, which has to be of this kind."""
        async with asyncio.timeout(SOON_S):
            frame = json.loads(await self.connection.recv())
        assert frame["type"] == kind, frame
        assert isinstance(frame, dict)
        return frame

    async def run(self, command: str, **fields: Any) -> dict[str, Any]:
        await self.send("command", command=command, **fields)
        return await self.next()

    async def closed(self) -> int | None:
        """The code with which the agent closes, once it has."""
        async with asyncio.timeout(SOON_S):
            await self.connection.wait_closed()
        return self.connection.close_code


@dataclass(frozen=True, slots=True)
class Client:
    """Calls with a good ticket."""

    http: httpx.AsyncClient

    async def post(self, **fields: Any) -> httpx.Response:
        return await self.http.post("/v1/execute", json=fields, headers={"Authorization": f"Bearer {ticket()}"})

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any operation of the agent."""
        headers = {"X-OnMemOS-Ticket": ticket(), **options.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **options)

    async def run(self, command: str | None = None, **fields: Any) -> dict[str, Any]:
        """The outcome; anything but 200 fails the test."""
        response = await self.post(**fields if command is None else {"command": command, **fields})
        assert response.status_code == 200, response.text
        outcome = response.json()
        assert isinstance(outcome, dict)
        return outcome


@contextmanager
def running(
    folder: Path, environment: Mapping[str, str] | None = None, *, prefix: tuple[str, ...] = ()
) -> Iterator[Agent]:
    """An agent that answers /health; `prefix` is what to start it with instead of `python -m agent`."""
    with tempfile.TemporaryDirectory(prefix="agent-") as short:  # a socket's path has at most 107 bytes
        Path(short).chmod(0o777)  # an agent may be another user
        socket = Path(short) / "agent.sock"
        process = start({**settings(folder, socket), **(environment or {})}, prefix=prefix)
        try:
            wait_until_healthy(process, socket)
            yield Agent(process, socket, folder)
        finally:
            process.kill()
            process.wait()


def settings(folder: Path, socket: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "WORKSPACE_ID": SESSION,
        "NAMESPACE": "test",
        "USER": "developer",
        "BUCKET_NAME": "onmemos-test-developer",
        "ONMEMOS_AGENT_SOCKET": str(socket),
        "ONMEMOS_AGENT_WORKDIR": str(folder),
        "ONMEMOS_TICKET_KEYS": jwk_set(),
    }


def start(environment: Mapping[str, str], *, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        prefix or (sys.executable, "-m", "agent"), cwd=AGENT_PARENT, env=environment, stderr=subprocess.PIPE
    )


def wait_until_healthy(process: subprocess.Popen[bytes], socket: Path) -> None:
    deadline = time.monotonic() + BOOT_LIMIT_S
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket), verify=NO_TLS), base_url="http://agent") as http:
        while True:
            try:
                if not socket.exists():  # a request to nobody costs more than a look
                    raise httpx.ConnectError("there is no socket yet")
                http.get("/health")
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    stderr = process.stderr.read() if process.stderr and process.poll() is not None else b""
                    raise AssertionError(f"the agent did not start: {stderr.decode()}") from None
                time.sleep(0.005)
            else:
                return


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def until(true: Callable[[], bool]) -> None:
    """Waits for what has no event: another process's doing."""
    async with asyncio.timeout(SOON_S):
        while True:
            if true():
                return
            await asyncio.sleep(0.01)
