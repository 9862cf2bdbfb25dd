"""jobs: what is sent, what is followed, and how each call ends."""

import json
from typing import Any

import httpx
import pytest

from sdk.python.errors import ConnectError
from sdk.python.transport import Request
from tests.unit.cli.invoking import SESSION, onmemos
from tests.unit.sdk.scripted import ScriptedClient, Turn, ok, refusal

ID = SESSION["id"]
JOB: dict[str, Any] = {
    "id": "job-1",
    "session_id": ID,
    "state": "pending",
    "command": "make all",
    "argv": None,
    "timeout": 3600.0,
    "retries": 0,
    "attempts": 0,
    "returncode": None,
    "created_at": "2026-11-25T10:00:00.000Z",
    "started_at": None,
    "finished_at": None,
    "error": None,
}
FOUND = ok(**SESSION)


def job(stdout: str = "", stderr: str = "", **fields: Any) -> Turn:
    return ok(**{**JOB, "stdout": stdout, "stderr": stderr, "truncated": False, **fields})


def run(*turns: Turn, words: tuple[str, ...] = ()) -> Any:
    return onmemos("jobs", "run", ID, *words, "--", "make all", turns=[ok(**SESSION), job(), *turns])


def test_run_follows_the_output_and_ends_with_the_commands_code() -> None:
    running, done = job("a\n", state="running"), job("a\nb\n", "e\n", state="failed", returncode=7)
    called = run(running, done)
    assert (called.code, called.stdout) == (7, "a\nb\n")
    assert called.stderr == "job-1 runs, and goes on after Ctrl-C\ne\n"
    assert called.requests == [
        ("GET", f"/v1/sessions/{ID}"),
        ("POST", f"/v1/sessions/{ID}/jobs"),
        ("GET", f"/v1/sessions/{ID}/jobs/job-1"),
        ("GET", f"/v1/sessions/{ID}/jobs/job-1"),
    ]


def test_options_of_run_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "1")
    words = ["--timeout", "12h", "--retries", "3", "--env", "A=b", "-e", "FROM_HERE", "--detach"]
    called = onmemos("jobs", "run", ID, *words, "--", "make", "all", turns=[FOUND, job()])
    assert called.bodies[-1] == {
        "argv": ["make", "all"],
        "timeout": 43_200.0,
        "retries": 3,
        "env": {"A": "b", "FROM_HERE": "1"},
    }


def test_what_is_detached_prints_the_id_alone() -> None:
    called = run(words=("--detach",))
    assert (called.code, called.stdout, called.stderr) == (0, "job-1\n", "")
    assert json.loads(run(words=("--detach", "--json")).stdout)["id"] == "job-1"


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ({"state": "succeeded", "returncode": 0}, 0, ""),
        ({"state": "timed_out"}, 124, "onmemos: job-1 ran out of time and was ended; --timeout gives it more\n"),
        ({"state": "cancelled", "returncode": 143}, 143, "onmemos: job-1 cancelled\n"),
        ({"state": "failed", "error": "no such image"}, 125, "onmemos: job-1 failed: no such image\n"),
    ],
)
def test_each_end_has_its_code_and_its_word(end: dict[str, Any], code: int, said: str) -> None:
    called = run(job(**end))
    assert (called.code, called.stderr.partition("\n")[2]) == (code, said)


def test_json_is_the_job_at_its_end() -> None:
    called = run(job("a", state="running"), job("ab", state="failed", returncode=3), words=("--json",))
    assert called.code == 3
    assert json.loads(called.stdout)["stdout"] == "ab"


def test_output_that_was_cut_is_said() -> None:
    called = run(job("z", state="succeeded", returncode=0, truncated=True))
    assert "all of it is in the session's bucket at .onmemos/jobs/job-1/" in called.stderr


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []

    class Interrupted(ScriptedClient):
        def __init__(self, *turns: Turn) -> None:
            super().__init__(*turns)
            self.transport.sleep = self.sleep  # type: ignore[method-assign]

        async def sleep(self, pause_s: float) -> None:
            pauses.append(pause_s)
            raise KeyboardInterrupt

    monkeypatch.setattr("tests.unit.cli.invoking.ScriptedClient", Interrupted)
    called = run(job("a\n", state="running"))
    assert (called.code, called.stdout, len(pauses)) == (130, "a\n", 1)
    assert f"onmemos jobs logs {ID} job-1 -f follows it again" in called.stderr
    assert f"onmemos jobs cancel {ID} job-1 ends it" in called.stderr
    assert called.requests[-1] == ("GET", f"/v1/sessions/{ID}/jobs/job-1")


