"""Jobs through the gateway: commands that outlive a request, beside a session and on its bucket."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from tests.e2e.remains import Remains, until

FINAL = {"succeeded", "failed", "cancelled", "timed_out"}


class Session:
    """A session of the stack, and its jobs over plain HTTP."""

    def __init__(self, http: httpx.Client, mark: str) -> None:
        self.http = http
        answer = http.post("/v1/sessions", json={"namespace": mark, "user": "dev", "env": {"KIND": "session's"}})
        assert answer.status_code == 201, answer.text
        self.id = answer.json()["id"]

    def create(self, headers: dict[str, str] | None = None, **body: Any) -> Any:
        answer = self.http.post(f"/v1/sessions/{self.id}/jobs", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, job: Any) -> Any:
        return self.http.get(f"/v1/sessions/{self.id}/jobs/{job['id']}").raise_for_status().json()

    def done(self, job: Any) -> Any:
        until(lambda: self.get(job)["state"] in FINAL, f"{job['id']} is over")
        return self.get(job)

    def execute(self, line: str) -> str:
        answer = self.http.post(f"/v1/sessions/{self.id}/execute", json={"command": line}).raise_for_status()
        return str(answer.json()["stdout"])


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.base_url, headers={"X-API-Key": stack.api_key}, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def session(http: httpx.Client) -> Iterator[Session]:
    session = Session(http, f"m{uuid.uuid4().hex[:8]}")
    yield session
    http.delete(f"/v1/sessions/{session.id}")


def test_a_job_runs_on_the_sessions_bucket_with_its_environment(session: Session) -> None:
    session.execute("echo from the session > /data/in")
    job = session.create(command="cat in; echo $KIND $LEVEL > out; pwd; echo oops >&2; exit 3", env={"LEVEL": "3"})
    assert job["state"] in {"pending", "running"}
    done = session.done(job)
    assert (done["state"], done["returncode"], done["attempts"]) == ("failed", 3, 1)
    assert (done["stdout"], done["stderr"], done["truncated"]) == ("from the session\n/data\n", "oops\n", False)
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    assert session.execute("cat /data/out") == "session's 3\n"
    assert session.execute(f"cat /data/.onmemos/jobs/{job['id']}/0/stdout-*.log") == done["stdout"]


def test_output_is_read_while_the_job_runs_and_cancelling_ends_it(session: Session) -> None:
    job = session.create(argv=["sh", "-c", "echo begun; exec sleep 600"])
    until(lambda: session.get(job)["stdout"] == "begun\n", "the job has begun")
    assert session.get(job)["state"] == "running"
    cancel = f"/v1/sessions/{session.id}/jobs/{job['id']}/cancel"
    assert session.http.post(cancel).raise_for_status().json()["state"] in {"running", "cancelled"}
    done = session.done(job)
    assert (done["state"], done["returncode"], done["stdout"]) == ("cancelled", 143, "begun\n")
    assert session.http.post(cancel).json() == done


def test_a_job_that_fails_is_tried_again(session: Session) -> None:
    line = "test -e tried && echo second || { touch tried; echo first; exit 1; }"
    done = session.done(session.create(command=line, retries=2))
    assert (done["state"], done["attempts"], done["stdout"]) == ("succeeded", 2, "second\n")


def test_a_job_whose_time_is_up_says_so(session: Session) -> None:
    done = session.done(session.create(command="echo on; sleep 600", timeout=1))
    assert (done["state"], done["returncode"], done["stdout"]) == ("timed_out", 124, "on\n")
    assert "1 s" in done["error"]


def test_jobs_are_listed_and_a_key_makes_one(session: Session) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first, again = (session.create(headers, command="true") for _ in range(2))
    assert again["id"] == first["id"]
    page = session.http.get(f"/v1/sessions/{session.id}/jobs", params={"page_size": 1}).raise_for_status().json()
    assert [job["id"] for job in page["jobs"]] == [first["id"]]
    assert "stdout" not in page["jobs"][0]
    rest = session.http.get(f"/v1/sessions/{session.id}/jobs", params={"page_token": page["next_page_token"]}).json()
    assert first["id"] not in {job["id"] for job in rest["jobs"]}
    assert rest["next_page_token"] is None
    session.done(first)


def test_what_is_not_there_or_wrong_is_said(session: Session) -> None:
    assert session.http.get(f"/v1/sessions/{session.id}/jobs/job-none").json()["code"] == "job_not_found"
    assert session.http.get("/v1/sessions/ws-none/jobs").json()["code"] == "session_not_found"
    refused = session.http.post(f"/v1/sessions/{session.id}/jobs", json={"command": "x", "timeout": 604_801})
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["timeout"])


def test_jobs_end_with_their_session_and_leave_nothing(http: httpx.Client, stack: Stack) -> None:
    mark = f"m{uuid.uuid4().hex[:8]}"
    session = Session(http, mark)
    session.done(session.create(command="true"))
    job = session.create(command=f"echo on; exec sleep 600 # {mark}")
    until(lambda: bool(session.get(job)["stdout"]), "the job runs")
    remains = Remains(stack, mark)
    assert remains.found()["jobs"]
    http.delete(f"/v1/sessions/{session.id}").raise_for_status()
    until(lambda: not remains.found(), f"nothing left of {mark}")
