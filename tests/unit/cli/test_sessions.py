"""sessions ls, get, create, extend, rm: what is printed, for people and for scripts."""

import json

import pytest

from tests.unit.cli.invoking import SESSION, onmemos
from tests.unit.sdk.scripted import ok, refusal

ID = SESSION["id"]
OTHER = {**SESSION, "id": "ws-demo-somebody-22", "status": "failed"}


@pytest.mark.parametrize("name", ["ls", "list"])
def test_the_list_is_aligned(name: str) -> None:
    called = onmemos("sessions", name, turns=[ok(sessions=[SESSION, OTHER], next_page_token=None)])
    header, first, second = called.stdout.splitlines()
    assert header.split() == ["ID", "STATUS", "PROVIDER", "TEMPLATE", "NAMESPACE", "USER", "AGE", "ENDS"]
    assert header.index("STATUS") == first.index("running") == second.index("failed")
    assert (called.code, called.stderr) == (0, "")


def test_an_empty_list_has_its_header_alone() -> None:
    assert onmemos("sessions", "ls", turns=[ok(sessions=[], next_page_token=None)]).stdout.startswith("ID ")


def test_filters_are_sent_and_pages_are_followed_up_to_the_limit() -> None:
    words = "--namespace n --user u --status running --provider gke --label a=b --limit 2"
    pages = [ok(sessions=[SESSION], next_page_token="next"), ok(sessions=[OTHER, SESSION], next_page_token=None)]
    called = onmemos("--json", "sessions", "ls", *words.split(), turns=pages)
    assert json.loads(called.stdout) == [SESSION, OTHER]
    where = {"namespace": "n", "user": "u", "status": "running", "provider": "gke", "label": "a=b", "page_size": 3}
    assert called.queries == [where, {**where, "page_token": "next"}]
    assert called.stderr == "There are more than these 2: see --limit.\n"


def test_as_many_as_the_limit_are_not_more() -> None:
    called = onmemos("sessions", "ls", "--limit", "1", turns=[ok(sessions=[SESSION], next_page_token=None)])
    assert called.stderr == ""


def test_get_shows_what_is_known() -> None:
    storage = {"bucket": "b", "mount_path": "/data", "keep": True, "filestore": None}
    lines = onmemos("sessions", "get", ID, turns=[ok(**SESSION, idle_timeout_minutes=5, storage=storage)]).stdout
    facts = dict(line.split("  ", 1) for line in lines.splitlines())
    facts = {name: value.strip() for name, value in facts.items()}
    assert facts["id"] == ID
    assert facts["labels"] == "team=core"
    assert facts["ssh"] == "no"
    assert facts["idle timeout"] == "5 min"
    assert facts["storage keep"] == "yes"
    assert facts["reason"] == "it starts soonest"
    assert "error" not in facts


def test_get_prints_the_session_as_json() -> None:
    assert json.loads(onmemos("sessions", "get", ID, "--json", turns=[ok(**SESSION)]).stdout) == SESSION


def test_create_prints_the_id_alone() -> None:
    called = onmemos("sessions", "create", "python", "--wait", "5", turns=[ok(**SESSION)])
    assert called.stdout == f"{ID}\n"
    assert "running on cloud_run" in called.stderr
    assert called.queries == [{"wait": 5.0}]


def test_create_tells_of_a_session_that_failed() -> None:
    called = onmemos(
        "sessions", "create", "python", turns=[ok(**{**SESSION, "status": "failed", "error": "no\nimage"})]
    )
    assert (called.code, called.stdout) == (1, f"{ID}\n")
    assert called.stderr == f"onmemos: {ID} failed: no image\n"


def test_extend_counts_in_whole_minutes() -> None:
    called = onmemos("sessions", "extend", ID, "--ttl", "90s", turns=[ok(**SESSION)])
    assert (called.requests, called.bodies) == ([("PATCH", f"/v1/sessions/{ID}")], [{"ttl_minutes": 2}])
    assert SESSION["expires_at"] in called.stdout


def test_rm_prints_what_is_gone_and_goes_on_past_what_is_not_there() -> None:
    turns = [ok(id="a", status="deleting"), refusal(404, "Session not found"), ok(id="c", status="deleting")]
    called = onmemos("sessions", "rm", "a", "b", "a", "c", turns=turns)
    assert (called.code, called.stdout) == (1, "a\nc\n")
    assert called.stderr == "onmemos: b: Session not found (404)\n"


def test_rm_gives_one_json_document() -> None:
    turns = [ok(id="a", status="deleting"), ok(id="b", status="deleting")]
    called = onmemos("sessions", "rm", "a", "b", "--json", turns=turns)
    assert [gone["id"] for gone in json.loads(called.stdout)] == ["a", "b"]


def test_rm_of_all_asks_first_and_takes_no_for_an_answer() -> None:
    called = onmemos("sessions", "rm", "--all", turns=[ok(sessions=[SESSION], next_page_token=None)], stdin="n\n")
    assert (called.code, called.stdout) == (1, "")
    assert ID in called.stderr
    assert called.stderr.endswith("onmemos: nothing was deleted\n")
    assert len(called.requests) == 1


@pytest.mark.parametrize(("words", "stdin"), [(["--yes"], None), ([], "y\n")])
def test_rm_of_all_deletes_what_the_filters_leave(words: list[str], stdin: str | None) -> None:
    turns = [ok(sessions=[SESSION], next_page_token=None), ok(id=ID, status="deleting")]
    called = onmemos("sessions", "rm", "--all", "--namespace", "demo", *words, turns=turns, stdin=stdin)
    assert (called.code, called.stdout) == (0, f"{ID}\n")
    assert called.queries[0]["namespace"] == "demo"


def test_rm_of_all_without_an_answer_deletes_nothing() -> None:
    called = onmemos("sessions", "rm", "--all", turns=[ok(sessions=[SESSION], next_page_token=None)], stdin="")
    assert called.code != 0
    assert len(called.requests) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["rm"],
        ["rm", "a", "--all"],
        ["rm", "a", "--user", "me"],
        ["ls", "--limit", "0"],
        ["extend", ID],
        ["get"],
        ["drop"],
    ],
)
def test_misuse_is_2_and_nothing_is_sent(words: list[str]) -> None:
    called = onmemos("sessions", *words)
    assert (called.code, called.stdout, called.requests) == (2, "", [])
