"""suspend, resume, move: what is sent, said and printed."""

import json
from typing import Any

import pytest

from tests.unit.cli.invoking import SESSION, onmemos
from tests.unit.sdk.scripted import Turn, ok, refusal

ID = SESSION["id"]
SUSPENDED: dict[str, Any] = {
    **SESSION,
    "status": "suspended",
    "expires_at": None,
    "ttl_left_seconds": 2520.0,
    "suspended_at": "2026-11-25T10:18:00.000Z",
    "details": {"notice": "suspended: 2 processes ended"},
}


def now(status: str, **fields: Any) -> Turn:
    return ok(**{**SESSION, "status": status, **fields})


def test_suspend_waits_and_tells_what_became_of_processes_and_time() -> None:
    called = onmemos("suspend", ID, turns=[ok(**SESSION), now("suspending"), ok(**SUSPENDED)])
    assert (called.code, called.stdout) == (0, f"{ID}\n")
    assert called.stderr == "suspended on cloud_run; 42m left; suspended: 2 processes ended\n"
    assert called.requests == [
        ("GET", f"/v1/sessions/{ID}"),
        ("POST", f"/v1/sessions/{ID}/suspend"),
        ("GET", f"/v1/sessions/{ID}"),
    ]


def test_resume_starts_it_again() -> None:
    called = onmemos("resume", ID, turns=[ok(**SUSPENDED), now("running", details={})])
    assert (called.code, called.stdout) == (0, f"{ID}\n")
    assert called.stderr.startswith("running on cloud_run; ends in ")
    assert called.requests[-1] == ("POST", f"/v1/sessions/{ID}/resume")


def test_move_names_the_place_and_prints_the_session_as_json() -> None:
    moved = {**SESSION, "provider": "gke"}
    called = onmemos("move", ID, "--to", "gke", "--json", turns=[ok(**SESSION), ok(**moved)])
    assert json.loads(called.stdout) == moved
    assert called.bodies[-1] == {"provider": "gke"}
    assert called.requests[-1] == ("POST", f"/v1/sessions/{ID}/move")


def test_what_is_not_waited_for_is_said_as_it_is() -> None:
    called = onmemos("suspend", ID, "--wait", "0", turns=[ok(**SESSION), now("suspending")])
    assert (called.code, called.queries[-1]) == (0, {"wait": 0.0})
    assert called.stderr.startswith("suspending on cloud_run")
    assert called.stderr.endswith(f"; it goes on, onmemos sessions get {ID} shows how\n")


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        (["suspend", ID], "running", "running"),
        (["resume", ID], "suspended", "suspended"),
        (["move", ID, "--to", "gke"], "running", "running"),
    ],
)
def test_what_could_not_be_done_is_1_and_the_reason_is_said(words: list[str], before: str, after: str) -> None:
    called = onmemos(*words, turns=[now(before), now(after, details={"notice": "not done: no room"})])
    assert (called.code, called.stdout) == (1, "")
    assert called.stderr == f"onmemos: {ID} is as it was: not done: no room (409 session_unchanged)\n"


def test_a_provider_that_cannot_have_it_is_1() -> None:
    bad = refusal(400, "egress: got false on gke, wanted true", code="invalid_request")
    called = onmemos("move", ID, "--to", "gke", turns=[ok(**SESSION), bad])
    assert (called.code, called.stderr) == (1, "onmemos: egress: got false on gke, wanted true (400 invalid_request)\n")


def test_a_command_in_a_suspended_session_is_125_and_says_how_to_resume_it() -> None:
    suspended = refusal(409, f"session {ID} is suspended", code="session_suspended")
    called = onmemos("exec", ID, "--", "ls", turns=[suspended])
    assert (called.code, called.stdout) == (125, "")
    assert called.stderr.startswith(f"onmemos: session {ID} is suspended; onmemos resume starts it again")


def test_a_suspended_session_is_listed_and_shown_with_what_is_left_of_its_time() -> None:
    (_, row) = onmemos("sessions", "ls", turns=[ok(sessions=[SUSPENDED], next_page_token=None)]).stdout.splitlines()
    assert row.endswith("42m left")
    lines = onmemos("sessions", "show", ID, turns=[ok(**SUSPENDED, auto_resume=True, long_lived=False)]).stdout
    facts = {name: value.strip() for name, value in (line.split("  ", 1) for line in lines.splitlines())}
    assert facts["ends"] == "suspended, 42m left"
    assert facts["suspended"].startswith("2026-11-25T10:18:00.000Z (")
    assert (facts["auto resume"], facts["long lived"]) == ("yes", "no")
    assert facts["notice"] == "suspended: 2 processes ended"


def test_a_session_on_its_way_back_has_no_end_yet() -> None:
    (_, row) = onmemos(
        "sessions", "ls", turns=[ok(sessions=[{**SUSPENDED, "ttl_left_seconds": None}], next_page_token=None)]
    ).stdout.splitlines()
    assert row.split()[-1] == "-"


@pytest.mark.parametrize("status", ["suspending", "moving"])
def test_the_list_is_filtered_by_the_states_on_the_way(status: str) -> None:
    called = onmemos("sessions", "ls", "--status", status, turns=[ok(sessions=[], next_page_token=None)])
    assert called.queries[0]["status"] == status


def test_update_sends_what_changes() -> None:
    turns = [ok(**SESSION, auto_resume=True), ok(**SESSION, auto_resume=False), ok(**SUSPENDED)]
    called = onmemos("sessions", "update", ID, "--auto-resume", turns=turns[:1])
    assert (called.requests, called.bodies) == ([("PATCH", f"/v1/sessions/{ID}")], [{"auto_resume": True}])
    assert "auto resume  yes" in called.stdout
    called = onmemos("sessions", "update", ID, "--no-auto-resume", "--label", "a=b", turns=turns[1:2])
    assert called.bodies == [{"auto_resume": False, "labels": {"a": "b"}}]
    called = onmemos("sessions", "extend", ID, "--ttl", "42m", turns=turns[2:])
    assert called.stdout.endswith("suspended, 42m left\n")


@pytest.mark.parametrize(
    "words",
    [
        ["suspend"],
        ["resume", ID, "--wait", "soon"],
        ["move", ID],
        ["move", ID, "--to", "auto"],
        ["sessions", "update", ID],
    ],
)
def test_misuse_is_2_and_nothing_is_sent(words: list[str]) -> None:
    called = onmemos(*words)
    assert (called.code, called.stdout, called.requests) == (2, "", [])
