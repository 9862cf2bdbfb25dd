"""The emulators' process with real sandboxes: started, asked and ended as the local stack does it."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from google.cloud import run_v2
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 20.0
ENDS_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Folders:
    """Of one stack; `sockets` is short, for a Unix socket's path has 107 bytes at most."""

    state: Path
    sockets: Path
    buckets: Path


@dataclass(frozen=True, slots=True)
class Running:
    process: Process
    grpc: str
    http: str
    folders: Folders


async def start(folders: Folders, *more: str, **environment: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "infra.emulators",
        *("--state", str(folders.state), "--sockets", str(folders.sockets), "--buckets", str(folders.buckets)),
        *more,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


async def ready(process: Process) -> dict[str, str]:
    """The line that the process prints when it serves; fails with its errors if it ends instead."""
    assert process.stdout
    async with asyncio.timeout(READY_WITHIN_S):
        line = await process.stdout.readline()
        if not line:
            assert process.stderr
            raise AssertionError((await process.stderr.read()).decode())
    answer: dict[str, str] = json.loads(line)
    return answer


async def end(process: Process) -> tuple[int, str]:
    """Close its standard input; its exit code and what it wrote to stderr."""
    assert process.stdin
    process.stdin.close()
    return await ended(process)


async def ended(process: Process) -> tuple[int, str]:
    try:
        async with asyncio.timeout(ENDS_WITHIN_S):
            _, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode is not None
    return process.returncode, errors.decode()


@asynccontextmanager
async def emulators(folders: Folders, *more: str) -> AsyncIterator[Running]:
    process = await start(folders, *more)
    try:
        addresses = await ready(process)
        yield Running(process, addresses["grpc"], addresses["http"], folders)
    finally:
        if process.returncode is None:
            code, errors = await end(process)
            assert code == 0, errors


@asynccontextmanager
async def services_client(address: str) -> AsyncIterator[run_v2.ServicesAsyncClient]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel))
