"""What crashes leave behind is found and put right; what is not ours, or is well, is left alone."""

from dataclasses import replace

import pytest

from shared.models import Idempotency, State
from shared.reconcile import Deed, Reconciler
from tests.fakes import a_session
from tests.unit.shared.test_sessions import ME, SPEC, House


@pytest.fixture
def house() -> House:
    return House()


async def reconcile(house: House, *, dry_run: bool = False) -> list[tuple[Deed, str]]:
    return [(action.deed, action.target) async for action in Reconciler(house.ports).run(dry_run=dry_run)]


async def test_a_house_in_order_is_left_alone(house: House) -> None:
    await house.running()
    house.clock.advance(minutes=5)
    assert await reconcile(house) == []


async def test_a_session_that_never_started_is_started(house: House) -> None:
    session = await house.sessions.create(ME, SPEC)
    house.tasks.queued.clear()
    assert await reconcile(house) == []  # it is young: its task may be running
    house.clock.advance(minutes=3)
    assert await reconcile(house) == [(Deed.PROVISION, session.id)]
    await house.deliver()
    assert house.store.documents[session.id].state is State.RUNNING


async def test_a_deletion_that_was_not_finished_is_finished(house: House) -> None:
    session = await house.running()
    await house.sessions.delete(ME, session.id)
    house.tasks.queued.clear()
    house.clock.advance(minutes=3)
    assert await reconcile(house) == [(Deed.TEARDOWN, session.id)]
    await house.deliver()
    assert house.is_empty()


async def test_a_session_whose_expiry_was_missed_is_expired(house: House) -> None:
    session = await house.running()
    house.tasks.queued.clear()
    house.clock.advance(minutes=61)
    assert await reconcile(house) == [(Deed.EXPIRE, session.id)]
    await house.deliver()
    assert house.is_empty()


async def test_resources_of_sessions_that_are_gone_are_deleted(house: House) -> None:
    alive = await house.running()
    ghost = a_session(id="ws-ghost-user-1700000000")
    house.provider.made[ghost.id] = {}
    house.buckets.made.add(ghost.id)
    await house.tasks.expire(ghost, house.clock())
    found = await reconcile(house, dry_run=True)
    assert {deed for deed, _ in found} == {Deed.DELETE_WORKSPACE, Deed.DELETE_BUCKET, Deed.DELETE_TASK}
    assert ghost.id in house.provider.made
    assert await reconcile(house) == found
    assert list(house.provider.made) == [alive.id]
    assert house.buckets.made == {alive.id}
    assert len(house.tasks.queued) == 1
    assert await reconcile(house) == []


async def test_old_idempotency_keys_are_forgotten(house: House) -> None:
    house.store.records["k"] = Idempotency("k", "d", "ws-x", house.clock())
    await house.store.create(replace(a_session(), expires_at=house.clock.now.replace(year=2030)))
    assert (await reconcile(house, dry_run=True)) == [(Deed.FORGET_KEYS, "idempotency")]
    assert house.store.records
    await reconcile(house)
    assert not house.store.records
