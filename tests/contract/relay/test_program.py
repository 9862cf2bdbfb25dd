"""The relay as the program that a deployment starts, and by uvicorn's own command line."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from shared.tickets import new_private_key
from shared.websocket_server import SERVER
from tests.contract.relay.rig import SOON_S, ending

SECRET = "what-stood-in-the-url"
SETTINGS = {
    "GOOGLE_CLOUD_PROJECT": "p",
    "ONMEMOS_LOCATION": "us-central1",
    "ONMEMOS_IMAGE": "registry/workspace-{template}:1",
    "ONMEMOS_FUNCTION_URL": "https://{function}.example",
    "ONMEMOS_TICKET_KEY": new_private_key(),
    "ONMEMOS_TASK_ACCOUNT": "tasks@p.iam.gserviceaccount.com",
    "FIRESTORE_EMULATOR_HOST": "firestore.invalid:1",  # nobody who is not let in is looked up there
}


@contextmanager
def program(**changes: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """It, and where it listens."""
    options = [
        f"--{name.replace('_', '-')}={str(value).lower() if value is False else value}"
        for name, value in SERVER.items()
    ]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "functions.relay:app", f"--fd={number}", *options],
            cwd=Path(__file__).parents[3],
            env={"PATH": os.environ["PATH"], **SETTINGS, **changes},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            pass_fds=[number],
        )
        try:
            yield process, f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.kill()
            process.wait()


async def test_it_serves_and_logs_no_url(client: aiohttp.ClientSession) -> None:
    with program() as (process, address):
        async with client.ws_connect(f"ws://{address}/v1/sessions/ws-a-b-1/shell?ticket={SECRET}") as there:
            assert (await ending(there))[1] == 4401
        async with client.get(f"http://{address}/v1/sessions/ws-a-b-1/agent/x?ticket={SECRET}") as answer:
            assert answer.status == 401
        process.terminate()
        _, said = process.communicate(timeout=SOON_S)
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [(line["message"], line.get("close_code"), line.get("status")) for line in lines] == [
        ("connection ended", 4401, None),
        ("request served", None, 401),
    ]
    assert SECRET not in said


async def test_the_module_is_a_program_that_listens_on_port(client: aiohttp.ClientSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "functions.relay"),
        cwd=Path(__file__).parents[3],
        env={"PATH": os.environ["PATH"], **SETTINGS, "PORT": str(port)},
    )
    try:
        async with asyncio.timeout(SOON_S):
            assert await first_status(client, port) == 401
            process.terminate()
            assert await process.wait() in {0, -signal.SIGTERM}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def first_status(client: aiohttp.ClientSession, port: int) -> int:
    """Of its first answer, once it listens."""
    while True:
        try:
            async with client.get(f"http://127.0.0.1:{port}/v1/sessions/ws-a-b-1/agent/x?ticket={SECRET}") as answer:
                return answer.status
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("name", "value"), [("ONMEMOS_TICKET_KEY", ""), ("PORT", "http")])
def test_the_module_tells_a_wrong_setting_in_one_line(name: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "functions.relay"],
        cwd=Path(__file__).parents[3],
        env={"PATH": os.environ["PATH"], **SETTINGS, name: value},
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"relay: {name}: ")


@pytest.mark.parametrize("missing", ["ONMEMOS_TICKET_KEY", "GOOGLE_CLOUD_PROJECT"])
def test_a_missing_setting_is_told_at_the_start(missing: str) -> None:
    with program(**{missing: ""}) as (process, _):
        _, said = process.communicate(timeout=SOON_S)
    assert process.returncode != 0
    assert missing in said
