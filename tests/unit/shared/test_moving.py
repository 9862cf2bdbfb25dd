"""Moving a session over fakes: same id, same files, another provider; or the old workspace, untouched."""

import pytest

from shared.errors import (
    InvalidRequest,
    ProviderNotConfigured,
    ProviderUnavailable,
    ProvisioningFailed,
    QuotaExceeded,
    SessionSuspended,
    WorkspaceExhausted,
    WorkspaceLost,
)
from shared.models import Command, ProviderName, Resources, Session, State
from shared.providers.base import Workspace
from shared.reconcile import Deed, Reconciler
from shared.turns import TURN_DEADLINE
from tests.fakes import MemoryProvider
from tests.unit.shared.test_sessions import ME, SPEC, House

GKE, CLOUD_RUN = ProviderName.GKE, ProviderName.CLOUD_RUN
FILES = b"a tar of the work folder"


@pytest.fixture
def gke() -> MemoryProvider:
    return MemoryProvider(GKE)


@pytest.fixture
def house(gke: MemoryProvider) -> House:
    return House(others=(gke,))


async def at_work(house: House) -> Session:
    session = await house.running(SPEC)
    assert session.url is not None
    house.agents.folders[session.url] = FILES
    return session


async def moved(house: House, session: Session) -> Session:
    await house.sessions.move(ME, session.id, GKE)
    await house.deliver()
    return await house.store.get(session.id)


async def test_a_session_moves_with_its_id_and_its_files(house: House, gke: MemoryProvider) -> None:
    session = await at_work(house)
    there = await moved(house, session)
    assert (there.id, there.provider, there.state) == (session.id, GKE, State.RUNNING)
    assert there.url == f"http://gke/{session.id}"
    assert house.agents.folders[there.url] == FILES
    assert there.details["notice"] == "moved from cloud_run: 2 processes ended"
    assert there.expires_at == session.expires_at
    assert (list(house.provider.made), list(gke.made)) == ([], [session.id])
    assert not house.buckets.objects
    assert (await house.sessions.execute(ME, session.id, Command("pwd"))).returncode == 0


async def test_nothing_is_left_when_a_moved_session_is_deleted(house: House, gke: MemoryProvider) -> None:
    session = await at_work(house)
    await moved(house, session)
    await house.sessions.delete(ME, session.id)
    await house.deliver()
    assert house.is_empty()
    assert not gke.made


@pytest.mark.parametrize("fault", [ProvisioningFailed("no such image"), QuotaExceeded("no room")])
async def test_where_the_new_one_does_not_start_the_old_one_goes_on_untouched(
    house: House, gke: MemoryProvider, fault: Exception
) -> None:
    session = await at_work(house)
    gke.fault = fault
    still = await moved(house, session)
    assert (still.provider, still.state, still.url, still.boot_id) == (CLOUD_RUN, State.RUNNING, session.url, "boot-1")
    assert still.details["notice"] == f"not moved to gke: {fault}"
    assert not house.agents.frozen
    assert not gke.made
    assert not house.buckets.objects
    assert (await house.sessions.execute(ME, session.id, Command("pwd"))).returncode == 0


async def test_where_there_is_no_room_for_the_files_the_old_one_goes_on(house: House, gke: MemoryProvider) -> None:
    session = await at_work(house)
    house.agents.restore_fault = WorkspaceExhausted("no space left")
    still = await moved(house, session)
    assert (still.provider, still.state) == (CLOUD_RUN, State.RUNNING)
    assert still.details["notice"] == "not moved to gke: no space left"
    assert not house.agents.frozen
    assert not gke.made


async def test_what_passes_is_tried_again_and_in_the_end_given_up(house: House, gke: MemoryProvider) -> None:
    session = await at_work(house)
    await house.sessions.move(ME, session.id, GKE)
    turn = (await house.store.get(session.id)).turn
    house.agents.restore_fault = WorkspaceLost("broke off")
    with pytest.raises(ProviderUnavailable):
        await house.moving.step(session.id, turn)
    assert (await house.store.get(session.id)).state is State.MOVING
    house.clock.advance(seconds=TURN_DEADLINE.total_seconds())
    await house.moving.step(session.id, turn)
    still = await house.store.get(session.id)
    assert (still.provider, still.state) == (CLOUD_RUN, State.RUNNING)
    assert not gke.made
    assert not house.agents.frozen


async def test_a_crash_after_the_move_leaves_the_old_workspace_to_the_next_delivery(house: House) -> None:
    session = await at_work(house)
    await house.sessions.move(ME, session.id, GKE)
    turn = (await house.store.get(session.id)).turn
    house.provider.delete_fault = ProviderUnavailable("Cloud Run is away")
    with pytest.raises(ProviderUnavailable):
        await house.moving.step(session.id, turn)
    there = await house.store.get(session.id)
    assert (there.provider, there.leaving, there.state) == (GKE, CLOUD_RUN, State.RUNNING)
    assert list(house.provider.made) == [session.id]
    await house.moving.step(session.id, turn)
    assert not house.provider.made
    assert (await house.store.get(session.id)).leaving is None


async def test_the_reconciler_removes_a_workspace_that_its_session_left(house: House) -> None:
    session = await at_work(house)
    await house.sessions.move(ME, session.id, GKE)
    house.provider.delete_fault = ProviderUnavailable("Cloud Run is away")
    with pytest.raises(ProviderUnavailable):
        await house.moving.step(session.id, (await house.store.get(session.id)).turn)
    (action,) = [action async for action in Reconciler(house.ports).run()]
    assert (action.deed, action.reason) == (Deed.DELETE_WORKSPACE, "its session is on gke")
    assert not house.provider.made


