"""WebSockets through the relay: who is let in, what reaches the agent, and how connections end."""

import asyncio
import json
import logging
from typing import Any

import aiohttp
import pytest

from shared.errors import ProviderUnavailable
from shared.models import State
from shared.providers.base import Condition, Health
from shared.wiring import utc_now
from tests.contract.agent.rig import until
from tests.contract.relay.rig import KEY, KEYS_KEY, OTHERS_KEY, SESSION, SOON_S, House, ending, nobody, watchful

Client = aiohttp.ClientSession
MINE = {"X-API-Key": KEY}
DELETED, RESTARTING = ({"type": "status", "status": status} for status in ("deleted", "restarting"))


async def closed(client: Client, url: str, **options: Any) -> tuple[list[Any], int | None, str]:
    async with client.ws_connect(url, **options) as socket:
        return await ending(socket)


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/sessions/{SESSION}/shell",
        f"/v1/cloudrun/workspaces/{SESSION}/shell",
        f"/v1/sessions/{SESSION}/terminal",
        f"/v1/sessions/{SESSION}/agent/v1/shell",
    ],
)
async def test_text_and_binary_pass_both_ways(relay: House, client: Client, path: str) -> None:
    async with client.ws_connect(relay.ws(f"{path}?rows=5"), headers=MINE) as socket:
        for text in ("", "a", "ü" * 200_000):
            await socket.send_str(text)
            assert await socket.receive_str(timeout=SOON_S) == text
        for data in (b"", b"\x00\xff" * 300_000):
            await socket.send_bytes(data)
            assert await socket.receive_bytes(timeout=SOON_S) == data
    [seen] = relay.agent.seen
    assert (seen["path"], seen["query"]) == ("/v1/terminal" if "terminal" in path else "/v1/shell", "rows=5")


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {"X-API-Key": KEY}),
        (f"api_key={KEY}", {}),
        (f"%61pi_key={KEY}&api_key=other&x=1", {}),
        (f"ticket=old&api_key={KEY}", {"Authorization": "Bearer googles", "Cookie": f"key={KEY}"}),
        ("", {"X-API-Key": KEY, "X-OnMemOS-Ticket": "old", "Referer": f"http://x/?api_key={KEY}"}),
    ],
)
async def test_a_key_opens_and_never_reaches_the_agent(
    relay: House, client: Client, query: str, headers: dict[str, str]
) -> None:
    async with client.ws_connect(relay.ws() + f"?{query}", headers=headers) as socket:
        await socket.send_str("hi")
        assert await socket.receive_str(timeout=SOON_S) == "hi"
    [seen] = relay.agent.seen
    assert KEY not in json.dumps(seen)
    assert seen["query"] == ("x=1" if "x=1" in query else "")
    assert not {"authorization", "cookie", "referer", "x-api-key"} & set(seen)
    relay.tickets.verify(seen["x-onmemos-ticket"], SESSION)


@pytest.mark.parametrize("name", ["X-OnMemOS-Ticket", "Authorization"])
async def test_a_ticket_in_a_header_is_passed_on_in_one(relay: House, client: Client, name: str) -> None:
    ticket = relay.ticket()
    value = f"Bearer {ticket}" if name == "Authorization" else ticket
    async with client.ws_connect(relay.ws() + "?ticket=another", headers={name: value}) as socket:
        await socket.send_str("hi")
        await socket.receive_str(timeout=SOON_S)
    assert (relay.agent.seen[0]["x-onmemos-ticket"], relay.agent.seen[0]["query"]) == (ticket, "")


async def test_a_ticket_in_the_url_is_passed_on_there_so_that_the_agent_takes_it_once(
    relay: House, client: Client
) -> None:
    ticket = relay.ticket()
    async with client.ws_connect(relay.ws() + f"?a=1%20&ticket={ticket}&b") as socket:
        await socket.send_str("hi")
        await socket.receive_str(timeout=SOON_S)
    [seen] = relay.agent.seen
    assert seen["query"] == f"a=1%20&b&ticket={ticket}"
    assert "x-onmemos-ticket" not in seen


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {}),
        ("api_key=&ticket=", {"Authorization": "Basic eDp5"}),
        ("api_key=wrong", {}),
        ("", {"X-API-Key": "wrong"}),
        ("ticket=wrong", {}),
        ("", {"Authorization": "Bearer wrong"}),
    ],
)
async def test_missing_and_wrong_credentials_are_closed_with_4401(
    relay: House, client: Client, query: str, headers: dict[str, str]
) -> None:
    said, code, reason = await closed(client, relay.ws() + f"?{query}", headers=headers)
    assert (said, code) == ([], 4401)
    assert "wrong" not in reason
    assert reason
    assert not relay.agent.seen


