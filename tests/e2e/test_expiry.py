"""What ends by itself: TTLs, changed TTLs and idle timeouts. The shortest of each is a minute, so all run at once."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from tests.e2e.remains import Remains, is_gone, until

PATIENCE_S = 100.0


@dataclass(frozen=True)
class Ending:
    """Sessions that have a minute left, by why they end; each carries a mark of its own."""

    client: OnMemOSClient
    marks: dict[str, str]
    ids: dict[str, str]
    expires_at: datetime


@pytest.fixture(scope="module")
def ending(stack: Stack) -> Iterator[Ending]:
    marks = {why: f"m{uuid.uuid4().hex[:8]}" for why in ("ttl", "shortened", "idle", "busy")}
    options = {"ttl": {"ttl_minutes": 1}, "shortened": {"ttl_minutes": 600}}
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        made = {
            why: client.create_session(
                {"namespace": mark, "user": "dev", **options.get(why, {"idle_timeout_minutes": 1})}, wait=60
            )
            for why, mark in marks.items()
        }
        ids = {why: session["id"] for why, session in made.items()}
        client.execute_session(ids["busy"], "sleep 600 >/dev/null 2>&1 &")
        client.update_session(ids["shortened"], ttl_minutes=1)
        yield Ending(client, marks, ids, datetime.fromisoformat(made["ttl"]["expires_at"] or ""))


def test_at_expiry_the_session_and_all_of_it_go_within_five_seconds(stack: Stack, ending: Ending) -> None:
    remains = Remains(stack, ending.marks["ttl"])
    until(lambda: not remains.found(), "the session is gone", PATIENCE_S)
    assert (datetime.now(UTC) - ending.expires_at).total_seconds() < 5
    assert is_gone(ending.client, ending.ids["ttl"])


def test_a_session_whose_ttl_was_shortened_goes_with_every_task_that_it_had(stack: Stack, ending: Ending) -> None:
    remains = Remains(stack, ending.marks["shortened"])
    until(lambda: not remains.found(), "the session is gone", PATIENCE_S)


def test_a_session_in_which_nothing_happens_goes_at_its_idle_timeout(stack: Stack, ending: Ending) -> None:
    remains = Remains(stack, ending.marks["idle"])
    until(lambda: not remains.found(), "the session is gone", PATIENCE_S)


def test_a_session_in_which_a_process_runs_is_not_idle(ending: Ending) -> None:
    until(lambda: is_gone(ending.client, ending.ids["idle"]), "the idle one is gone", PATIENCE_S)
    assert ending.client.get_session(ending.ids["busy"])["status"] == "running"
    ending.client.delete_session(ending.ids["busy"])


def test_a_ttl_may_go_beyond_what_cloud_tasks_schedules(ending: Ending) -> None:
    session = ending.client.create_session({"namespace": ending.marks["ttl"], "user": "long"}, wait=0)
    changed = ending.client.update_session(session["id"], ttl_minutes=100_000, labels={"stage": "two"})
    assert changed["labels"] == {"stage": "two"}
    left = datetime.fromisoformat(changed["expires_at"] or "") - datetime.now(UTC)
    assert 99_999 <= left.total_seconds() / 60 <= 100_000
    listed = ending.client.iter_sessions(label="stage=two", namespace=ending.marks["ttl"])
    assert [one["id"] for one in listed] == [session["id"]]
    ending.client.delete_session(session["id"])