def test_ctrl_c_before_the_job_is_known_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ScriptedClient):
        def __init__(self, *turns: Turn) -> None:
            super().__init__(*turns)
            self.transport.send = self.send  # type: ignore[method-assign]

        async def send(self, request: Request) -> httpx.Response:
            raise KeyboardInterrupt

    monkeypatch.setattr("tests.unit.cli.invoking.ScriptedClient", Interrupted)
    called = run()
    assert (called.code, called.stdout) == (130, "")
    assert f"onmemos jobs ls {ID} shows" in called.stderr


def test_a_service_that_is_lost_meanwhile_says_how_to_go_on() -> None:
    called = run(job("a\n", state="running"), *[ConnectError("refused")] * 5)
    assert (called.code, called.stdout) == (125, "a\n")
    assert "onmemos: refused\n" in called.stderr
    assert f"onmemos jobs logs {ID} job-1 -f" in called.stderr


def test_a_job_that_cannot_be_made_is_125() -> None:
    bad = refusal(400, "timeout: got 1e9, wanted less", code="invalid_request")
    called = onmemos("jobs", "run", ID, "--", "x", turns=[FOUND, bad])
    assert (called.code, called.stderr) == (125, "onmemos: timeout: got 1e9, wanted less (400 invalid_request)\n")


@pytest.mark.parametrize("name", ["ls", "list"])
def test_jobs_are_listed(name: str) -> None:
    other = {**JOB, "id": "job-2", "state": "failed", "returncode": 2, "command": None, "argv": ["echo", "a b"]}
    turns = [ok(jobs=[JOB], next_page_token="1"), ok(jobs=[other], next_page_token=None)]
    header, first, second = onmemos("jobs", name, ID, turns=turns).stdout.splitlines()
    assert header.split() == ["ID", "STATE", "CODE", "ATTEMPTS", "AGE", "COMMAND"]
    assert first.split()[:3] == ["job-1", "pending", "-"]
    assert first.endswith("make all")
    assert second.endswith("echo 'a b'")


@pytest.mark.parametrize("name", ["get", "show"])
def test_a_job_is_shown(name: str) -> None:
    lines = onmemos("jobs", name, ID, "job-1", turns=[job("hi", state="failed", returncode=2, attempts=1)]).stdout
    facts = {name: value.strip() for name, value in (line.split("  ", 1) for line in lines.splitlines())}
    assert (facts["state"], facts["exit code"], facts["attempts"]) == ("failed", "2", "1 of 1")
    assert facts["output"] == ".onmemos/jobs/job-1/ in the session's bucket"
    assert "hi" not in lines


def test_logs_print_what_there_is() -> None:
    called = onmemos("jobs", "logs", ID, "job-1", turns=[job("out\n", "err\n", state="running")])
    assert (called.code, called.stdout, called.stderr) == (0, "out\n", "err\n")
    called = onmemos("jobs", "logs", ID, "job-1", "--json", turns=[job("out\n")])
    assert json.loads(called.stdout)["stdout"] == "out\n"


def test_logs_are_followed_to_the_end() -> None:
    turns = [FOUND, job("a\n"), job("a\n"), job("a\nb\n", state="failed", returncode=4)]
    called = onmemos("jobs", "logs", ID, "job-1", "-f", turns=turns)
    assert (called.code, called.stdout) == (4, "a\nb\n")


def test_cancel_ends_it_and_says_what_it_came_to() -> None:
    called = onmemos("jobs", "cancel", ID, "job-1", turns=[job(state="cancelled")])
    assert (called.code, called.stdout, called.stderr) == (0, "job-1\n", "cancelled\n")
    assert called.requests == [("POST", f"/v1/sessions/{ID}/jobs/job-1/cancel")]


@pytest.mark.parametrize(
    "words",
    [
        ["run", ID, "make"],
        ["run", ID],
        ["run", ID, "--retries", "11", "--", "x"],
        ["run", ID, "--timeout", "long", "--", "x"],
        ["get", ID],
        ["logs", ID, ""],
        ["cancel"],
    ],
)
def test_misuse_is_2_and_nothing_is_sent(words: list[str]) -> None:
    called = onmemos("jobs", *words)
    assert (called.code, called.stdout, called.requests) == (2, "", [])