async def test_the_ticket_of_another_session_opens_nothing(relay: House, client: Client) -> None:
    other = relay.ticket("ws-test-developer-2")
    assert (await closed(client, relay.ws() + f"?ticket={other}"))[1] == 4401


async def test_a_key_without_the_scope_is_closed_with_4403(relay: House, client: Client) -> None:
    assert (await closed(client, relay.ws(), headers={"X-API-Key": KEYS_KEY}))[1] == 4403


async def test_an_unknown_a_foreign_and_a_deleted_session_are_4404(relay: House, client: Client) -> None:
    unknown = relay.ws("/v1/sessions/ws-nobody-1/shell")
    assert await closed(client, unknown, headers=MINE) == ([], 4404, "Session not found")
    assert await closed(client, relay.ws(), headers={"X-API-Key": OTHERS_KEY}) == ([], 4404, "Session not found")
    ticket = relay.ticket()
    relay.delete()
    assert (await closed(client, relay.ws() + f"?ticket={ticket}"))[1] == 4404


async def test_a_failed_session_is_4409_and_says_why(relay: House, client: Client) -> None:
    relay.session("http://nowhere", state=State.FAILED, error="no room")
    _, code, reason = await closed(client, relay.ws(), headers=MINE)
    assert (code, "no room" in reason) == (4409, True)


@pytest.mark.parametrize(("asked", "got"), [(1000, 1000), (1011, 1011), (3000, 3000), (4401, 4401)])
async def test_the_agents_close_codes_and_reasons_reach_the_client(
    relay: House, client: Client, asked: int, got: int
) -> None:
    async with client.ws_connect(relay.ws(), headers=MINE) as socket:
        await socket.send_str(f"close {asked}")
        assert await ending(socket) == ([], got, "as you wish")


@pytest.mark.parametrize("code", [1000, 1001, 4000])
async def test_the_clients_close_code_reaches_the_agent(relay: House, client: Client, code: int) -> None:
    async with client.ws_connect(relay.ws(), headers=MINE) as socket:
        await socket.send_str("hi")
        await socket.receive_str(timeout=SOON_S)
        await socket.close(code=code)
    await until(lambda: bool(relay.agent.left))
    assert relay.agent.left == [code]


async def test_a_client_that_vanishes_takes_its_connection_to_the_agent_with_it(relay: House, client: Client) -> None:
    socket = await client.ws_connect(relay.ws(), headers=MINE)
    await socket.send_str("hi")
    await socket.receive_str(timeout=SOON_S)
    assert socket._response.connection is not None
    assert socket._response.connection.transport is not None
    socket._response.connection.transport.abort()
    await until(lambda: bool(relay.agent.left))


async def test_two_connections_are_independent(relay: House, client: Client) -> None:
    async with (
        client.ws_connect(relay.ws(), headers=MINE) as one,
        client.ws_connect(relay.ws(), headers=MINE) as two,
    ):
        await one.send_str("deaf")
        await asyncio.wait_for(relay.agent.silent.wait(), SOON_S)
        await two.send_str("hears")
        assert await two.receive_str(timeout=SOON_S) == "hears"
        await two.send_str("close 1000")
        assert (await ending(two))[1] == 1000
        assert not one.closed


@pytest.mark.parametrize("end", ["close 1012", "close 1001", "drop"])
async def test_a_workspace_that_is_replaced_is_told_and_closed_with_1012(
    relay: House, client: Client, end: str
) -> None:
    relay.agents.silent.add(SESSION)
    async with client.ws_connect(relay.ws(), headers=MINE) as socket:
        await socket.send_str(end)
        said, code, _ = await ending(socket)
    assert (said, code) == ([RESTARTING], 1012)


@pytest.mark.parametrize("end", ["close 1012", "close 1000", "drop"])
async def test_the_agents_end_in_a_session_that_is_over_is_4410(relay: House, client: Client, end: str) -> None:
    async with client.ws_connect(relay.ws(), headers=MINE) as socket:
        await socket.send_str("hi")
        await socket.receive_str(timeout=SOON_S)
        relay.delete()
        await socket.send_str(end)
        said, code, _ = await ending(socket)
    assert (said, code) == ([DELETED], 4410)