async def test_a_move_whose_task_was_lost_is_enqueued_again(house: House, gke: MemoryProvider) -> None:
    session = await at_work(house)
    await house.sessions.move(ME, session.id, GKE)
    house.tasks.queued.clear()
    house.clock.advance(minutes=3)
    assert [action.deed async for action in Reconciler(house.ports).run()] == [Deed.MOVE]
    await house.deliver()
    assert list(gke.made) == [session.id]


async def test_a_session_deleted_while_it_moves_leaves_nothing_on_either(house: House, gke: MemoryProvider) -> None:
    session = await at_work(house)
    await house.sessions.move(ME, session.id, GKE)
    turn = (await house.store.get(session.id)).turn

    async def delete(_: Session) -> None:
        gke.on_create = None
        await house.sessions.delete(ME, session.id)
        await house.deliver()

    gke.on_create = delete
    house.tasks.queued = {n: q for n, q in house.tasks.queued.items() if q[0] != "move"}
    await house.moving.step(session.id, turn)
    assert house.is_empty()
    assert not gke.made


async def test_moving_to_where_it_is_changes_nothing(house: House) -> None:
    session = await at_work(house)
    assert (await house.sessions.move(ME, session.id, CLOUD_RUN)).version == (await house.store.get(session.id)).version


async def test_a_suspended_session_is_not_moved(house: House) -> None:
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    await house.deliver()
    with pytest.raises(SessionSuspended, match="is suspended; wanted running"):
        await house.sessions.move(ME, session.id, GKE)


async def test_a_combination_that_the_target_has_not_is_named_and_nothing_begins(
    house: House, gke: MemoryProvider
) -> None:
    session = await at_work(house)
    gke.most_memory_bytes = Resources().memory_bytes - 1
    with pytest.raises(InvalidRequest, match=r"resources\.memory"):
        await house.sessions.move(ME, session.id, GKE)
    with pytest.raises(ProviderNotConfigured, match=r"got 'workstations'.*wanted 'cloud_run' or 'gke'"):
        await house.sessions.move(ME, session.id, ProviderName.WORKSTATIONS)
    assert (await house.store.get(session.id)).state is State.RUNNING


async def test_commands_wait_while_a_session_moves(house: House) -> None:
    session = await at_work(house)
    await house.sessions.move(ME, session.id, GKE)
    house.delivers_meanwhile = True
    assert (await house.sessions.execute(ME, session.id, Command("pwd"))).returncode == 0
    assert house.agents.ran == [(session.id, Command("pwd"))]
    assert (await house.sessions.get(ME, session.id)).provider is GKE


async def test_a_delivery_that_fails_leaves_alone_what_another_one_has_moved(house: House, gke: MemoryProvider) -> None:
    session = await at_work(house)
    await house.sessions.move(ME, session.id, GKE)
    turn = (await house.store.get(session.id)).turn
    create = gke.create

    async def late(session: Session, env: dict[str, str], bucket: str) -> Workspace:
        gke.create = create  # type: ignore[method-assign]
        await house.moving.step(session.id, turn)
        raise ProvisioningFailed("it is there already")

    gke.create = late  # type: ignore[method-assign]
    await house.moving.step(session.id, turn)
    there = await house.sessions.get(ME, session.id)
    assert (there.provider, there.state) == (GKE, State.RUNNING)
    assert there.url is not None
    assert house.agents.folders[there.url] == FILES
    assert (list(house.provider.made), list(gke.made)) == ([], [session.id])


async def test_what_did_not_start_is_removed_by_the_next_delivery_if_it_must_be(
    house: House, gke: MemoryProvider
) -> None:
    session = await at_work(house)
    await house.sessions.move(ME, session.id, GKE)
    turn = (await house.store.get(session.id)).turn
    house.agents.restore_fault = WorkspaceExhausted("no space left")
    gke.delete_fault = ProviderUnavailable("Kubernetes is away")
    with pytest.raises(ProviderUnavailable):
        await house.moving.step(session.id, turn)
    assert (await house.sessions.execute(ME, session.id, Command("pwd"))).returncode == 0, "it goes on meanwhile"
    await house.moving.step(session.id, turn)
    still = await house.store.get(session.id)
    assert (still.provider, still.state, still.leaving) == (CLOUD_RUN, State.RUNNING, None)
    assert not gke.made


async def test_what_was_left_behind_is_removed_before_the_session_moves_there_again(house: House) -> None:
    session = await at_work(house)
    await house.sessions.move(ME, session.id, GKE)
    house.provider.delete_fault = ProviderUnavailable("Cloud Run is away")
    with pytest.raises(ProviderUnavailable):
        await house.deliver()
    house.tasks.queued.clear()
    seen = []

    async def see(session: Session) -> None:
        seen.append("made")

    delete = house.provider.delete

    async def deleted(session_id: str) -> None:
        seen.append("deleted")
        await delete(session_id)

    house.provider.on_create = see
    house.provider.delete = deleted  # type: ignore[method-assign]
    await house.sessions.move(ME, session.id, CLOUD_RUN)
    await house.deliver()
    back = await house.store.get(session.id)
    assert (back.provider, back.state, back.leaving) == (CLOUD_RUN, State.RUNNING, None)
    assert seen == ["deleted", "made"]
