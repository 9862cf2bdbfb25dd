"""Who may open a WebSocket, with which ticket, and what becomes of it; and how long the workspace has been idle."""

import asyncio
import json
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.contract.agent.rig import SOON_S, Agent, alive, running, ticket, until

PATHS = ["/v1/shell", "/v1/terminal"]
UNSHARE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def _fresh(**changes: Any) -> str:
    """A ticket that no other test has spent."""
    return ticket(jti=secrets.token_hex(8), **changes)


async def _closed(agent: Agent, path: str, headers: dict[str, str]) -> tuple[int | None, str | None]:
    """The close of a connection that is not let in."""
    async with agent.websocket(path, headers) as connection:
        async with asyncio.timeout(SOON_S):
            await connection.wait_closed()
        return connection.close_code, connection.close_reason


async def _welcomed(agent: Agent, path: str, headers: dict[str, str]) -> bool:
    async with agent.websocket(path, headers) as connection, asyncio.timeout(SOON_S):
        return b'"welcome"' in (await connection.recv(decode=False))


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_ticket_it_is_closed_with_4401(agent: Agent, path: str) -> None:
    code, reason = await _closed(agent, path, {})
    assert code == 4401
    assert "ticket" in (reason or "")


@pytest.mark.parametrize("path", PATHS)
async def test_a_bad_ticket_is_closed_with_4401_wherever_it_is(agent: Agent, path: str) -> None:
    for bad in (ticket(aud="ws-another"), ticket(exp=int(time.time()) - 30), "nonsense", ticket(kid="é" * 200)):
        for headers, query in (
            ({"Authorization": f"Bearer {bad}"}, ""),
            ({"X-OnMemOS-Ticket": bad}, ""),
            ({}, f"?ticket={bad}"),
        ):
            code, reason = await _closed(agent, path + query, headers)
            assert code == 4401
            assert reason


async def test_a_ticket_in_a_header_works_again_and_again(agent: Agent) -> None:
    token = _fresh()
    for headers in ({"Authorization": f"Bearer {token}"}, {"X-OnMemOS-Ticket": token}) * 2:
        assert await _welcomed(agent, "/v1/shell", headers)


async def test_a_ticket_in_the_url_works_once_and_then_nowhere(agent: Agent) -> None:
    token = _fresh()
    assert await _welcomed(agent, "/v1/shell", {"X-OnMemOS-Ticket": token})
    assert await _welcomed(agent, f"/v1/shell?ticket={token}", {})
    for path, headers in (
        (f"/v1/shell?ticket={token}", {}),
        (f"/v1/terminal?ticket={token}", {}),
        ("/v1/shell", {"X-OnMemOS-Ticket": token}),
    ):
        code, reason = await _closed(agent, path, headers)
        assert code == 4401
        assert "once" in (reason or "")
    async with agent.client() as client:
        refused = await client.http.post("/v1/execute", json={"command": "true"}, headers={"X-OnMemOS-Ticket": token})
        assert (refused.status_code, refused.json()["code"]) == (401, "bad_ticket")


async def test_a_ticket_in_the_url_from_before_the_agent_is_refused_and_in_a_header_taken(agent: Agent) -> None:
    token = _fresh(iat=int(time.time()) - 3000)
    code, reason = await _closed(agent, f"/v1/shell?ticket={token}", {})
    assert code == 4401
    assert "older" in (reason or "")
    assert await _welcomed(agent, "/v1/shell", {"X-OnMemOS-Ticket": token})


async def test_our_own_header_wins_and_the_url_comes_before_authorization(agent: Agent) -> None:
    unspent = _fresh()
    assert await _welcomed(agent, f"/v1/shell?ticket={unspent}", {"X-OnMemOS-Ticket": ticket()})
    assert await _welcomed(agent, f"/v1/shell?ticket={unspent}", {"Authorization": "Bearer a-token-of-google"})


async def test_the_url_opens_no_http(agent: Agent) -> None:
    async with agent.client() as client:
        refused = await client.http.post(f"/v1/execute?ticket={_fresh()}", json={"command": "true"})
        assert refused.status_code == 401


async def test_an_unknown_path_is_closed_with_4404(agent: Agent) -> None:
    assert (await _closed(agent, "/v1/nowhere", {"X-OnMemOS-Ticket": ticket()}))[0] == 4404


async def test_every_handshake_carries_the_boot_id(agent: Agent) -> None:
    async with agent.client() as client:
        boot_id = (await client.http.get("/health")).json()["boot_id"]
    async with agent.websocket("/v1/shell") as connection:
        assert connection.response is not None
        assert connection.response.headers["X-Boot-Id"] == boot_id
        assert json.loads(await connection.recv())["boot_id"] == boot_id


