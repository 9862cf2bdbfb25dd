"""What crashes leave behind is found and put right; what is not ours, or is well, is left alone."""

from contextlib import aclosing
from dataclasses import replace

import pytest

from shared.errors import ProviderUnavailable
from shared.models import Idempotency, ProviderName, Session, State
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


async def test_a_step_that_is_there_is_not_enqueued_again(house: House) -> None:
    """It runs, or is tried again: a second one would carry the same gigabytes at the same time."""
    await house.sessions.create(ME, SPEC)
    house.clock.advance(minutes=3)
    assert await reconcile(house) == []


async def test_a_session_that_never_started_is_also_looked_at_for_idleness(house: House) -> None:
    session = await house.sessions.create(ME, replace(SPEC, idle_timeout_minutes=10))
    house.tasks.queued.clear()
    house.tasks.used.clear()
    house.clock.advance(minutes=3)
    assert await reconcile(house) == [(Deed.PROVISION, session.id)]
    await house.deliver()
    house.agents.idle[session.id] = 600.0
    house.clock.advance(minutes=7)
    await house.deliver()
    await house.deliver()
    assert not house.store.documents


async def test_a_provider_that_is_away_keeps_nothing_else_from_being_put_right(house: House) -> None:
    ghost = a_session(id="ws-ghost-user-1700000000")
    house.provider.made[ghost.id] = {}
    house.buckets.made.add(ghost.id)
    house.provider.delete_fault = ProviderUnavailable("Cloud Run is away")
    with pytest.raises(ProviderUnavailable, match="Cloud Run is away"):
        await reconcile(house)
    assert not house.buckets.made


async def test_a_workspace_whose_session_comes_back_to_it_meanwhile_is_left_alone(house: House) -> None:
    session = await house.running()
    away = await house.store.update(replace(session, provider=ProviderName.GKE))
    async with aclosing(Reconciler(house.ports).run(dry_run=True)) as actions:
        assert [action.deed async for action in actions] == [Deed.DELETE_WORKSPACE]
    get_many = house.store.get_many

    async def then_back(session_ids: list[str]) -> dict[str, Session]:
        found = await get_many(session_ids)
        house.store.get_many = get_many  # type: ignore[method-assign]
        await house.store.update(replace(away, target=ProviderName.CLOUD_RUN))
        return found

    house.store.get_many = then_back  # type: ignore[method-assign]
    await reconcile(house)
    assert list(house.provider.made) == [session.id]
