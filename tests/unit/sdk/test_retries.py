"""What is tried again, how often, and how long it waits."""

import random

import pytest

from sdk.python.errors import (
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    InvalidResponse,
    NotFound,
    OnMemOSError,
    RateLimited,
    ServerError,
    Timeout,
    TransportError,
    Unavailable,
)
from sdk.python.retries import Retries
from tests.unit.sdk.scripted import ScriptedClient, Turn, ok, refusal

RESULT = {"stdout": "hi\n", "stderr": "", "returncode": 0, "success": True}

PASSING: list[Turn] = [
    ConnectError("refused"),
    ConnectTimeout("slow"),
    ConnectionLost("reset"),
    Timeout("slow"),
    refusal(429),
    refusal(502),
    refusal(503),
    refusal(504),
]
LASTING: list[Turn] = [refusal(400), refusal(404), refusal(409), refusal(500), InvalidResponse("html")]


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_an_idempotent_call_is_repeated_after_every_passing_fault(fault: Turn) -> None:
    client = ScriptedClient(fault, ok(id="s"))
    assert client.get_session("s")["id"] == "s"


@pytest.mark.parametrize("fault", LASTING, ids=str)
def test_nothing_is_repeated_that_would_fail_again(fault: Turn) -> None:
    client = ScriptedClient(fault, ok(id="s"))
    with pytest.raises(OnMemOSError):
        client.get_session("s")
    assert client.transport.pauses == []


@pytest.mark.parametrize("fault", [ConnectError("refused"), ConnectTimeout("slow"), refusal(429)], ids=str)
def test_a_command_that_surely_did_not_run_is_sent_again(fault: Turn) -> None:
    client = ScriptedClient(fault, ok(**RESULT))
    assert client.execute_session("s", "echo hi")["stdout"] == "hi\n"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ConnectionLost("reset"), ConnectionLost),
        (Timeout("slow"), Timeout),
        (TransportError("odd"), TransportError),
        (refusal(500), ServerError),
        (refusal(502), Unavailable),
        (refusal(503, headers={"Retry-After": "1"}), Unavailable),
        (refusal(504), Unavailable),
    ],
    ids=str,
)
def test_a_command_that_may_have_run_is_not_sent_again(fault: Turn, error: type[OnMemOSError]) -> None:
    client = ScriptedClient(fault, ok(**RESULT))
    with pytest.raises(error) as caught:
        client.execute_session("s", "rm -r /workspace/*")
    assert caught.value.may_have_executed
    assert len(client.transport.requests) == 1


def test_a_command_is_not_sent_again_after_a_second_try_that_may_have_run() -> None:
    client = ScriptedClient(ConnectError("refused"), ConnectionLost("reset"), ok(**RESULT))
    with pytest.raises(ConnectionLost) as caught:
        client.execute_session("s", "echo hi")
    assert [type(error) for error in caught.value.earlier] == [ConnectError]


def test_a_creation_is_repeated_with_the_same_idempotency_key() -> None:
    client = ScriptedClient(ConnectionLost("reset"), Timeout("slow"), refusal(503), ok(id="s"))
    client.create_session(template="python", namespace="n", user="u")
    keys = {request.headers["Idempotency-Key"] for request in client.transport.requests}
    assert len(client.transport.requests) == 4
    assert len(keys) == 1


def test_two_creations_have_different_keys() -> None:
    client = ScriptedClient(ok(id="a"), ok(id="b"))
    client.create_session(template="python")
    client.create_session(template="python")
    first, second = (request.headers["Idempotency-Key"] for request in client.transport.requests)
    assert first != second


def test_tries_are_counted_and_the_last_error_knows_the_earlier_ones() -> None:
    faults: list[Turn] = [ConnectError(str(n)) for n in range(4)]
    client = ScriptedClient(*faults, retries=Retries(times=3))
    with pytest.raises(ConnectError, match="3") as caught:
        client.health()
    assert [str(error) for error in caught.value.earlier] == ["0", "1", "2"]


def test_zero_retries_is_one_try() -> None:
    client = ScriptedClient(ConnectError("refused"), retries=Retries(times=0))
    with pytest.raises(ConnectError):
        client.health()
    assert client.transport.pauses == []


def test_pauses_grow_by_doubling_up_to_the_longest() -> None:
    random.seed(3)
    client = ScriptedClient(
        *[ConnectError("refused") for _ in range(7)],
        ok(status="ok"),
        retries=Retries(times=7, first_pause_s=0.5, longest_pause_s=3),
    )
    client.health()
    bounds = [0.5, 1, 2, 3, 3, 3, 3]
    assert len(client.transport.pauses) == len(bounds)
    assert all(0 <= pause <= bound for pause, bound in zip(client.transport.pauses, bounds, strict=True))


@pytest.mark.parametrize(("status", "error"), [(429, RateLimited), (503, Unavailable)])
def test_retry_after_is_the_shortest_pause(status: int, error: type[OnMemOSError]) -> None:
    client = ScriptedClient(refusal(status, headers={"Retry-After": "11"}), ok(status="ok"))
    client.health()
    (pause,) = client.transport.pauses
    assert 11 <= pause <= 11 + Retries().first_pause_s


def test_a_pause_that_leads_past_the_window_is_not_begun() -> None:
    client = ScriptedClient(refusal(429, headers={"Retry-After": "3600"}), ok(status="ok"))
    with pytest.raises(RateLimited) as caught:
        client.health()
    assert caught.value.retry_after_s == 3600
    assert client.transport.pauses == []


def test_deleting_what_an_earlier_lost_try_deleted_is_a_success() -> None:
    client = ScriptedClient(ConnectionLost("reset"), refusal(404, "Session not found"))
    assert client.delete_session("s") == {"id": "s", "status": "deleting"}


@pytest.mark.parametrize("earlier", [ConnectError("refused"), refusal(429)], ids=str)
def test_deleting_what_is_not_there_is_an_error_if_no_try_can_have_deleted_it(earlier: Turn) -> None:
    client = ScriptedClient(earlier, refusal(404, "Session not found"))
    with pytest.raises(NotFound):
        client.delete_session("s")


def test_a_session_that_is_not_there_is_an_error_to_get_also_after_a_retry() -> None:
    client = ScriptedClient(ConnectionLost("reset"), refusal(404, "Session not found"))
    with pytest.raises(NotFound):
        client.get_session("s")


def test_a_negative_number_of_retries_is_refused() -> None:
    with pytest.raises(ValueError, match="retries: got -1"):
        Retries(times=-1)


def test_what_is_not_ours_passes_through_at_once() -> None:
    client = ScriptedClient(KeyError("bug"), ok(status="ok"))
    with pytest.raises(KeyError):
        client.health()
