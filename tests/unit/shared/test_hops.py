"""A time beyond what Cloud Tasks schedules is reached in hops, whose names can be worked out again."""

from datetime import datetime, timedelta

import pytest

from shared.tasks import HORIZON, next_hop
from tests.fakes import START, a_session

CLOUD_TASKS_LIMIT = timedelta(days=30)  # ahead: cloud.google.com/tasks/docs/quotas


@pytest.mark.parametrize("days", [1, 29, 30, 58, 100, 365])
def test_every_hop_is_one_that_cloud_tasks_takes_and_the_last_is_the_expiry(days: int) -> None:
    session = a_session(created_at=START, expires_at=START + timedelta(days=days))
    now, hops = START, 0
    while now < session.expires_at:
        at = next_hop(session, now)
        assert now < at <= now + CLOUD_TASKS_LIMIT
        now, hops = at, hops + 1
    assert now == session.expires_at
    assert hops == -(-days // HORIZON.days)


@pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1), timedelta(days=12)])
def test_a_hop_is_the_same_whenever_it_is_asked_for(late: timedelta) -> None:
    session = a_session(created_at=START, expires_at=START + timedelta(days=100))
    assert next_hop(session, START + HORIZON + late) == START + 2 * HORIZON


def test_a_session_that_was_extended_goes_on_from_where_it_is() -> None:
    later: datetime = START + timedelta(days=20)
    session = a_session(created_at=START, expires_at=later + timedelta(days=365))
    assert next_hop(session, later) == START + HORIZON
