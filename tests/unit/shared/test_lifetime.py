"""How long sessions live: another TTL, an idle timeout, and what faults and late deliveries do to them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.callers import Caller
from shared.errors import ProviderUnavailable, SessionNotFound
from shared.models import Session, State
from shared.sessions import Changes
from shared.steps import ASKED_AGAIN
from tests.unit.shared.test_sessions import ME, SPEC, House

IDLE = replace(SPEC, idle_timeout_minutes=10)


@pytest.fixture
def house() -> House:
    return House()


async def extended(house: House, session: Session, minutes: int) -> Session:
    return await house.sessions.update(ME, session.id, Changes(ttl_minutes=minutes))


async def test_a_new_ttl_counts_from_now(house: House) -> None:
    session = await house.running()
    house.clock.advance(minutes=30)
    changed = await extended(house, session, 90)
    assert changed.expires_at == house.clock() + timedelta(minutes=90)
    assert changed.expiry_generation == session.expiry_generation + 1


async def test_an_extended_session_outlives_its_first_expiry_and_ends_at_the_second(house: House) -> None:
    session = await house.running()
    await extended(house, session, 180)
    house.clock.advance(minutes=61)
    await house.deliver()
    await house.steps.expire(session.id, session.expiry_generation)  # a stale task, delivered all the same
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING
    house.clock.advance(minutes=120)
    await house.deliver()
    await house.deliver()
    assert house.is_empty()


async def test_a_shorter_ttl_ends_the_session_sooner(house: House) -> None:
    session = await house.running()
    await extended(house, session, 1)
    house.clock.advance(minutes=2)
    await house.deliver()
    with pytest.raises(SessionNotFound):
        await house.sessions.get(ME, session.id)


async def test_extending_takes_the_old_expirys_task_back(house: House) -> None:
    session = await house.running()
    assert len(house.tasks.queued) == 1
    await extended(house, session, 180)
    assert len(house.tasks.queued) == 1


async def test_a_ttl_that_cannot_be_enqueued_changes_nothing(house: House) -> None:
    session = await house.running()
    house.tasks.fault = ProviderUnavailable("Cloud Tasks is away")
    with pytest.raises(ProviderUnavailable):
        await extended(house, session, 180)
    assert (await house.sessions.get(ME, session.id)).expires_at == session.expires_at


async def test_labels_take_the_place_of_those_before_and_leave_the_ttl(house: House) -> None:
    session = await house.running()
    changed = await house.sessions.update(ME, session.id, Changes(labels={"stage": "two"}))
    assert (changed.labels, changed.expires_at) == ({"stage": "two"}, session.expires_at)
    assert changed.expiry_generation == session.expiry_generation


async def test_nobody_changes_another_tenants_session(house: House) -> None:
    session = await house.running()
    with pytest.raises(SessionNotFound):
        await house.sessions.update(Caller("other", "key"), session.id, Changes(ttl_minutes=1))


async def test_a_change_that_meets_another_write_is_made_on_top_of_it(house: House) -> None:
    session = await house.running()
    seen, store = await house.store.get(session.id), house.store

    async def stale(_: str) -> Session:
        store.get = type(store).get.__get__(store)  # type: ignore[method-assign]
        await store.update(replace(seen, boots=7))
        return seen

    store.get = stale  # type: ignore[method-assign,assignment]
    changed = await extended(house, session, 180)
    assert changed.boots == 7
    assert changed.expires_at == house.clock() + timedelta(minutes=180)


async def test_a_session_in_which_nothing_happens_goes_at_its_idle_timeout(house: House) -> None:
    session = await house.running(IDLE)
    house.agents.idle[session.id] = 600
    house.clock.advance(minutes=10)
    await house.deliver()
    await house.deliver()
    assert house.is_empty()


async def test_a_busy_session_is_looked_at_again_when_it_may_be_idle(house: House) -> None:
    session = await house.running(IDLE)
    house.agents.idle[session.id] = 240
    house.clock.advance(minutes=10)
    await house.deliver()
    (look,) = [at for name, at in house.tasks.looks.items() if name in house.tasks.queued]
    assert look == house.clock() + timedelta(minutes=6)
    house.agents.idle[session.id] = 0
    house.clock.advance(minutes=6)
    await house.deliver()
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING


async def test_a_silent_workspace_is_not_taken_for_an_idle_one(house: House) -> None:
    session = await house.running(IDLE)
    house.agents.silent.add(session.id)
    house.clock.advance(minutes=10)
    await house.deliver()
    assert house.store.documents[session.id].state is State.RUNNING
    (look,) = [at for name, at in house.tasks.looks.items() if name in house.tasks.queued]
    assert look == house.clock() + ASKED_AGAIN


async def test_a_busy_session_still_ends_when_its_ttl_does(house: House) -> None:
    session = await house.running(IDLE)
    for _ in range(6):
        house.clock.advance(minutes=10)
        await house.deliver()
    await house.deliver()
    assert session.id not in house.store.documents
    assert not house.provider.made


async def test_without_an_idle_timeout_nobody_asks(house: House) -> None:
    session = await house.running()
    house.agents.idle[session.id] = 10_000
    house.clock.advance(minutes=30)
    await house.steps.expire(session.id, session.expiry_generation)
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING


async def test_a_session_that_is_extended_while_its_idleness_is_looked_at_lives_on(house: House) -> None:
    session = await house.running(IDLE)
    house.clock.advance(minutes=10)
    look = house.agents.idle_s

    async def slow_look(session: Session) -> float:
        house.agents.idle_s = look  # type: ignore[method-assign]
        await extended(house, session, 90)
        return 600.0

    house.agents.idle_s = slow_look  # type: ignore[method-assign]
    await house.steps.expire(session.id, session.expiry_generation)
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING
