"""What the relay makes of what a client shows, and what it lets through of it; no network."""

import asyncio
from typing import Any

import aiohttp
import pytest

from shared.credentials import credentials
from shared.passage import join, raw_path
from shared.relay import Distrusted, agent_path
from shared.socket_passage import ABNORMAL, End, exchange


def shown(query: str = "", *headers: tuple[str, str]) -> Any:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return credentials({"query_string": query.encode(), "headers": raw})


@pytest.mark.parametrize(
    ("query", "headers", "key", "ticket"),
    [
        ("", (), "", ""),
        ("", (("x-api-key", " k "),), "k", ""),
        ("api_key=k", (), "k", ""),
        ("api_key=a%2Bb+c", (), "a+b c", ""),
        ("api%5fkey=k", (), "k", ""),
        ("api_key=&api_key=k", (), "k", ""),
        ("api_key=q", (("x-api-key", "h"),), "h", ""),
        ("api_key=q", (("x-api-key", ""), ("x-onmemos-ticket", "t")), "q", ""),
        ("", (("x-onmemos-ticket", "t"),), "", "t"),
        ("", (("authorization", "Bearer t"),), "", "t"),
        ("", (("authorization", "bearer  t"),), "", "t"),
        ("", (("authorization", "Basic t"),), "", ""),
        ("", (("authorization", "Bearer googles"), ("x-onmemos-ticket", "t")), "", "t"),
        ("ticket=q", (("authorization", "Bearer t"),), "", "t"),
        ("ticket=t", (("authorization", "Basic x"),), "", "t"),
        ("ticket=", (), "", ""),
        ("API_KEY=k&tickets=t&api_key2=k", (), "", ""),
    ],
)
def test_the_first_credential_counts(query: str, headers: Any, key: str, ticket: str) -> None:
    found = shown(query, *headers)
    assert (found.key, found.ticket) == (key, ticket)


@pytest.mark.parametrize(
    ("query", "passed"),
    [
        ("", ""),
        ("a=1&api_key=k&b=%20&&c", "a=1&b=%20&&c"),
        ("api_key=k&api_key=l", ""),
        ("%61pi_key=k&x=y", "x=y"),
        ("api_key=k&ticket=t", ""),
        ("a&ticket=t%2e&b", "a&b&ticket=t%2e"),
        ("ticket=&ticket=t", "ticket=t"),
        ("ticket=t&ticket=u", "ticket=t"),
        ("api_key=&ticket=t", "ticket=t"),
    ],
)
def test_the_query_is_passed_on_as_it_came_but_for_credentials_that_do_not_count(query: str, passed: str) -> None:
    assert shown(query).query.decode() == passed


def test_of_the_headers_no_key_cookie_or_other_ticket_is_passed_on() -> None:
    withheld = ("x-api-key", "cookie", "referer", "authorization", "x-forwarded-authorization", "host")
    found = shown("", *((name, "secret") for name in withheld), ("accept", "a"), ("x-onmemos-ticket", "t"))
    assert found.headers == ((b"accept", b"a"),)
    assert found.with_ticket("ours").headers == ((b"accept", b"a"), (b"x-onmemos-ticket", b"ours"))


def test_a_ticket_in_a_header_is_passed_on_in_one() -> None:
    found = shown("ticket=other&x", ("authorization", "Bearer t"))
    assert (found.headers, found.query) == (((b"x-onmemos-ticket", b"t"),), b"x")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/v1/sessions/ws-1/agent/v1/execute", "/v1/execute"),
        ("/v1/sessions/ws-1/agent/", "/"),
        ("/v1/sessions/agent/agent/agent/x", "/agent/x"),
        ("/v1/sessions/ws-1/%61gent/a%2Fb//c", "/a%2Fb//c"),
        ("/v1/sessions/ws-1/agent/../../x", "/../../x"),
        ("/v1/sessions/a%2Fagent%2Fx", "/"),
    ],
)
def test_the_agents_path_is_what_follows_as_it_was_written(raw: str, path: str) -> None:
    assert agent_path({"raw_path": raw.encode(), "path": "-"}).decode() == path


def test_a_path_stays_below_the_agents_address() -> None:
    url = join("http://agent/run/one", b"/../two/%2e%2e/@x", b"q=%20#f")
    assert str(url).startswith("http://agent/run/one/../two/%2e%2e/@x?q=%20")
    assert url.raw_path == "/run/one/../two/%2e%2e/@x"


def test_the_raw_path_is_without_its_query() -> None:
    assert raw_path({"raw_path": b"/a%20b?c", "path": "/a b"}) == b"/a%20b"
    assert raw_path({"path": "/a"}) == b"/a"


async def test_an_answer_that_is_not_ours_is_marked_and_cannot_set_anything_for_our_host() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    answer = Distrusted(send, "request-1")
    assert (answer.began, answer.status) == (False, 499)
    theirs = [(b"set-cookie", b"a=b"), (b"content-security-policy", b"default-src *"), (b"x-request-id", b"theirs")]
    start = {"type": "http.response.start", "status": 200, "headers": [*theirs, (b"content-type", b"text/html")]}
    await answer(start)
    await answer({"type": "http.response.body", "body": b"x"})
    assert dict(sent[0]["headers"]) == {
        b"content-type": b"text/html",
        b"content-security-policy": b"sandbox",
        b"referrer-policy": b"no-referrer",
        b"x-content-type-options": b"nosniff",
        b"x-request-id": b"request-1",
    }
    assert (answer.began, answer.status, sent[1]["body"]) == (True, 200, b"x")


class Deaf:
    """An agent's WebSocket that takes no message and says nothing; `gone` and it is no longer there to write to."""

    def __init__(self, *, gone: bool = False) -> None:
        self.asked = asyncio.Event()
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        self._gone = gone

    async def send_str(self, _: str) -> None:
        self.asked.set()
        if self._gone:
            raise aiohttp.ClientConnectionResetError("gone")
        await asyncio.Event().wait()

    async def receive(self) -> Any:
        return await self.said.get()


class Client:
    """Has sent one message."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.messages.put_nowait({"type": "websocket.receive", "text": "hi"})
        self.got: list[Any] = []

    async def send(self, message: Any) -> None:
        self.got.append(message)


async def test_a_client_that_is_lost_while_the_agent_does_not_read_is_missed() -> None:
    agent, client, lost = Deaf(), Client(), asyncio.get_running_loop().create_future()
    there: Any = agent
    carrying = asyncio.create_task(exchange(there, {"state": {"lost": lost}}, client.messages.get, client.send))
    await agent.asked.wait()
    assert not carrying.done()
    lost.set_result(None)
    assert await asyncio.wait_for(carrying, 5) == End(ABNORMAL, by_client=True)


async def test_what_an_agent_said_before_it_went_comes_before_its_end() -> None:
    agent, client = Deaf(gone=True), Client()
    there: Any = agent
    carrying = asyncio.create_task(exchange(there, {}, client.messages.get, client.send))
    await agent.asked.wait()
    agent.said.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, "last words", ""))
    agent.said.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.CLOSE, 1000, "bye"))
    assert await asyncio.wait_for(carrying, 5) == End(1000, "bye")
    assert client.got == [{"type": "websocket.send", "text": "last words"}]