async def test_a_session_that_ends_while_connected_is_told_and_closed_with_4410(relay: House, client: Client) -> None:
    async with watchful(relay) as url, client.ws_connect(url, headers=MINE) as socket:
        await socket.send_str("hi")
        assert await socket.receive_str(timeout=SOON_S) == "hi"
        relay.store.documents[SESSION] = relay.session("http://nowhere", state=State.DELETING)
        assert (await ending(socket))[:2] == ([DELETED], 4410)
        await until(lambda: bool(relay.agent.left))


async def test_a_session_whose_time_is_up_while_connected_is_over(relay: House, client: Client) -> None:
    async with watchful(relay) as url, client.ws_connect(url, headers=MINE) as socket:
        await socket.send_str("hi")
        assert await socket.receive_str(timeout=SOON_S) == "hi"
        relay.session("http://nowhere", expires_at=utc_now())
        assert (await ending(socket))[:2] == ([DELETED], 4410)


async def test_a_store_that_does_not_answer_ends_no_connection(
    relay: House, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = asyncio.Event()

    async def fail(_: str) -> Any:
        looked.set()
        raise ProviderUnavailable("no answer")

    async with watchful(relay) as url, client.ws_connect(url, headers=MINE) as socket:
        await socket.send_str("hi")
        assert await socket.receive_str(timeout=SOON_S) == "hi"
        monkeypatch.setattr(relay.store, "get", fail)
        await asyncio.wait_for(looked.wait(), SOON_S)
        looked.clear()
        await asyncio.wait_for(looked.wait(), SOON_S)
        await socket.send_str("still here")
        assert await socket.receive_str(timeout=SOON_S) == "still here"


async def test_an_agent_that_is_not_there_is_1012_and_the_state_is_looked_at_again(
    relay: House, client: Client
) -> None:
    relay.agents.silent.add(SESSION)
    with nobody() as address:
        relay.session(address)
        said, code, _ = await closed(client, relay.ws(), headers=MINE)
        assert (said, code) == ([RESTARTING], 1012)
        relay.provider.conditions[SESSION] = Condition(Health.GONE, "somebody deleted it")
        _, code, reason = await closed(client, relay.ws(), headers=MINE)
    assert (code, "somebody deleted it" in reason) == (4409, True)
    assert relay.store.documents[SESSION].state is State.FAILED


async def test_what_the_agent_refuses_or_would_send_elsewhere_is_closed_and_not_followed(
    relay: House, client: Client
) -> None:
    unknown = relay.ws(f"/v1/sessions/{SESSION}/agent/v1/unknown")
    assert (await closed(client, unknown, headers=MINE))[1] == 4403
    moved = relay.ws(f"/v1/sessions/{SESSION}/agent/moved")
    assert (await closed(client, moved, headers=MINE))[1] == 1014
    assert not relay.agent.seen


async def test_a_message_beyond_the_limit_is_closed_with_1009(relay: House, client: Client) -> None:
    async with client.ws_connect(relay.ws(), headers=MINE) as socket:
        await socket.send_bytes(bytes((1 << 20) + 1))
        _, code, _ = await ending(socket)
    assert code in (1009, 1006)  # 1006 where the reset overtakes the close frame
    await until(lambda: bool(relay.agent.left))


async def test_the_log_has_each_connections_end_and_no_secret(
    relay: House, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    ticket = relay.ticket()
    for query in (f"api_key={KEY}", f"ticket={ticket}"):
        async with client.ws_connect(relay.ws() + f"?{query}") as socket:
            await socket.send_str("a-shells-byte")
            await socket.receive_str(timeout=SOON_S)
            await socket.send_str("close 3001")
            await ending(socket)
    await until(lambda: len(_ends(caplog)) == 2)
    facts = vars(_ends(caplog)[0])
    assert (facts["function"], facts["close_code"], facts["session_id"]) == ("relay", 3001, SESSION)
    assert facts["latency_ms"] > 0
    logged = " ".join(f"{one.getMessage()} {vars(one)}" for one in caplog.records if one.name != "asyncio")
    assert not [secret for secret in (KEY, ticket, "a-shells-byte") if secret in logged]


def _ends(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [one for one in caplog.records if one.getMessage() == "connection ended"]
