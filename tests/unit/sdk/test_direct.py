"""Commands go to the agent by themselves, with a ticket that is good, and by the functions where that leads nowhere."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from sdk.python import direct
from sdk.python.direct import AVOID_S, MAX_SESSIONS, RENEW_BEFORE_S, Direct
from sdk.python.errors import (
    BadRequest,
    Conflict,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    Forbidden,
    InvalidResponse,
    NotFound,
    OnMemOSError,
    RateLimited,
    ServerError,
    SessionSuspended,
    Timeout,
    TransportError,
    Unauthorized,
    Unavailable,
)
from sdk.python.faces import drive
from sdk.python.link import Link
from sdk.python.retries import Retries
from sdk.python.transport import Request
from tests.unit.sdk.scripted import ScriptedClient, ScriptedTransport, Turn, ok, refusal

AGENT = "http://agent/run/ws"
LIFETIME_S = 300.0


def ran(by: str = "agent") -> httpx.Response:
    return ok(stdout=by, stderr="", returncode=0, success=True)


def way(ticket: str = "t1", *, lifetime_s: float = LIFETIME_S, **fields: Any) -> httpx.Response:
    expires_at = (datetime.now(UTC) + timedelta(seconds=lifetime_s)).isoformat()
    answer = {"url": AGENT, "websocket": "ws://agent/run/ws/v1/shell", "ticket": ticket, "ssh": None}
    return ok(**{**answer, "expires_at": expires_at, **fields})


def client(*turns: Turn, **options: Any) -> ScriptedClient:
    return ScriptedClient(*turns, direct=True, **options)


def asked(client: ScriptedClient) -> list[str]:
    """Who was asked what, in short."""
    return [_short(request) for request in client.transport.requests]


def _short(request: Request) -> str:
    if request.url == f"{AGENT}/v1/execute":
        return request.headers["Authorization"].replace("Bearer ", "agent:")
    return request.url.rpartition("/")[2]


def test_a_command_goes_to_the_agent_and_the_way_is_asked_for_once() -> None:
    it = client(way(), ran(), ran())
    assert it.execute_session("s", "date", 7, cwd="src")["stdout"] == "agent"
    it.execute_session("s", "date", 7, cwd="src")
    assert asked(it) == ["connect", "agent:t1", "agent:t1"]
    assert it.last.json == {"command": "date", "timeout": 7, "cwd": "src"}
    assert it.last.timeout_s == 7 + 30


def test_the_agent_never_sees_the_key() -> None:
    it = client(way(), ran())
    it.execute_session("s", "date")
    assert it.transport.requests[0].headers["X-API-Key"] == "key"
    assert "key" not in str(it.last.headers)
    assert "t1" not in repr(it.last)


def test_a_client_that_is_told_not_to_asks_for_no_way() -> None:
    it = ScriptedClient(ran("service"))
    assert it.execute_session("s", "date")["stdout"] == "service"
    assert asked(it) == ["execute"]


def test_a_ticket_is_renewed_before_it_expires() -> None:
    it = client(way("t1"), ran(), ran(), way("t2"), ran())
    it.execute_session("s", "date")
    it.transport.now += LIFETIME_S - RENEW_BEFORE_S - 1
    it.execute_session("s", "date")
    it.transport.now += 2
    it.execute_session("s", "date")
    assert asked(it) == ["connect", "agent:t1", "agent:t1", "connect", "agent:t2"]


def test_a_ticket_that_seems_to_be_over_when_it_comes_is_used_once() -> None:
    it = client(way("t1", lifetime_s=-60), ran(), way("t2", lifetime_s=-60), ran())
    it.execute_session("s", "date")
    it.execute_session("s", "date")
    assert asked(it) == ["connect", "agent:t1", "connect", "agent:t2"]


def test_a_ticket_that_the_agent_refuses_is_renewed_once() -> None:
    it = client(way("t1"), refusal(401, code="bad_ticket"), way("t2"), ran(), ran())
    it.execute_session("s", "date")
    it.execute_session("s", "date")
    assert asked(it) == ["connect", "agent:t1", "connect", "agent:t2", "agent:t2"]


def test_an_agent_that_refuses_every_ticket_is_passed_by() -> None:
    it = client(way("t1"), refusal(401), way("t2"), refusal(401), ran("service"), ran("service"))
    assert it.execute_session("s", "date")["stdout"] == "service"
    it.execute_session("s", "date")
    assert asked(it) == ["connect", "agent:t1", "connect", "agent:t2", "execute", "execute"]


NOT_RUN: Sequence[Turn] = [
    ConnectError("refused"),
    ConnectTimeout("slow"),
    refusal(503, code="workspace_unreachable"),
    refusal(503, code="session_not_ready"),
    refusal(503, code="frozen"),
    refusal(403),
    refusal(404),
    refusal(404, code="not_found"),
    refusal(405),
    refusal(409, code="session_failed"),
    httpx.Response(400, text="<html>Bad Request</html>"),
    httpx.Response(404, text="<html>Not Found</html>"),
    httpx.Response(413, text="<html>Too Large</html>"),
    httpx.Response(308, headers={"Location": "https://elsewhere/"}),
]


@pytest.mark.parametrize("answer", NOT_RUN, ids=repr)
def test_a_command_that_surely_did_not_run_at_the_agent_goes_by_the_service(answer: Turn) -> None:
    it = client(way(), answer, ran("service"))
    assert it.execute_session("s", "date")["stdout"] == "service"
    assert asked(it) == ["connect", "agent:t1", "execute"]
    assert it.transport.pauses == []


def test_the_direct_way_is_tried_again_after_a_while() -> None:
    it = client(way("t1"), ConnectError("refused"), ran("service"), ran("service"), way("t2"), ran())
    it.execute_session("s", "date")
    it.transport.now += AVOID_S - 1
    it.execute_session("s", "date")
    it.transport.now += 2
    assert it.execute_session("s", "date")["stdout"] == "agent"
    assert asked(it) == ["connect", "agent:t1", "execute", "execute", "connect", "agent:t2"]


@pytest.mark.parametrize("answer", [ConnectError("gone"), refusal(404), refusal(503, code="frozen")], ids=repr)
def test_a_way_that_once_led_to_the_agent_and_no_longer_does_is_asked_for_anew(answer: Turn) -> None:
    moved = way("t2", url="http://agent/run/moved")
    it = client(way("t1"), ran(), answer, ran("service"), moved, ran())
    assert [it.execute_session("s", "date")["stdout"] for _ in range(3)] == ["agent", "service", "agent"]
    assert asked(it)[:5] == ["connect", "agent:t1", "agent:t1", "execute", "connect"]
    assert it.last.url == "http://agent/run/moved/v1/execute"


def test_a_new_way_that_leads_nowhere_is_not_asked_for_again_and_again() -> None:
    it = client(way("t1"), ran(), ConnectError("gone"), ran("service"), way("t2"), ConnectError("gone"), ran("service"))
    for _ in range(3):
        it.execute_session("s", "date")
    it.play(ran("service"))
    it.execute_session("s", "date")
    assert asked(it)[-4:] == ["connect", "agent:t2", "execute", "execute"]


def test_an_agent_that_waits_for_its_session_to_move_is_not_left_alone() -> None:
    it = client(way("t1"), refusal(503, code="frozen"), ran("service"), way("t2"), ran())
    assert [it.execute_session("s", "date")["stdout"] for _ in range(2)] == ["service", "agent"]
    assert asked(it) == ["connect", "agent:t1", "execute", "connect", "agent:t2"]


def test_what_one_thread_found_out_of_an_old_way_is_not_held_against_the_new_one() -> None:
    it = client(way("t1"), ran(), way("t2"), ran())
    it.execute_session("s", "date")
    ways = it._core._direct
    old = drive(ways.way("s"))
    new = drive(ways.way("s", old))
    ways.led_nowhere("s", old, ConnectError("gone"))
    assert drive(ways.way("s")) is new


@pytest.mark.parametrize(
    "turn", [("suspend_session", "s"), ("resume_session", "s"), ("move_session", "s", "gke")], ids=lambda turn: turn[0]
)
@pytest.mark.parametrize("answer", [ok(id="s", status="running"), refusal(409)], ids=repr)
def test_the_way_to_a_session_that_this_client_moves_is_forgotten(turn: tuple[str, ...], answer: Turn) -> None:
    it = client(way("t1"), ran(), answer, way("t2"), ran())
    it.execute_session("s", "date")
    with suppress(Conflict):
        getattr(it, turn[0])(*turn[1:])
    it.execute_session("s", "date")
    assert asked(it)[-2:] == ["connect", "agent:t2"]


def test_one_session_without_a_way_is_not_the_others() -> None:
    it = client(way("t1"), ConnectError("refused"), ran("service"), way("t2"), ran())
    it.execute_session("a", "date")
    it.execute_session("b", "date")
    assert asked(it)[-2:] == ["connect", "agent:t2"]


MAY_HAVE_RUN: Sequence[tuple[Turn, type[OnMemOSError]]] = [
    (ConnectionLost("reset"), ConnectionLost),
    (Timeout("slow"), Timeout),
    (TransportError("odd"), TransportError),
    (refusal(500, code="internal"), ServerError),
    (refusal(502), Unavailable),
    (refusal(503), Unavailable),
    (httpx.Response(504, text="<html>Gateway Timeout</html>"), Unavailable),
    (httpx.Response(200, text="<html>Welcome</html>"), InvalidResponse),
    (ok(hello="world"), InvalidResponse),
    (ok(returncode="0"), InvalidResponse),
]


@pytest.mark.parametrize(("answer", "error"), MAY_HAVE_RUN, ids=repr)
def test_a_command_that_may_have_run_at_the_agent_is_sent_to_nobody_else(
    answer: Turn, error: type[OnMemOSError]
) -> None:
    it = client(way(), answer, ran("service"))
    with pytest.raises(error) as caught:
        it.execute_session("s", "rm -r *")
    assert caught.value.may_have_executed
    assert asked(it) == ["connect", "agent:t1"]


@pytest.mark.parametrize("answer", [refusal(502), httpx.Response(200, text="<html>Welcome</html>")], ids=repr)
def test_what_is_not_the_agents_is_not_asked_again_for_a_while(answer: httpx.Response) -> None:
    it = client(way(), answer, ran("service"))
    with pytest.raises(OnMemOSError):
        it.execute_session("s", "date")
    it.execute_session("s", "date")
    assert asked(it) == ["connect", "agent:t1", "execute"]


def test_a_broken_connection_does_not_end_the_direct_way() -> None:
    it = client(way(), ConnectionLost("reset"), ran())
    with pytest.raises(ConnectionLost):
        it.execute_session("s", "date")
    it.execute_session("s", "date")
    assert asked(it) == ["connect", "agent:t1", "agent:t1"]


def test_too_much_at_once_is_tried_again_at_the_agent() -> None:
    it = client(way(), refusal(429, headers={"Retry-After": "3"}), ran())
    assert it.execute_session("s", "date")["stdout"] == "agent"
    assert asked(it) == ["connect", "agent:t1", "agent:t1"]
    assert it.transport.pauses[0] >= 3


def test_too_much_for_too_long_is_said() -> None:
    it = client(way(), refusal(429), refusal(429), retries=Retries(times=1))
    with pytest.raises(RateLimited):
        it.execute_session("s", "date")


def test_the_agents_complaint_reads_like_the_services() -> None:
    it = client(way(), refusal(400, "cwd: no such folder", code="bad_request", errors={"cwd": ["no such folder"]}))
    with pytest.raises(BadRequest) as caught:
        it.execute_session("s", "date", cwd="nowhere")
    assert (caught.value.code, caught.value.errors) == ("invalid_request", {"cwd": ["no such folder"]})


def test_a_full_workspace_is_said_at_once_and_nothing_was_run() -> None:
    it = client(way(), refusal(503, "no room", code="workspace_exhausted"))
    with pytest.raises(Unavailable, match="no room") as caught:
        it.execute_session("s", "date")
    assert not caught.value.may_have_executed


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(404, "Session not found", code="session_not_found"), NotFound),
        (refusal(401, code="unauthenticated"), Unauthorized),
        (refusal(403, code="forbidden"), Forbidden),
        (refusal(409, "no image", code="session_failed"), Conflict),
        (refusal(409, "session s is suspended", code="session_suspended"), SessionSuspended),
    ],
    ids=repr,
)
def test_what_connect_refuses_for_good_is_what_the_caller_gets(answer: Turn, error: type[OnMemOSError]) -> None:
    it = client(answer)
    with pytest.raises(error):
        it.execute_session("s", "date")
    assert asked(it) == ["connect"]


NO_WAY: Sequence[Turn] = [
    refusal(404, code="route_not_found"),
    httpx.Response(404, json={"code": 404, "message": "The current request is not defined by this API."}),
    httpx.Response(404, text="Not Found"),
    refusal(405, code="method_not_allowed"),
    refusal(429),
    refusal(500),
    refusal(503, code="provider_unavailable"),
    ConnectError("refused"),
    ConnectionLost("reset"),
    Timeout("slow"),
    InvalidResponse("html"),
    way(url=None),
    way(ticket=None),  # type: ignore[arg-type]
    way(expires_at="soon"),
    way(expires_at=None),
    way(expires_at="2026-11-23T12:00:00"),
    ok(hello="world"),
]


@pytest.mark.parametrize("answer", NO_WAY, ids=repr)
def test_where_connect_knows_no_way_the_service_runs_the_command(answer: Turn) -> None:
    it = client(answer, ran("service"), ran("service"))
    assert it.execute_session("s", "date")["stdout"] == "service"
    it.execute_session("s", "date")
    assert asked(it) == ["connect", "execute", "execute"]
    assert it.transport.pauses == []


def test_a_session_that_is_still_starting_is_waited_for_by_the_service_and_then_reached_directly() -> None:
    it = client(refusal(503, code="session_not_ready"), ran("service"), way(), ran())
    it.execute_session("s", "date")
    it.execute_session("s", "date")
    assert asked(it) == ["connect", "execute", "connect", "agent:t1"]


def test_a_ticket_does_not_leave_an_encrypted_deployment_in_the_clear() -> None:
    it = client(way(), ran("service"), base_url="https://service")
    it.execute_session("s", "date")
    assert asked(it) == ["connect", "execute"]


def test_an_encrypted_way_is_taken_from_an_encrypted_deployment() -> None:
    it = client(way(url="https://agent/"), ran(), base_url="https://service")
    it.execute_session("s", "date")
    assert it.last.url == "https://agent/v1/execute"


@pytest.mark.parametrize("delete", ["delete_session", "delete_cloudrun_workspace"])
@pytest.mark.parametrize("answer", [ok(id="s", status="deleting"), refusal(404)], ids=repr)
def test_the_ticket_of_a_deleted_session_is_forgotten(delete: str, answer: Turn) -> None:
    it = client(way(), ran(), answer, refusal(404, code="session_not_found"))
    it.execute_session("s", "date")
    with suppress(NotFound):
        getattr(it, delete)("s")
    with pytest.raises(NotFound):
        it.execute_session("s", "date")
    assert asked(it) == ["connect", "agent:t1", "s", "connect"]


def test_not_every_session_is_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_SESSIONS >= 100
    monkeypatch.setattr(direct, "MAX_SESSIONS", 2)
    it = client(way("a1"), ran(), way("b1"), ran(), ran(), way("c1"), ran(), ran(), way("b2"), ran())
    for session_id in ["a", "b", "a", "c", "a", "b"]:
        it.execute_session(session_id, "date")
    agents = [short for short in asked(it) if short != "connect"]
    assert agents == ["agent:a1", "agent:b1", "agent:a1", "agent:c1", "agent:a1", "agent:b2"]


def test_many_threads_ask_for_the_way_once() -> None:
    it = client()
    start, connects = threading.Barrier(8), []

    async def send(request: Request) -> httpx.Response:
        if request.method == "GET":
            connects.append(request)
            answer = way()
        else:
            answer = ran()
        answer.request = httpx.Request(request.method, request.url)
        return answer

    it.transport.send = send  # type: ignore[method-assign]

    def work() -> None:
        start.wait(5)
        it.execute_session("s", "date")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(connects) == 1


async def test_those_who_wait_for_one_answer_take_it_for_theirs_also_when_it_is_none() -> None:
    arrived, answered = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedTransport):
        def lock(self) -> AbstractAsyncContextManager[None]:
            return asyncio.Lock()

        async def send(self, request: Request) -> httpx.Response:
            arrived.set()
            await answered.wait()
            self.now += 60
            return await super().send(request)

    transport = Slow([refusal(503, code="session_not_ready"), way()])
    link = Link(transport, "http://service", "key", 30, Retries(), clock=lambda: transport.now)
    ways = Direct(link)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(ways.way("s"))
        await arrived.wait()
        others = [tasks.create_task(ways.way("s")) for _ in range(3)]
        await asyncio.sleep(0)  # they begin, and wait
        answered.set()
    assert [task.result() for task in [first, *others]] == [None] * 4
    assert len(transport.requests) == 1
    later = await ways.way("s")
    assert later is not None


def test_threads_whose_ticket_was_refused_share_the_new_one() -> None:
    it = client(way("t1"), ran(), way("t2"), ran())
    it.execute_session("s", "date")
    ways = it._core._direct
    old = drive(ways.way("s"))
    new = drive(ways.way("s", old))
    assert (new.ticket, drive(ways.way("s", old)).ticket) == ("t2", "t2")


def test_an_id_that_is_none_is_refused_before_anything_is_asked() -> None:
    it = client()
    with pytest.raises(TypeError, match="session_id: got a dict"):
        it.execute_session({"id": "s"}, "date")  # type: ignore[arg-type]
    assert asked(it) == []
