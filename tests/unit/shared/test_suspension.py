"""Suspending and resuming over fakes: what survives, what a crash or a fault leaves, and when time runs."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.answers import session_json
from shared.callers import Caller
from shared.errors import (
    ProviderUnavailable,
    ProvisioningFailed,
    SessionFailed,
    SessionNotFound,
    SessionSuspended,
    WorkspaceExhausted,
    WorkspaceLost,
)
from shared.models import NEVER, Command, Session, State
from shared.providers.base import Condition, Health, Workspace
from shared.reconcile import Deed, Reconciler
from shared.sessions import Changes
from shared.turns import TURN_DEADLINE
from tests.unit.shared.test_sessions import ME, SPEC, House

FILES = b"a tar of the work folder"


@pytest.fixture
def house() -> House:
    return House()


async def at_work(house: House, **changes: object) -> Session:
    """A session that runs and has files."""
    session = await house.running(replace(SPEC, **changes))  # type: ignore[arg-type]
    assert session.url is not None
    house.agents.folders[session.url] = FILES
    return session


async def suspended(house: House, session: Session) -> Session:
    await house.sessions.suspend(ME, session.id)
    await house.deliver()
    found = await house.store.get(session.id)
    assert found.state is State.SUSPENDED
    return found


def forget_work_folder(house: House, session: Session) -> None:
    """What every platform does that stops a container."""
    assert session.url is not None
    house.agents.folders.pop(session.url, None)
    house.agents.frozen.discard(session.url)
    house.agents.boots[session.id] = "boot-2"


async def resumed(house: House, session: Session) -> Session:
    forget_work_folder(house, replace(session, url=f"http://cloud_run/{session.id}"))
    await house.sessions.resume(ME, session.id)
    await house.deliver()
    return await house.store.get(session.id)


async def test_the_files_of_a_suspended_session_are_there_when_it_is_resumed(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    assert house.provider.stopped == {session.id}
    assert asleep.url is None
    awake = await resumed(house, asleep)
    assert awake.state is State.RUNNING
    assert awake.url is not None
    assert house.agents.folders[awake.url] == FILES
    assert not house.buckets.objects, "the snapshot costs money"
    assert (await house.sessions.execute(ME, session.id, Command("pwd"))).returncode == 0


async def test_processes_end_and_that_is_said(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    assert asleep.details["notice"] == "suspended: 2 processes ended"
    awake = await resumed(house, asleep)
    assert awake.boots == session.boots + 1, "it is another process under the same handle"


async def test_the_ttl_stands_still_while_a_session_is_suspended(house: House) -> None:
    session = await at_work(house)
    house.clock.advance(minutes=10)
    asleep = await suspended(house, session)
    assert (asleep.expires_at, asleep.ttl_left) == (NEVER, timedelta(minutes=50))
    house.clock.advance(days=40)
    await house.deliver()
    assert (await house.sessions.get(ME, session.id)).state is State.SUSPENDED
    await resumed(house, asleep)
    awake = await house.sessions.get(ME, session.id)
    assert awake.expires_at == house.clock() + timedelta(minutes=50)
    assert awake.ttl_left is None
    house.clock.advance(minutes=50)
    await house.deliver()
    await house.deliver()
    assert house.is_empty()


async def test_a_suspended_session_is_shown_with_what_is_left_of_its_time(house: House) -> None:
    session = await at_work(house)
    shown = session_json(await suspended(house, session))
    assert shown["status"] == "suspended"
    assert shown["expires_at"] is None
    assert shown["ttl_left_seconds"] == 3600
    assert shown["suspended_at"] == session_json(session)["created_at"]
    assert session_json(session)["suspended_at"] is None


async def test_a_suspended_sessions_ttl_can_be_changed_and_counts_from_its_resumption(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    changed = await house.sessions.update(ME, session.id, Changes(ttl_minutes=5))
    assert (changed.state, changed.expires_at) == (State.SUSPENDED, NEVER)
    house.clock.advance(hours=3)
    awake = await resumed(house, asleep)
    assert awake.expires_at == house.clock() + timedelta(minutes=5)


async def test_commands_are_refused_while_it_is_suspended(house: House) -> None:
    session = await at_work(house)
    await suspended(house, session)
    with pytest.raises(SessionSuspended, match="resume it first"):
        await house.sessions.execute(ME, session.id, Command("pwd"))
    with pytest.raises(SessionSuspended):
        await house.sessions.connect(ME, session.id)


async def test_a_command_resumes_a_session_that_was_made_so(house: House) -> None:
    session = await at_work(house, auto_resume=True)
    await suspended(house, session)
    forget_work_folder(house, session)

    house.delivers_meanwhile = True
    assert (await house.sessions.execute(ME, session.id, Command("pwd"))).stdout == "pwd\n"
    assert session.url is not None
    assert house.agents.folders[session.url] == FILES


async def test_suspending_and_resuming_twice_is_not_an_error(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    assert (await house.sessions.suspend(ME, session.id)).state is State.SUSPENDED
    awake = await resumed(house, asleep)
    assert (await house.sessions.resume(ME, session.id)).version == awake.version


async def test_nobody_suspends_or_resumes_another_tenants_session(house: House) -> None:
    session = await at_work(house)
    stranger = Caller("other", "key")
    with pytest.raises(SessionNotFound):
        await house.sessions.suspend(stranger, session.id)
    await suspended(house, session)
    with pytest.raises(SessionNotFound):
        await house.sessions.resume(stranger, session.id)


async def test_a_session_that_failed_cannot_be_suspended(house: House) -> None:
    session = await at_work(house)
    await house.store.update((await house.store.get(session.id)).moved(State.FAILED, error="lost"))
    with pytest.raises(SessionFailed, match="lost"):
        await house.sessions.suspend(ME, session.id)


async def test_a_provider_that_keeps_files_needs_no_snapshot(house: House) -> None:
    house.provider.keeps = True
    session = await at_work(house)
    asleep = await suspended(house, session)
    assert asleep.snapshot is None
    assert not house.buckets.objects
    assert asleep.details["notice"] == "suspended: 2 processes ended"


async def test_what_was_saved_before_a_crash_is_not_saved_again(house: House) -> None:
    """A workspace that is stopped already has nothing to save."""
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    stop = house.provider.stop

    async def crash(session_id: str) -> None:
        await stop(session_id)
        house.agents.silent.add(session_id)
        raise ProviderUnavailable("the answer was lost")

    house.provider.stop = crash  # type: ignore[method-assign]
    turn = (await house.store.get(session.id)).turn
    with pytest.raises(ProviderUnavailable):
        await house.suspension.step(session.id, turn)
    house.provider.stop = stop  # type: ignore[method-assign]
    await house.suspension.step(session.id, turn)
    asleep = await house.store.get(session.id)
    assert asleep.state is State.SUSPENDED
    assert list(house.buckets.objects.values()) == [FILES]


async def test_a_session_whose_files_cannot_be_saved_goes_on_running(house: House) -> None:
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    turn = (await house.store.get(session.id)).turn
    house.agents.archive_fault = WorkspaceLost("broke off")
    with pytest.raises(ProviderUnavailable):
        await house.suspension.step(session.id, turn)
    assert session.url in house.agents.frozen
    house.clock.advance(seconds=TURN_DEADLINE.total_seconds())
    await house.suspension.step(session.id, turn)
    still = await house.store.get(session.id)
    assert still.state is State.RUNNING
    assert still.details["notice"] == "not suspended: broke off"
    assert not house.agents.frozen
    assert not house.provider.stopped


async def test_a_session_whose_files_are_saved_is_never_left_running_again(house: House) -> None:
    """Its workspace may be gone already, and then its files with it."""
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    turn = (await house.store.get(session.id)).turn

    async def away(session_id: str) -> None:
        raise ProviderUnavailable(f"Cloud Run is away from {session_id}")

    stop, house.provider.stop = house.provider.stop, away  # type: ignore[method-assign]
    for _ in range(3):
        house.clock.advance(seconds=TURN_DEADLINE.total_seconds())
        with pytest.raises(ProviderUnavailable):
            await house.suspension.step(session.id, turn)
    house.provider.stop = stop  # type: ignore[method-assign]
    await house.suspension.step(session.id, turn)
    assert (await house.store.get(session.id)).state is State.SUSPENDED


async def test_a_workspace_that_is_gone_when_it_is_suspended_is_lost(house: House) -> None:
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    house.provider.made.clear()
    house.agents.silent.add(session.id)
    await house.suspension.step(session.id, (await house.store.get(session.id)).turn)
    assert (await house.store.get(session.id)).state is State.FAILED


async def test_a_stale_step_of_an_earlier_turn_does_nothing(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    await resumed(house, asleep)
    await house.sessions.suspend(ME, session.id)
    before = await house.store.get(session.id)
    await house.suspension.step(session.id, asleep.turn)
    assert (await house.store.get(session.id)).version == before.version


async def test_a_session_that_cannot_be_resumed_stays_suspended_with_its_files(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    house.provider.fault = ProvisioningFailed("no room")
    house.clock.advance(hours=1)
    refused = await resumed(house, asleep)
    assert (refused.state, refused.expires_at, refused.ttl_left) == (State.SUSPENDED, NEVER, asleep.ttl_left)
    assert refused.details["notice"] == "not resumed: no room"
    awake = await resumed(house, refused)
    assert awake.url is not None
    assert house.agents.folders[awake.url] == FILES


async def test_a_session_whose_files_have_no_room_stays_suspended_with_them(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    house.agents.restore_fault = WorkspaceExhausted("no space left")
    refused = await resumed(house, asleep)
    assert (refused.state, refused.details["notice"]) == (State.SUSPENDED, "not resumed: no space left")
    assert list(house.buckets.objects.values()) == [FILES]


async def test_a_snapshot_that_was_changed_is_not_put_back(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    (key,) = house.buckets.objects
    house.buckets.objects[key] = FILES.upper()
    with pytest.raises(ProviderUnavailable, match="CRC32C"):
        await resumed(house, asleep)
    house.clock.advance(seconds=TURN_DEADLINE.total_seconds())
    await house.steps.provision(session.id)
    assert (await house.store.get(session.id)).state is State.SUSPENDED


async def test_a_resumption_that_is_delivered_twice_puts_files_back_once(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    forget_work_folder(house, session)
    await house.sessions.resume(ME, asleep.id)
    await asyncio.gather(house.steps.provision(session.id), house.steps.provision(session.id), return_exceptions=True)
    assert len(house.agents.restored) == 1
    assert (await house.store.get(session.id)).state is State.RUNNING


async def test_what_cannot_be_enqueued_changes_nothing(house: House) -> None:
    session = await at_work(house)
    house.tasks.fault = ProviderUnavailable("Cloud Tasks is away")
    with pytest.raises(ProviderUnavailable):
        await house.sessions.suspend(ME, session.id)
    house.tasks.fault = None
    assert (await house.store.get(session.id)).state is State.RUNNING
    asleep = await suspended(house, session)
    house.tasks.fault = ProviderUnavailable("Cloud Tasks is away")
    with pytest.raises(ProviderUnavailable):
        await house.sessions.resume(ME, asleep.id)
    now = await house.store.get(session.id)
    assert (now.state, now.expires_at, now.ttl_left) == (State.SUSPENDED, NEVER, asleep.ttl_left)


async def test_a_session_deleted_while_it_is_suspended_leaves_nothing(house: House) -> None:
    session = await at_work(house)
    await suspended(house, session)
    await house.sessions.delete(ME, session.id)
    await house.deliver()
    assert house.is_empty()
    assert not house.buckets.objects


async def test_a_session_deleted_while_it_is_being_suspended_leaves_nothing(house: House) -> None:
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    turn = (await house.store.get(session.id)).turn
    await house.sessions.delete(ME, session.id)
    await house.deliver()
    await house.suspension.step(session.id, turn)
    assert house.is_empty()


async def test_a_suspension_whose_task_was_lost_is_enqueued_again(house: House) -> None:
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    house.tasks.queued.clear()
    house.clock.advance(minutes=3)
    deeds = [action.deed async for action in Reconciler(house.ports).run()]
    assert deeds == [Deed.SUSPEND]
    await house.deliver()
    assert (await house.store.get(session.id)).state is State.SUSPENDED


async def test_the_reconciler_leaves_a_suspended_session_alone(house: House) -> None:
    session = await at_work(house)
    await suspended(house, session)
    house.clock.advance(days=90)
    assert [action async for action in Reconciler(house.ports).run()] == []


async def test_what_its_platform_stopped_is_suspended_where_that_keeps_its_files(house: House) -> None:
    house.provider.keeps = True
    session = await at_work(house)
    house.agents.silent.add(session.id)
    house.provider.conditions[session.id] = Condition(Health.STOPPED, "idle for 20 minutes")
    seen = await house.sessions.get(ME, session.id)
    assert seen.state is State.SUSPENDED
    assert seen.details["notice"] == "suspended by its platform: idle for 20 minutes"


async def test_what_its_platform_stopped_is_lost_where_it_keeps_no_files(house: House) -> None:
    session = await at_work(house)
    house.agents.silent.add(session.id)
    house.provider.conditions[session.id] = Condition(Health.STOPPED, "stopped by hand")
    seen = await house.sessions.get(ME, session.id)
    assert (seen.state, seen.error) == (State.FAILED, "the workspace was lost: stopped by hand")


async def test_the_ttl_stands_still_from_the_call_on(house: House) -> None:
    """Whoever suspends a session because its time is almost up must not lose it while its files are saved."""
    session = await at_work(house)
    house.clock.advance(minutes=59)
    await house.sessions.suspend(ME, session.id)
    house.clock.advance(minutes=5)
    assert (await house.sessions.get(ME, session.id)).state is State.SUSPENDING
    await house.steps.expire(session.id, session.expiry_generation)
    assert [action async for action in Reconciler(house.ports).run()] == []
    await house.deliver()
    asleep = await house.store.get(session.id)
    assert (asleep.state, asleep.ttl_left) == (State.SUSPENDED, timedelta(minutes=1))


async def test_a_session_that_is_not_suspended_has_the_time_that_it_had(house: House) -> None:
    session = await at_work(house)
    house.clock.advance(minutes=50)
    await house.sessions.suspend(ME, session.id)
    house.agents.archive_fault = WorkspaceLost("broke off")
    house.clock.advance(seconds=TURN_DEADLINE.total_seconds())
    await house.deliver()
    still = await house.store.get(session.id)
    assert (still.state, still.expires_at) == (State.RUNNING, house.clock() + timedelta(minutes=10))
    house.clock.advance(minutes=10)
    await house.deliver()
    await house.deliver()
    assert house.is_empty()


@pytest.mark.parametrize("silence", [WorkspaceLost("its proxy answered 404"), ProviderUnavailable("no token")])
async def test_a_crash_after_the_stop_is_gone_on_with_where_files_are_kept(house: House, silence: Exception) -> None:
    """Nobody is there to stand still any more, and whatever stands before it says that in its own way."""
    house.provider.keeps = True
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    house.tasks.queued.clear()
    await house.provider.stop(session.id)

    async def refuse(session: Session, lease_s: float) -> int:
        raise silence

    house.agents.freeze = refuse  # type: ignore[method-assign]
    await house.suspension.step(session.id, (await house.store.get(session.id)).turn)
    asleep = await house.store.get(session.id)
    assert (asleep.state, asleep.details["notice"]) == (State.SUSPENDED, "suspended: what ran in it ended")


async def test_two_deliveries_that_save_at_once_do_not_spoil_each_others_files(house: House) -> None:
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    turn = (await house.store.get(session.id)).turn
    plain = house.agents.archive

    async def archive(session: Session) -> AsyncIterator[bytes]:
        """In the middle of it, the other delivery comes and goes."""
        house.agents.archive = plain  # type: ignore[method-assign]
        await house.suspension.step(session.id, turn)
        yield b"the same files, put together in another order"

    house.agents.archive = archive  # type: ignore[method-assign]
    await house.suspension.step(session.id, turn)
    asleep = await house.store.get(session.id)
    assert asleep.state is State.SUSPENDED
    assert list(house.buckets.objects.values()) == [FILES]
    house.tasks.queued.clear()
    awake = await resumed(house, asleep)
    assert awake.url is not None
    assert house.agents.folders[awake.url] == FILES
    assert not house.buckets.objects


async def test_a_session_whose_bucket_is_refused_goes_on_running_at_once(house: House) -> None:
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    house.buckets.fault = ProvisioningFailed("Cloud Storage refused the bucket")
    await house.deliver()
    still = await house.store.get(session.id)
    assert (still.state, still.details["notice"]) == (
        State.RUNNING,
        "not suspended: Cloud Storage refused the bucket",
    )
    assert not house.agents.frozen


async def test_what_let_it_run_on_and_crashed_is_gone_on_with(house: House) -> None:
    session = await at_work(house)
    await house.sessions.suspend(ME, session.id)
    turn = (await house.store.get(session.id)).turn
    house.agents.archive_fault = WorkspaceLost("broke off")
    house.clock.advance(seconds=TURN_DEADLINE.total_seconds())
    thaw = house.agents.thaw

    async def crash(session: Session) -> None:
        raise RuntimeError("the process ended here")

    house.agents.thaw = crash  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        await house.suspension.step(session.id, turn)
    house.agents.thaw = thaw  # type: ignore[method-assign]
    await house.suspension.step(session.id, turn)
    assert (await house.store.get(session.id)).state is State.RUNNING
    assert not house.agents.frozen


async def test_a_delivery_that_fails_leaves_alone_what_another_one_has_resumed(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    forget_work_folder(house, session)
    await house.sessions.resume(ME, asleep.id)
    house.tasks.queued.clear()
    create = house.provider.create

    async def late(session: Session, env: dict[str, str], bucket: str) -> Workspace:
        house.provider.create = create  # type: ignore[method-assign]
        await house.steps.provision(session.id)
        raise ProvisioningFailed("it is there already")

    house.provider.create = late  # type: ignore[method-assign]
    await house.steps.provision(session.id)
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING
    assert not house.provider.stopped


async def test_a_new_ttl_is_kept_when_the_session_is_not_resumed_after_all(house: House) -> None:
    session = await at_work(house)
    asleep = await suspended(house, session)
    house.provider.fault = ProvisioningFailed("no room")
    await house.sessions.resume(ME, asleep.id)
    await house.sessions.update(ME, session.id, Changes(ttl_minutes=240))
    await house.deliver()
    still = await house.store.get(session.id)
    assert (still.state, still.ttl_left) == (State.SUSPENDED, timedelta(minutes=240))