async def test_a_frame_of_a_mebibyte_is_taken_and_a_larger_one_closes(agent: Agent) -> None:
    async with agent.shell() as shell:
        await shell.connection.send(" " * 1_048_576)
        await shell.next("error")
        with suppress(ConnectionClosed):
            await shell.connection.send(" " * 1_048_577)
        assert await shell.closed() == 1009


async def test_a_flood_of_pings_that_nobody_hears_the_answer_of_costs_no_memory(tmp_path: Path) -> None:
    masked_ping = b"\x89\xfd" + bytes(4) + b"p" * 125
    with running(tmp_path) as agent:
        async with agent.websocket("/v1/terminal") as connection:
            connection.transport.pause_reading()
            await connection.send(b"touch up; yes\n")
            await until((tmp_path / "up").exists)
            async with agent.client() as client:
                await client.run("sleep 0.2")
            before = agent.resident_mb()
            for _ in range(60):
                connection.transport.write(masked_ping * 1000)
            await until(lambda: connection.transport.get_write_buffer_size() == 0)
            assert agent.peak_mb() - before < 4
            connection.transport.abort()


@pytest.mark.parametrize("path", PATHS)
async def test_a_stop_closes_with_1012_and_ends_what_runs(tmp_path: Path, path: str) -> None:
    with running(tmp_path) as agent:
        async with agent.websocket(path) as connection:
            line = f"sh -c 'echo $$ > {tmp_path}/pid; sleep 60; :'"
            if path == "/v1/shell":
                await connection.send(json.dumps({"type": "command", "command": line}))
            else:
                await connection.send(f"{line}\n".encode())
            await until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
            agent.process.terminate()
            async with asyncio.timeout(SOON_S):
                await connection.wait_closed()
            assert connection.close_code == 1012
        assert await asyncio.to_thread(agent.process.wait, 10) == 0
        assert not alive(int((tmp_path / "pid").read_text()))


async def test_a_client_that_reads_nothing_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        async with agent.websocket("/v1/terminal") as connection:
            await connection.send(b"touch up; yes\n")
            connection.transport.pause_reading()
            await until((tmp_path / "up").exists)
            async with agent.client() as client:
                await client.run("sleep 0.2")
            agent.process.terminate()
            assert await asyncio.to_thread(agent.process.wait, 10) == 0
            connection.transport.abort()


async def test_an_agent_with_no_connection_is_as_small_as_it_was_without_them(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        async with agent.client() as client:
            await client.run("true")
            assert agent.resident_mb() < (40 if sys.version_info < (3, 13) else 42)  # the interpreter itself has grown
        async with agent.shell() as shell:
            await shell.run("true")
            assert agent.resident_mb() < 45


def _unshares() -> bool:
    if shutil.which(UNSHARE[0]) is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _unshares(), reason="needs user and pid namespaces: elsewhere others' processes are seen, too")
async def test_idle_is_without_command_connection_and_process(tmp_path: Path) -> None:
    with running(tmp_path, prefix=(*UNSHARE, sys.executable, "-m", "agent")) as agent:
        async with agent.client() as client:

            async def idle_s() -> float:
                return float((await client.http.get("/health")).json()["idle_s"])

            async def rises() -> None:
                async with asyncio.timeout(SOON_S):
                    while True:
                        if await idle_s() > 0:
                            return
                        await asyncio.sleep(0.05)

            await rises()
            command = asyncio.create_task(client.run("touch up; sleep 0.5"))
            await until((tmp_path / "up").exists)
            assert await idle_s() == 0
            await command
            await rises()
            await client.http.post("/v1/execute", json={"command": "true"})
            async with agent.websocket("/v1/shell", {}) as refused:
                await refused.wait_closed()
            assert await idle_s() > 0
            async with agent.shell():
                assert await idle_s() == 0
            await rises()
            await client.run("sleep 60 >/dev/null 2>&1 & echo $! > pid")
            assert await idle_s() == 0
            await client.run("kill $(cat pid)")
            await rises()


async def test_a_text_message_to_a_connection_that_the_agent_closed_is_no_error(agent: Agent) -> None:
    async with agent.shell() as shell:
        await shell.send("command", command="exit 0")
        for _ in range(5):
            await shell.send("ping")
        assert await shell.closed() == 1000
    async with agent.shell() as shell:
        assert (await shell.run("echo next"))["stdout"] == "next\n"
