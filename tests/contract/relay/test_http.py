"""HTTP through the relay to whatever the session's agent answers."""

import asyncio
import logging
from typing import Any

import aiohttp
import pytest
import yarl

from shared.models import State
from tests.contract.agent.rig import until
from tests.contract.relay.rig import KEY, KEYS_KEY, OTHERS_KEY, SESSION, SOON_S, House, nobody

Client = aiohttp.ClientSession
MINE = {"X-API-Key": KEY}


async def ask(client: Client, method: str, url: str | yarl.URL, **options: Any) -> tuple[int, Any, Any]:
    async with client.request(method, url, allow_redirects=False, **{"headers": MINE, **options}) as answer:
        body = await answer.read()
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.status, answer.headers, await answer.json() if is_json else body


async def test_request_and_answer_pass_and_the_key_stays_here(relay: House, client: Client) -> None:
    url = relay.http_url(f"/echo?a=1%20&api_key={KEY}&a=%2F")
    headers = {"Cookie": f"k={KEY}", "Authorization": "Bearer googles", "X-Own": "mine"}
    status, answered, body = await ask(client, "PUT", yarl.URL(url, encoded=True), headers=headers, data=b"\x00water")
    assert (status, body, answered["x-own"]) == (207, b"\x00water", "1")
    [seen] = relay.agent.seen
    assert (seen["path"], seen["query"], seen["x-own"]) == ("/echo", "a=1%20&a=%2F", "mine")
    assert KEY not in str(seen)
    assert "googles" not in str(seen)
    assert seen["host"] in str(relay.store.documents[SESSION].url)


async def test_what_a_session_answers_is_no_page_of_ours(relay: House, client: Client) -> None:
    _, headers, _ = await ask(client, "GET", relay.http_url("/echo"))
    assert headers.getall("content-security-policy") == ["sandbox"]
    assert headers.getall("x-content-type-options") == ["nosniff"]
    assert "set-cookie" not in headers


async def test_a_ticket_as_a_bearer_opens_what_connect_gives_out(relay: House, client: Client) -> None:
    headers = {"Authorization": f"Bearer {relay.ticket()}"}
    assert (await ask(client, "POST", relay.http_url("/echo"), headers=headers))[0] == 207
    assert f"Bearer {relay.agent.seen[0]['x-onmemos-ticket']}" == headers["Authorization"]


async def test_head_is_answered_without_a_body(relay: House, client: Client) -> None:
    status, headers, body = await ask(client, "HEAD", relay.http_url("/echo"))
    assert (status, body, headers["x-own"]) == (207, b"", "1")


async def test_a_redirect_is_the_clients_to_follow(relay: House, client: Client) -> None:
    status, headers, _ = await ask(client, "GET", relay.http_url("/away"))
    assert (status, headers["location"]) == (302, "/echo")


async def test_a_path_that_the_agent_does_not_know_is_answered_by_the_agent(relay: House, client: Client) -> None:
    assert (await ask(client, "GET", relay.http_url("/nothing")))[0] == 404


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthenticated"),
        ({"X-API-Key": "wrong"}, 401, "unauthenticated"),
        ({"Authorization": "Bearer wrong"}, 401, "unauthenticated"),
        ({"X-API-Key": KEYS_KEY}, 403, "forbidden"),
        ({"X-API-Key": OTHERS_KEY}, 404, "session_not_found"),
    ],
)
async def test_who_is_not_let_in_gets_the_usual_error(
    relay: House, client: Client, headers: dict[str, str], status: int, code: str
) -> None:
    got, _, body = await ask(client, "POST", relay.http_url("/echo"), headers=headers, data=b"x")
    assert (got, body["code"]) == (status, code)
    assert not relay.agent.seen


async def test_a_failed_session_is_409_and_one_without_an_agent_503(relay: House, client: Client) -> None:
    relay.agents.silent.add(SESSION)
    with nobody() as address:
        relay.session(address)
        status, headers, body = await ask(client, "GET", relay.http_url("/echo"))
    assert (status, body["code"], headers["retry-after"]) == (503, "workspace_unreachable", "1")
    relay.session(address, state=State.FAILED, error="no room")
    status, _, body = await ask(client, "GET", relay.http_url("/echo"))
    assert (status, body["code"]) == (409, "session_failed")


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(relay: House, client: Client) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(client, "GET", relay.http_url("/broken"))


@pytest.mark.parametrize("path", ["/nothing", f"/v1/sessions/{SESSION}/shell", "/v1/sessions//agent/x"])
async def test_other_paths_are_404_in_our_words(relay: House, client: Client, path: str) -> None:
    status, _, body = await ask(client, "GET", relay.url + path)
    assert (status, body["code"]) == (404, "route_not_found")


async def test_an_answer_streams(relay: House, client: Client) -> None:
    async with client.get(relay.http_url("/endless"), headers=MINE) as answer:
        assert await asyncio.wait_for(answer.content.readexactly(1 << 20), SOON_S)


async def test_a_client_that_leaves_ends_the_agents_answer(relay: House, client: Client) -> None:
    async with client.get(relay.http_url("/endless"), headers=MINE):
        pass
    await until(relay.agent.silent.is_set)


async def test_the_log_has_each_request_and_no_secret(
    relay: House, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = {"X-Request-Id": "my-own-request-id"}
    _, answered, _ = await ask(client, "GET", relay.http_url(f"/echo?api_key={KEY}"), headers=headers)
    assert answered.getall("x-request-id") == ["my-own-request-id"]

    def served() -> list[logging.LogRecord]:
        return [one for one in caplog.records if one.getMessage() == "request served"]

    await until(lambda: bool(served()))
    facts = vars(served()[0])
    assert (facts["function"], facts["status"], facts["request_id"]) == ("relay", 207, "my-own-request-id")
    assert KEY not in " ".join(f"{one.getMessage()} {vars(one)}" for one in caplog.records if one.name != "asyncio")
