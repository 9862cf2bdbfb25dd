"""The use cases over fakes: what callers see, and what survives duplicates, reordering, crashes and faults."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from shared.callers import Caller
from shared.errors import (
    IdempotencyConflict,
    InvalidRequest,
    ProviderNotConfigured,
    ProviderUnavailable,
    ProvisioningFailed,
    SessionFailed,
    SessionNotFound,
    SessionNotReady,
    WorkspaceUnreachable,
)
from shared.models import Command, Session, SessionFilter, SessionSpec, State
from shared.moving import Moving
from shared.ports import Ports
from shared.providers.base import Condition, Health, Workspace
from shared.sessions import Sessions
from shared.steps import Steps
from shared.suspension import Suspension
from shared.tickets import Tickets, new_private_key
from shared.turns import TURN_DEADLINE
from tests.fakes import Clock, MemoryAgents, MemoryBuckets, MemoryProvider, MemoryStore, MemoryTasks

ME = Caller("default", "key")
TICKETS = Tickets(new_private_key(), clock=Clock())
SPEC = SessionSpec(template="python", namespace="test", user="developer", env={"A": "1"}, labels={"team": "x"})


@dataclass
class House:
    """The use cases and everything below them."""

    clock: Clock = field(default_factory=Clock)
    tasks: MemoryTasks = field(default_factory=MemoryTasks)
    buckets: MemoryBuckets = field(default_factory=MemoryBuckets)
    provider: MemoryProvider = field(default_factory=MemoryProvider)
    others: tuple[MemoryProvider, ...] = ()
    agents: MemoryAgents = field(default_factory=MemoryAgents)

    def __post_init__(self) -> None:
        self.slept: list[float] = []
        self.delivers_meanwhile = False
        self.store = MemoryStore(self.clock)
        providers: Any = {provider.name: provider for provider in (self.provider, *self.others)}
        self.ports = Ports(
            self.store, self.tasks, self.buckets, self.agents, providers, TICKETS, self.clock, sleep=self._sleep
        )
        self.sessions, self.steps = Sessions(self.ports), Steps(self.ports)
        self.suspension, self.moving = Suspension(self.ports), Moving(self.ports)

    async def deliver(self) -> None:
        """Run what is queued and due, as Cloud Tasks would: until nothing is left; a refused task stays."""
        for name, (step, session_id, generation) in list(self.tasks.queued.items()):
            if step == "expire" and self.tasks.due(name, self.store.documents[session_id]) > self.clock():
                continue
            del self.tasks.queued[name]
            await self.step(step, session_id, generation)

    async def step(self, step: str, session_id: str, generation: int = 1) -> None:
        match step:
            case "provision":
                await self.steps.provision(session_id)
            case "expire":
                await self.steps.expire(session_id, generation)
            case "teardown":
                await self.steps.teardown(session_id)
            case "suspend":
                await self.suspension.step(session_id, generation)
            case "move":
                await self.moving.step(session_id, generation)

    async def running(self, spec: SessionSpec = SPEC) -> Session:
        session = await self.sessions.create(ME, spec)
        await self.deliver()
        return await self.sessions.get(ME, session.id)

    def is_empty(self) -> bool:
        return not (self.store.documents or self.buckets.made or self.provider.made or self.tasks.queued)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.delivers_meanwhile:
            await self.deliver()
        await asyncio.sleep(0)


@pytest.fixture
def house() -> House:
    return House()


async def test_a_session_is_provisioning_until_its_task_ran_then_running(house: House) -> None:
    session = await house.sessions.create(ME, SPEC)
    assert session.state is State.PROVISIONING
    await house.deliver()
    session = await house.sessions.get(ME, session.id)
    assert session.state is State.RUNNING
    assert session.url == f"http://cloud_run/{session.id}"
    assert session.expires_at - session.created_at == timedelta(minutes=60)


async def test_create_waits_for_running_and_returns_as_soon_as_it_is(house: House) -> None:
    waiting = asyncio.create_task(house.sessions.create(ME, SPEC, wait_s=30))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    await house.deliver()
    assert (await waiting).state is State.RUNNING


async def test_the_workspace_gets_the_templates_and_the_sessions_environment(house: House) -> None:
    session = await house.running()
    env = house.provider.made[session.id]
    assert env["A"] == "1"
    assert env["PYTHONUNBUFFERED"] == "1"
    assert env["WORKSPACE_ID"] == session.id
    assert env["BUCKET_NAME"] == "onmemos-" + session.id.removeprefix("ws-")


async def test_two_sessions_of_the_same_second_have_different_names(house: House) -> None:
    made = [await house.sessions.create(ME, SPEC) for _ in range(5)]
    assert len({session.id for session in made}) == 5
    assert all(session.id.startswith(made[0].id) for session in made)


@pytest.mark.parametrize(
    ("spec", "error", "field_name"),
    [
        (replace(SPEC, template="cobol"), InvalidRequest, "template"),
        (replace(SPEC, provider="gke"), ProviderNotConfigured, "provider"),
        (replace(SPEC, needs_ssh=True), ProviderNotConfigured, "needs_ssh"),
        (replace(SPEC, provider="cloud_run", needs_ssh=True), InvalidRequest, "needs_ssh"),
    ],
)
async def test_what_cannot_be_served_is_refused_before_anything_is_made(
    house: House, spec: SessionSpec, error: type[InvalidRequest], field_name: str
) -> None:
    with pytest.raises(error) as refusal:
        await house.sessions.create(ME, spec)
    assert field_name in refusal.value.errors
    assert house.is_empty()


async def test_the_same_key_and_body_give_the_same_session(house: House) -> None:
    first = await house.sessions.create(ME, SPEC, idempotency_key="k")
    house.clock.advance(seconds=5)
    second = await house.sessions.create(ME, SPEC, idempotency_key="k")
    assert second.id == first.id
    assert len(house.store.documents) == 1


async def test_the_same_key_with_another_body_is_a_conflict(house: House) -> None:
    await house.sessions.create(ME, SPEC, idempotency_key="k")
    with pytest.raises(IdempotencyConflict, match="another body"):
        await house.sessions.create(ME, replace(SPEC, user="other"), idempotency_key="k")


async def test_a_key_is_its_tenants_own(house: House) -> None:
    first = await house.sessions.create(ME, SPEC, idempotency_key="k")
    second = await house.sessions.create(Caller("other", "key"), SPEC, idempotency_key="k")
    assert first.id != second.id


async def test_a_key_whose_session_is_gone_makes_no_second_one(house: House) -> None:
    session = await house.sessions.create(ME, SPEC, idempotency_key="k")
    await house.sessions.delete(ME, session.id)
    await house.deliver()
    await house.deliver()
    with pytest.raises(IdempotencyConflict, match="gone"):
        await house.sessions.create(ME, SPEC, idempotency_key="k")


async def test_concurrent_creates_with_one_key_make_one_session(house: House) -> None:
    made = await asyncio.gather(*(house.sessions.create(ME, SPEC, idempotency_key="k") for _ in range(8)))
    assert len({session.id for session in made}) == 1
    assert len(house.store.documents) == 1


async def test_a_create_that_cannot_be_enqueued_leaves_nothing(house: House) -> None:
    house.tasks.fault = ProviderUnavailable("Cloud Tasks is away")
    with pytest.raises(ProviderUnavailable):
        await house.sessions.create(ME, SPEC, idempotency_key="k")
    assert house.is_empty()
    assert not house.store.records


async def test_provision_delivered_twice_is_one_workspace(house: House) -> None:
    session = await house.running()
    await house.steps.provision(session.id)
    assert list(house.provider.made) == [session.id]
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING


async def test_a_transient_fault_keeps_the_session_provisioning_and_the_task_is_refused(house: House) -> None:
    session = await house.sessions.create(ME, SPEC)
    house.provider.fault = ProviderUnavailable("Cloud Run is away")
    with pytest.raises(ProviderUnavailable):
        await house.steps.provision(session.id)
    assert (await house.sessions.get(ME, session.id)).state is State.PROVISIONING
    await house.steps.provision(session.id)
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING


async def test_a_fault_that_does_not_pass_fails_the_session_in_the_end(house: House) -> None:
    session = await house.sessions.create(ME, SPEC)
    house.clock.advance(seconds=TURN_DEADLINE.total_seconds() + 1)
    house.provider.fault = ProviderUnavailable("Cloud Run is away")
    await house.steps.provision(session.id)
    failed = await house.sessions.get(ME, session.id)
    assert (failed.state, failed.error) == (State.FAILED, "Cloud Run is away")


async def test_a_failed_session_says_why_and_leaves_nothing_behind(house: House) -> None:
    session = await house.sessions.create(ME, SPEC)
    house.provider.fault = ProvisioningFailed("the image does not exist")
    await house.deliver()
    failed = await house.sessions.get(ME, session.id)
    assert (failed.state, failed.error) == (State.FAILED, "the image does not exist")
    assert not house.provider.made
    assert not house.buckets.made
    with pytest.raises(SessionFailed, match="the image does not exist"):
        await house.sessions.execute(ME, session.id, Command("ls"))


async def test_a_workspace_of_a_session_that_was_deleted_meanwhile_is_removed(house: House) -> None:
    async def delete_and_tear_down(session: Session) -> None:
        await house.sessions.delete(ME, session.id)
        await house.steps.teardown(session.id)
        house.provider.made[session.id] = {}  # the cloud made it after the teardown looked

    house.provider.on_create = delete_and_tear_down
    session = await house.sessions.create(ME, SPEC)
    await house.steps.provision(session.id)
    assert not house.provider.made
    assert not house.buckets.made
    assert not house.store.documents


async def test_execute_runs_in_a_running_session(house: House) -> None:
    session = await house.running()
    execution = await house.sessions.execute(ME, session.id, Command("ls"))
    assert execution.stdout == "ls\n"


async def test_execute_waits_for_a_session_that_starts(house: House) -> None:
    session = await house.sessions.create(ME, SPEC)
    running = asyncio.create_task(house.sessions.execute(ME, session.id, Command("ls")))
    await asyncio.sleep(0)
    assert not running.done()
    await house.deliver()
    assert (await running).returncode == 0


async def test_execute_gives_up_on_a_session_that_never_starts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.sessions.EXECUTE_WAIT_S", 0.01)
    session = await house.sessions.create(ME, SPEC)
    with pytest.raises(SessionNotReady):
        await house.sessions.execute(ME, session.id, Command("ls"))


async def test_a_command_is_never_run_twice_but_tried_until_it_was_sent(house: House) -> None:
    session = await house.running()
    house.agents.silent.add(session.id)
    running = asyncio.create_task(house.sessions.execute(ME, session.id, Command("ls")))
    for _ in range(20):
        await asyncio.sleep(0)
    house.agents.silent.clear()
    house.agents.boots[session.id] = "boot-2"
    await running
    assert len(house.agents.ran) == 1
    stored = house.store.documents[session.id]
    assert (stored.state, stored.boots) == (State.RUNNING, 2)
    assert "notice" not in stored.details


async def test_a_session_whose_agent_is_silent_is_not_reported_running(house: House) -> None:
    session = await house.running()
    house.agents.silent.add(session.id)
    house.provider.conditions[session.id] = Condition(Health.FAILED, "container exited with 137")
    seen = await house.sessions.get(ME, session.id)
    assert seen.state is State.PROVISIONING
    assert "137" in seen.details["notice"]
    house.agents.silent.clear()
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING


async def test_a_session_whose_workspace_is_gone_has_failed_for_good(house: House) -> None:
    session = await house.running()
    house.agents.silent.add(session.id)
    house.provider.made.clear()
    seen = await house.sessions.get(ME, session.id)
    assert seen.state is State.FAILED
    assert "does not exist" in (seen.error or "")
    with pytest.raises(SessionFailed):
        await house.sessions.execute(ME, session.id, Command("ls"))


async def test_execute_on_a_lost_workspace_says_so_at_once(house: House) -> None:
    session = await house.running()
    house.agents.silent.add(session.id)
    house.provider.made.clear()
    with pytest.raises(SessionFailed, match="lost"):
        await house.sessions.execute(ME, session.id, Command("ls"))


async def test_execute_on_a_workspace_that_stays_silent_is_unreachable(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.sessions.EXECUTE_WAIT_S", 0.01)
    session = await house.running()
    house.agents.silent.add(session.id)
    with pytest.raises(WorkspaceUnreachable):
        await house.sessions.execute(ME, session.id, Command("ls"))


async def test_a_restart_under_the_handle_is_counted_once(house: House) -> None:
    session = await house.running()
    house.agents.boots[session.id] = "boot-2"
    assert (await house.sessions.get(ME, session.id)).boots == 2
    await house.sessions.execute(ME, session.id, Command("ls"))
    assert (await house.sessions.get(ME, session.id)).boots == 2


async def test_a_deleted_session_is_gone_for_callers_at_once(house: House) -> None:
    session = await house.running()
    assert (await house.sessions.delete(ME, session.id)).state is State.DELETING
    for call in (
        house.sessions.get(ME, session.id),
        house.sessions.delete(ME, session.id),
        house.sessions.execute(ME, session.id, Command("ls")),
    ):
        with pytest.raises(SessionNotFound):
            await call
    assert not (await house.sessions.list(ME, SessionFilter(), 10, None)).sessions
    await house.deliver()
    assert house.is_empty()


async def test_a_session_can_be_deleted_while_it_starts(house: House) -> None:
    session = await house.sessions.create(ME, SPEC)
    await house.sessions.delete(ME, session.id)
    await house.deliver()
    assert house.is_empty()


async def test_deletion_stands_when_its_task_cannot_be_enqueued(house: House) -> None:
    session = await house.running()
    house.tasks.fault = ProviderUnavailable("Cloud Tasks is away")
    await house.sessions.delete(ME, session.id)
    with pytest.raises(SessionNotFound):
        await house.sessions.get(ME, session.id)


async def test_teardown_tries_again_until_everything_is_gone(house: House) -> None:
    session = await house.running()
    await house.sessions.delete(ME, session.id)
    house.buckets.fault = ProviderUnavailable("Cloud Storage is away")
    with pytest.raises(ProviderUnavailable):
        await house.steps.teardown(session.id)
    assert session.id in house.store.documents
    await house.steps.teardown(session.id)
    await house.steps.teardown(session.id)
    house.tasks.queued.clear()
    assert house.is_empty()


@pytest.mark.parametrize("state", [State.PROVISIONING, State.RUNNING])
async def test_teardown_of_a_session_that_was_not_deleted_does_nothing(house: House, state: State) -> None:
    session = await house.sessions.create(ME, SPEC)
    if state is State.RUNNING:
        await house.deliver()
    await house.steps.teardown(session.id)
    assert house.store.documents[session.id].state is state


async def test_at_expiry_the_session_goes_the_same_way(house: House) -> None:
    session = await house.running()
    house.clock.advance(minutes=60)
    with pytest.raises(SessionNotFound):
        await house.sessions.get(ME, session.id)
    await house.deliver()
    await house.deliver()
    assert house.is_empty()


async def test_an_early_expiry_comes_back_later(house: House) -> None:
    session = await house.running()
    house.tasks.queued.clear()
    house.tasks.used.clear()
    await house.steps.expire(session.id, 1)
    assert house.tasks.steps() == ["expire"]
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING


async def test_an_expiry_of_an_older_generation_does_nothing(house: House) -> None:
    session = await house.running()
    house.clock.advance(minutes=60)
    await house.steps.expire(session.id, 0)
    assert house.store.documents[session.id].state is State.RUNNING


async def test_nobody_learns_of_another_tenants_session(house: House) -> None:
    session = await house.running()
    stranger = Caller("other", "key")
    for call in (
        house.sessions.get(stranger, session.id),
        house.sessions.delete(stranger, session.id),
        house.sessions.execute(stranger, session.id, Command("ls")),
    ):
        with pytest.raises(SessionNotFound):
            await call
    assert not (await house.sessions.list(stranger, SessionFilter(), 10, None)).sessions


async def test_a_listing_shows_only_what_really_runs(house: House) -> None:
    dead, alive = await house.running(), await house.running()
    house.agents.silent.add(dead.id)
    page = await house.sessions.list(ME, SessionFilter(status=State.RUNNING), 10, None)
    assert [session.id for session in page.sessions] == [alive.id]


@pytest.mark.parametrize("order", [["teardown", "provision"], ["provision", "teardown", "provision", "expire"]])
async def test_steps_in_any_order_end_with_nothing_left(house: House, order: list[str]) -> None:
    session = await house.sessions.create(ME, SPEC)
    await house.sessions.delete(ME, session.id)
    for step in order:
        await house.step(step, session.id)
    house.tasks.queued.clear()
    assert house.is_empty()


async def test_a_session_that_was_changed_while_it_started_is_started_all_the_same(house: House) -> None:
    async def change(session: Session) -> None:
        await house.store.update(replace(session, labels={"team": "y"}))

    session = await house.sessions.create(ME, SPEC)
    house.provider.on_create = change
    with pytest.raises(ProviderUnavailable):
        await house.steps.provision(session.id)
    house.provider.on_create = None
    await house.steps.provision(session.id)
    seen = await house.sessions.get(ME, session.id)
    assert (seen.state, seen.labels) == (State.RUNNING, {"team": "y"})


async def test_a_name_is_not_free_again_while_its_second_lasts(house: House) -> None:
    session = await house.running()
    await house.sessions.delete(ME, session.id)
    house.clock.advance(seconds=0.5)
    house.slept.clear()
    await house.steps.teardown(session.id)
    assert house.slept == [1.5]
    assert not house.store.documents


async def test_teardown_of_an_older_session_waits_for_nothing(house: House) -> None:
    session = await house.running()
    house.clock.advance(seconds=5)
    await house.sessions.delete(ME, session.id)
    house.slept.clear()
    await house.steps.teardown(session.id)
    assert house.slept == []


async def test_a_repeated_create_that_cannot_be_enqueued_does_not_touch_the_session_it_repeats(house: House) -> None:
    session = await house.sessions.create(ME, SPEC, idempotency_key="k")
    await house.deliver()
    house.tasks.fault = ProviderUnavailable("Cloud Tasks is away")
    with pytest.raises(ProviderUnavailable):
        await house.sessions.create(ME, SPEC, idempotency_key="k")
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING


async def test_a_command_that_ran_is_answered_even_if_the_restart_cannot_be_counted(house: House) -> None:
    session = await house.running()
    house.agents.boots[session.id] = "boot-2"
    house.store.write_fault = ProviderUnavailable("Firestore is away")
    assert (await house.sessions.execute(ME, session.id, Command("ls"))).returncode == 0


async def test_a_silent_workspace_that_nobody_can_look_at_is_not_reported_running(house: House) -> None:
    session = await house.running()
    house.agents.silent.add(session.id)
    house.provider.inspect_fault = ProviderUnavailable("Cloud Run is away")
    seen = await house.sessions.get(ME, session.id)
    assert seen.state is State.PROVISIONING
    assert "Cloud Run is away" in seen.details["notice"]


async def test_a_delivery_that_fails_leaves_alone_what_another_one_has_started(house: House) -> None:
    session = await house.sessions.create(ME, SPEC)
    create = house.provider.create

    async def late(session: Session, env: dict[str, str], bucket: str) -> Workspace:
        house.provider.create = create  # type: ignore[method-assign]
        await house.steps.provision(session.id)
        raise ProvisioningFailed("it is there already")

    house.provider.create = late  # type: ignore[method-assign]
    await house.steps.provision(session.id)
    assert (await house.sessions.get(ME, session.id)).state is State.RUNNING
    assert list(house.provider.made) == [session.id]
    assert house.buckets.made == {session.id}


async def test_a_session_that_was_given_up_is_not_started_again_after_a_crash(house: House) -> None:
    session = await house.sessions.create(ME, SPEC)
    house.provider.fault = ProvisioningFailed("no such image")
    house.provider.delete_fault = ProviderUnavailable("Cloud Run is away")
    with pytest.raises(ProviderUnavailable):
        await house.steps.provision(session.id)
    await house.steps.provision(session.id)
    failed = await house.sessions.get(ME, session.id)
    assert (failed.state, failed.error) == (State.FAILED, "no such image")
    assert not house.provider.made


async def test_sessions_of_a_provider_that_was_taken_away_are_still_shown(house: House) -> None:
    session = await house.running()
    del house.ports.providers[session.provider]  # type: ignore[attr-defined]
    house.agents.silent.add(session.id)
    page = await house.sessions.list(ME, SessionFilter(), 10, None)
    assert page.sessions[0].details["notice"].endswith("this deployment does not offer cloud_run any more")


async def test_a_session_that_goes_while_it_is_listed_is_left_out(house: House) -> None:
    session = await house.running()
    house.agents.silent.add(session.id)

    async def gone(session_id: str) -> Condition:
        await house.store.delete(session_id)
        return Condition(Health.GONE, "its service does not exist")

    house.provider.inspect = gone  # type: ignore[method-assign]
    assert (await house.sessions.list(ME, SessionFilter(), 10, None)).sessions == ()
