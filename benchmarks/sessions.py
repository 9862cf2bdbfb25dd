"""How long a session takes to its first command, and a command through gateway and function, on a stack of its own."""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

from benchmarks import suspension
from benchmarks.agent import CLIENTS, Connection
from infra.local.settings import ANY_PORTS, Settings
from infra.local.stack import Stack
from sdk.python import AsyncOnMemOSClient

COLD_SESSIONS = {"cloud_run": 20, "gke": 10, "workstations": 10}
ONE_CLIENT_CALLS = 300
SDK_CALLS = 100
MANY_CLIENTS_S = 2.0
WARM_UP_CALLS = 200  # Google's Firestore runs on a Java machine, whose first calls are interpreted
COMMAND = json.dumps({"type": "command", "command": "echo hi"})
SPEC = {"template": "python", "namespace": "bench", "user": "bench"}


async def measure(settings: Settings) -> dict[str, float]:
    """ready_s; <provider>_p10_ms, _p50_, _p90_, _max_; gateway_p50_ms, _p90_ms, _rps (of 16 clients).

    sdk_direct_p50_ms, sdk_functions_p50_ms, shell_direct_p50_ms, shell_relay_p50_ms; what benchmarks.suspension gives.
    """
    with tempfile.TemporaryDirectory(prefix="onmemos-bench-") as home:
        own = replace(settings, home=Path(home), ports=ANY_PORTS)
        async with Stack(own) as stack, AsyncOnMemOSClient(stack.base_url, stack.api_key) as client:
            session = await client.create_session(SPEC)
            connections = [await _connection(stack, session["id"]) for _ in range(CLIENTS)]
            calls = [connection.call for connection in connections]
            one = await _latencies(calls[0], ONE_CLIENT_CALLS)
            rps = await _rate(calls)
            ways = {"direct": client, "functions": AsyncOnMemOSClient(stack.base_url, stack.api_key, direct=False)}
            sdk = {way: await _by_sdk(one, session["id"]) for way, one in ways.items()}
            await ways["functions"].close()
            shells = await _by_shell(client, stack, session["id"])
            for connection in connections:
                connection.close()
            await client.delete_session(session["id"])
            suspensions = await suspension.measure(client)
            # Last, because the teardown of what it leaves goes on beside whatever comes next.
            cold: dict[str, float] = {}
            for provider, count in COLD_SESSIONS.items():
                cold |= _spread(provider, [await _cold(client, provider, number) for number in range(count)])
    deciles = quantiles(one, n=10)
    return {
        "ready_s": stack.ready_s,
        **cold,
        **suspensions,
        "gateway_p50_ms": median(one),
        "gateway_p90_ms": deciles[8],
        "gateway_rps": rps,
        **{f"sdk_{way}_p50_ms": value for way, value in sdk.items()},
        **{f"shell_{way}_p50_ms": value for way, value in shells.items()},
    }


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    deciles = quantiles(values, n=10)
    return {
        f"{name}_p10_ms": deciles[0],
        f"{name}_p50_ms": median(values),
        f"{name}_p90_ms": deciles[8],
        f"{name}_max_ms": max(values),
    }


async def _cold(client: AsyncOnMemOSClient, provider: str, number: int) -> float:
    """From asking for a session to the end of its first command; the session is deleted afterwards."""
    began = time.perf_counter()
    session = await client.create_session(SPEC, provider=provider, user=f"bench-{number}")
    await client.execute_session(session["id"], "true", check=True)
    took_ms = (time.perf_counter() - began) * 1000
    await client.delete_session(session["id"])
    return took_ms


async def _by_sdk(client: AsyncOnMemOSClient, session_id: str) -> float:
    return median(await _latencies(lambda: client.execute_session(session_id, "echo hi"), SDK_CALLS))


async def _by_shell(client: AsyncOnMemOSClient, stack: Stack, session_id: str) -> dict[str, float]:
    """`echo hi` as a command of one shell, over the workspace's own WebSocket and over the relay's."""
    connection = await client.connect_session(session_id)
    relay = f"ws{stack.base_url.removeprefix('http')}/v1/sessions/{session_id}/shell"
    found = {}
    for way, url, headers in (
        ("direct", str(connection["websocket"]), {"Authorization": f"Bearer {connection['ticket']}"}),
        ("relay", relay, {"X-API-Key": stack.api_key}),
    ):
        async with connect(url, additional_headers=headers) as shell:
            await shell.recv()

            async def run(shell: ClientConnection = shell) -> None:
                await shell.send(COMMAND)
                await shell.recv()

            found[way] = median(await _latencies(run, SDK_CALLS))
    return found


async def _connection(stack: Stack, session_id: str) -> Connection:
    """A kept connection to the gateway whose `call` runs `echo hi`."""
    body = json.dumps({"command": "echo hi"}).encode()
    head = (
        f"POST /v1/sessions/{session_id}/execute HTTP/1.1\r\nhost: bench\r\nx-api-key: {stack.api_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    address = urlsplit(stack.base_url)
    return Connection(*await asyncio.open_connection(address.hostname, address.port), head.encode() + body)


async def _latencies(call: Callable[[], Awaitable[object]], count: int) -> list[float]:
    for _ in range(WARM_UP_CALLS):
        await call()
    latencies = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        latencies.append((time.perf_counter() - began) * 1000)
    return latencies


async def _rate(calls: Sequence[Callable[[], Awaitable[None]]]) -> float:
    """Calls a second of all the clients together."""
    began = time.perf_counter()

    async def repeat(call: Callable[[], Awaitable[None]]) -> int:
        count = 0
        while time.perf_counter() < began + MANY_CLIENTS_S:
            await call()
            count += 1
        return count

    counts = await asyncio.gather(*map(repeat, calls))
    return sum(counts) / (time.perf_counter() - began)
