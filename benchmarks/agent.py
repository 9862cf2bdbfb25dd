"""How fast and how large the workspace agent is, beside the floor: `sh -c 'echo hi'` by asyncio, in the same run.

`python -m benchmarks.agent` prints a table. Agent and client share this machine's cores.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median, quantiles

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

AGENT_PARENT = Path(__file__).parents[1] / "infra" / "workspace"
SESSION = "ws-bench-agent-1"
ONE_CLIENT_CALLS = 300
CLIENTS = 16
MANY_CLIENTS_S = 2.0
BOOTS = 7
BOOT_LIMIT_S = 10.0

Call = Callable[[], Awaitable[None]]


class Connection:
    """One kept-alive HTTP connection, as thin as a client can be, so that the agent is what is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        self._reader, self._writer, self._request = reader, writer, request

    @classmethod
    async def open(cls, socket: Path, request: bytes) -> "Connection":
        return cls(*await asyncio.open_unix_connection(str(socket)), request)

    async def call(self) -> None:
        """Raises RuntimeError when the answer is not a 200."""
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the agent answered {head[:20]!r} {body!r}; wanted 200")

    def close(self) -> None:
        self._writer.close()


async def measure() -> dict[str, float]:
    """p50_ms, p90_ms, rps (16 clients), the same with floor_ before, boot_ms, boot_best_ms, rss_mb, private_mb."""
    key = Ed25519PrivateKey.generate()
    with tempfile.TemporaryDirectory() as folder:
        boots = [await _boot_ms(Path(folder), key) for _ in range(BOOTS)]
        async with _agent(Path(folder), key) as (socket, pid):
            request = _execute_request(_ticket(key))
            connections = [await Connection.open(socket, request) for _ in range(CLIENTS)]
            calls = [connection.call for connection in connections]
            latencies = await _one_client(calls[0])
            floor_latencies = await _one_client(_floor)
            rps = await _many_clients(calls)
            floor_rps = await _many_clients([_floor] * CLIENTS)
            memory = _memory_mb(pid)
            for connection in connections:
                connection.close()
    return {
        **_percentiles("", latencies),
        **_percentiles("floor_", floor_latencies),
        "rps": rps,
        "floor_rps": floor_rps,
        "rss_mb": memory["VmRSS"],
        "private_mb": memory["RssAnon"],
        "boot_ms": median(boots),
        "boot_best_ms": min(boots),
    }


def table(figures: dict[str, float]) -> str:
    """The figures as the lines that `make bench` prints."""
    return "\n".join(
        (
            "`echo hi`                p50 ms   p90 ms   requests/s, 16 clients",
            f"agent, Unix socket      {figures['p50_ms']:7.2f}  {figures['p90_ms']:7.2f}  {figures['rps']:8.0f}",
            f"floor: asyncio sh -c    {figures['floor_p50_ms']:7.2f}  {figures['floor_p90_ms']:7.2f}"
            f"  {figures['floor_rps']:8.0f}",
            f"resident {figures['rss_mb']:.1f} MB (private {figures['private_mb']:.1f}), start to /health"
            f" {figures['boot_ms']:.0f} ms (best {figures['boot_best_ms']:.0f})",
        )
    )


async def _floor() -> None:
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "echo hi", stdout=asyncio.subprocess.PIPE)
    await process.communicate()


async def _one_client(call: Call) -> list[float]:
    for _ in range(20):
        await call()
    latencies = []
    for _ in range(ONE_CLIENT_CALLS):
        started = time.perf_counter()
        await call()
        latencies.append((time.perf_counter() - started) * 1000)
    return latencies


async def _many_clients(calls: Sequence[Call]) -> float:
    started = time.perf_counter()
    counts = await asyncio.gather(*(_count_calls(call, started + MANY_CLIENTS_S) for call in calls))
    return sum(counts) / (time.perf_counter() - started)


async def _count_calls(call: Call, until: float) -> int:
    count = 0
    while time.perf_counter() < until:
        await call()
        count += 1
    return count


def _percentiles(prefix: str, latencies: list[float]) -> dict[str, float]:
    return {f"{prefix}p50_ms": median(latencies), f"{prefix}p90_ms": quantiles(latencies, n=10)[8]}


def _memory_mb(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return {name: int(sizes[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon")}


async def _boot_ms(folder: Path, key: Ed25519PrivateKey) -> float:
    started = time.perf_counter()
    async with _agent(folder, key):
        return (time.perf_counter() - started) * 1000


@asynccontextmanager
async def _agent(folder: Path, key: Ed25519PrivateKey) -> AsyncIterator[tuple[Path, int]]:
    """An agent that answers /health: its socket and its pid."""
    socket = folder / "agent.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent",
        cwd=AGENT_PARENT,
        env=_environment(folder, socket, key),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(BOOT_LIMIT_S):
            await _healthy(socket)
        yield socket, process.pid
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _healthy(socket: Path) -> None:
    while True:
        try:
            connection = await Connection.open(socket, b"GET /health HTTP/1.1\r\nhost: agent\r\n\r\n")
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(0.001)
            continue
        await connection.call()
        connection.close()
        return


def _environment(folder: Path, socket: Path, key: Ed25519PrivateKey) -> dict[str, str]:
    jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "WORKSPACE_ID": SESSION,
        "ONMEMOS_AGENT_SOCKET": str(socket),
        "ONMEMOS_AGENT_WORKDIR": str(folder),
        "ONMEMOS_TICKET_KEYS": json.dumps({"keys": [{**jwk, "kid": "bench", "alg": "EdDSA", "use": "sig"}]}),
    }


def _ticket(key: Ed25519PrivateKey) -> str:
    now = int(time.time())
    claims = {"iss": "onmemos", "aud": SESSION, "sub": "bench", "iat": now, "exp": now + 600, "jti": "1"}
    return jwt.encode(claims, key, "EdDSA", headers={"kid": "bench"})


def _execute_request(ticket: str) -> bytes:
    body = json.dumps({"command": "echo hi"}).encode()
    head = f"POST /v1/execute HTTP/1.1\r\nhost: agent\r\nauthorization: Bearer {ticket}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


if __name__ == "__main__":
    print(table(asyncio.run(measure())))
