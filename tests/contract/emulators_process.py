"""The emulators' process with real sandboxes: started, asked and ended as the local stack does it."""

import json
import os
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from google.cloud import run_v2
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 20.0
ENDS_WITHIN_S = 10.0

Process = subprocess.Popen[bytes]


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
    workstations: str


def start(folders: Folders, *more: str, **environment: str) -> Process:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "infra.emulators", "--state", str(folders.state)),
            *("--sockets", str(folders.sockets), "--buckets", str(folders.buckets), *more),
        ],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ready(process: Process) -> dict[str, str]:
    """The line that the process prints when it serves; fails with its errors if it ends instead."""
    assert process.stdout
    select.select([process.stdout], [], [], READY_WITHIN_S)
    line = process.stdout.readline()
    assert line, end(process)[1]
    answer: dict[str, str] = json.loads(line)
    return answer


def end(process: Process) -> tuple[int, str]:
    """Close its standard input; its exit code and what it wrote to stderr."""
    try:
        _, errors = process.communicate(timeout=ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, errors.decode()


@contextmanager
def emulators(folders: Folders, *more: str) -> Iterator[Running]:
    process = start(folders, *more)
    try:
        addresses = ready(process)
        yield Running(process, addresses["grpc"], addresses["http"], folders, addresses["workstations"])
    finally:
        code, errors = end(process)
    assert code == 0, errors


@asynccontextmanager
async def services_client(address: str) -> AsyncIterator[run_v2.ServicesAsyncClient]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel))
