"""Jobs as objects: what they send, and how they are waited for."""

from typing import Any

import httpx
import pytest

from sdk.python.errors import NotFound, Timeout
from sdk.python.jobs import LONGEST_LOOK_S, START_S, Job
from tests.unit.sdk.scripted import ScriptedClient, ok, refusal
from tests.unit.sdk.test_sessions import calls, session

JOB: dict[str, Any] = {
    "id": "job-1",
    "session_id": "s",
    "state": "running",
    "command": "make",
    "timeout": 60.0,
    "retries": 1,
    "attempts": 1,
    "returncode": None,
    "error": None,
}
DONE: dict[str, Any] = {"state": "succeeded", "returncode": 0}


def told(stdout: str = "", stderr: str = "", **fields: Any) -> httpx.Response:
    return ok(**{**JOB, "stdout": stdout, "stderr": stderr, "truncated": False, **fields})


def started(client: ScriptedClient) -> Job:
    client.transport.turns.insert(0, told(state="pending", attempts=0))
    return session(client).jobs.create("make")


def test_a_job_is_made_found_and_listed_by_its_session() -> None:
    client = ScriptedClient(
        told(state="pending"),
        told("hi\n", "no\n", **DONE),
        ok(jobs=[JOB], next_page_token=None),
        told(state="cancelled"),
    )
    jobs = session(client).jobs
    job = jobs.create("make", 3600, env={"A": "1"}, retries=2)
    assert client.last.json == {"command": "make", "timeout": 3600, "env": {"A": "1"}, "retries": 2}
    assert (job.id, job.session_id, job.state, job.returncode, job.output) == ("job-1", "s", "pending", None, "")
    job = jobs.get("job-1")
    assert (job.stdout, job.stderr, job.output, job.returncode) == ("hi\n", "no\n", "hi\nno\n", 0)
    (listed,) = jobs.list()
    assert (listed.id, listed.output) == ("job-1", "")
    assert listed.cancel()["state"] == listed.state == "cancelled"
    assert calls(client)[1:] == [
        "POST sessions/s/jobs",
        "GET sessions/s/jobs/job-1",
        "GET sessions/s/jobs",
        "POST sessions/s/jobs/job-1/cancel",
    ]
    assert repr(listed._core) == "<AsyncJob job-1 cancelled>"


def test_a_job_shows_what_was_last_seen_until_it_is_refreshed() -> None:
    client = ScriptedClient(told("hi", **DONE))
    job = started(client)
    assert (job.refresh()["stdout"], job.stdout, job.state) == ("hi", "hi", "succeeded")


def test_waiting_gives_new_output_as_it_comes() -> None:
    client = ScriptedClient(told(), told("a\n"), told("a\n", "e\n"), told("a\nb\n", "e\n", **DONE))
    seen: list[tuple[str, str]] = []
    job = started(client)
    assert job.wait(on_output=lambda *new: seen.append(new))["returncode"] == 0
    assert seen == [("a\n", ""), ("", "e\n"), ("b\n", "")]
    assert (job.state, job.stdout) == ("succeeded", "a\nb\n")


def test_a_second_attempt_writes_anew() -> None:
    client = ScriptedClient(told("a\n"), told("a\nb\n", attempts=2), told("a\nb\nc", attempts=2, **DONE))
    seen: list[str] = []
    started(client).wait(on_output=lambda stdout, _: seen.append(stdout))
    assert seen == ["a\n", "a\nb\n", "c"]


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "timed_out"])
def test_every_end_is_one(state: str) -> None:
    client = ScriptedClient(told(state=state))
    assert started(client).wait()["state"] == state
    assert client.transport.pauses == []


def test_pauses_grow_and_are_bounded() -> None:
    client = ScriptedClient(*[told() for _ in range(20)], told(**DONE))
    started(client).wait()
    pauses = client.transport.pauses
    assert pauses[0] == 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_LOOK_S


def test_waiting_ends_when_the_time_is_up() -> None:
    client = ScriptedClient(*[told() for _ in range(20)])
    with pytest.raises(Timeout, match="job-1 is running after 10 s"):
        started(client).wait(10)
    assert sum(client.transport.pauses) == 10


def test_a_job_is_waited_for_as_long_as_its_attempts_may_take() -> None:
    client = ScriptedClient(*[told() for _ in range(1000)])
    with pytest.raises(Timeout):
        started(client).wait()
    assert sum(client.transport.pauses) == pytest.approx(2 * (60 + START_S))


def test_a_job_whose_session_is_gone_is_not_found() -> None:
    client = ScriptedClient(told(), refusal(404, code="session_not_found"))
    with pytest.raises(NotFound):
        started(client).wait()
