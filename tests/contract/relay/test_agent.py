"""The whole way: a client, the relay, the workspace's own URL in the gateway, and a real agent's shell."""

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest

from functions.relay import app as relay_app
from infra.local.calls import Functions
from infra.local.gateway import Gateway
from infra.local.workspaces import Workspaces
from tests.contract.agent.rig import running
from tests.contract.relay.rig import KEY, SESSION, SOON_S, House, ending, house, serving

Client = aiohttp.ClientSession
SERVICE = f"onmemos-{SESSION}"
MINE = {"X-API-Key": KEY}


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[House]:
    """The relay as the gateway carries it, before a real agent."""
    with TemporaryDirectory(prefix="om-", dir="/tmp") as folder:
        sockets = Path(folder)
        async with (
            Workspaces(sockets) as workspaces,
            serving(Gateway([], Functions({}, {}), workspaces, relay_app)) as gateway,
            house(f"{gateway}/run/{SERVICE}") as made,
        ):
            environment = {"WORKSPACE_ID": SESSION, "ONMEMOS_TICKET_KEYS": made.tickets.public_keys()}
            with running(tmp_path, environment) as agent:
                (sockets / SERVICE).symlink_to(agent.socket.parent)
                made.url = gateway
                yield made


async def say(socket: aiohttp.ClientWebSocketResponse, command: str) -> Any:
    await socket.send_json({"type": "command", "command": command})
    return await socket.receive_json(timeout=SOON_S)


@pytest.mark.parametrize("path", [f"/v1/sessions/{SESSION}/shell", f"/v1/cloudrun/workspaces/{SESSION}/shell"])
async def test_a_shell_keeps_its_state_and_connections_are_independent(relay: House, client: Client, path: str) -> None:
    async with (
        client.ws_connect(relay.ws(f"{path}?api_key={KEY}")) as one,
        client.ws_connect(relay.ws(path), headers=MINE) as two,
    ):
        for socket in (one, two):
            assert (await socket.receive_json(timeout=SOON_S))["type"] == "welcome"
        await say(one, "cd /tmp; export A=1")
        assert (await say(one, "echo $PWD $A; false"))["stdout"] == "/tmp 1\n"
        assert (await say(two, "echo [$A]"))["stdout"] == "[]\n"
        await one.send_str("no frame")
        assert (await one.receive_json(timeout=SOON_S))["type"] == "error"
        result = await say(one, "exit 3")
        said, code, _ = await ending(one)
        assert (result["returncode"], said[0]["status"], code) == (3, "exited", 1000)
        assert (await say(two, "echo alive"))["stdout"] == "alive\n"


async def test_a_ticket_in_the_url_opens_once(relay: House, client: Client) -> None:
    ticket = relay.ticket()
    async with client.ws_connect(relay.ws() + f"?ticket={ticket}") as socket:
        assert (await socket.receive_json(timeout=SOON_S))["type"] == "welcome"
    async with client.ws_connect(relay.ws() + f"?ticket={ticket}") as socket:
        said, code, _ = await ending(socket)
    assert (said, code) == ([], 4401)


async def test_the_largest_output_passes(relay: House, client: Client) -> None:
    async with client.ws_connect(relay.ws(), headers=MINE, max_msg_size=1 << 20) as socket:
        await socket.receive_json(timeout=SOON_S)
        result = await say(socket, "head -c 1500000 /dev/zero | tr '\\0' x; head -c 9 /dev/zero | tr '\\0' y >&2")
    assert (result["stdout"], result["stderr"], result["truncated"]) == ("x" * 1_000_000, "y" * 9, True)


async def test_a_terminal_passes_bytes(relay: House, client: Client) -> None:
    async with client.ws_connect(relay.ws(f"/v1/sessions/{SESSION}/terminal?rows=24&cols=80"), headers=MINE) as socket:
        await socket.send_bytes(b"stty size; exit 4\n")
        said, code, _ = await ending(socket)
    assert b"24 80" in b"".join(one for one in said if isinstance(one, bytes))
    assert (said[-1], code) == ({"type": "exit", "returncode": 4}, 1000)


async def test_execute_passes_over_http_with_a_ticket_that_is_used_again(relay: House, client: Client) -> None:
    headers = {"Authorization": f"Bearer {relay.ticket()}"}
    for _ in range(2):
        url = relay.http_url("/v1/execute")
        async with client.post(url, json={"command": "echo $((6*7))"}, headers=headers) as answer:
            assert (await answer.json())["stdout"] == "42\n"
            assert answer.headers["x-boot-id"]
