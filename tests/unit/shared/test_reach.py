"""How sessions are planned, reached and seen through the older API."""

from dataclasses import replace

import jwt
import pytest

from shared.callers import Caller
from shared.errors import InvalidRequest, SessionFailed, SessionNotFound, SessionNotReady, Unauthenticated
from shared.models import ProviderName, Resources, SessionFilter, State
from shared.prices import INSTANCE_SHARE, cost_per_hour
from shared.providers.base import Access
from shared.sessions import Sessions
from tests.fakes import MemoryProvider
from tests.unit.shared.test_sessions import ME, SPEC, TICKETS, House

GIB = 1 << 30


@pytest.fixture
def house() -> House:
    return House()


def jti(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])


async def test_a_connection_leads_to_the_agent_with_a_ticket_for_this_session_alone(house: House) -> None:
    session = await house.running()
    connection = await house.sessions.connect(ME, session.id)
    assert connection.url == session.url
    assert connection.websocket == f"ws://cloud_run/{session.id}/v1/shell"
    assert connection.ssh is None
    TICKETS.verify(connection.ticket, session.id)
    with pytest.raises(Unauthenticated):
        TICKETS.verify(connection.ticket, "ws-another-me-1")


async def test_every_connection_has_a_ticket_of_its_own(house: House) -> None:
    """One that was put into a URL is spent: it must be nobody else's."""
    session = await house.running()
    tickets = [(await house.sessions.connect(ME, session.id)).ticket for _ in range(3)]
    assert len({jti(ticket) for ticket in tickets} | {jti(TICKETS.issue(session.id, ME.key_id).token)}) == 4


async def test_a_workspace_that_clients_cannot_reach_is_reached_through_the_relay(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await house.running()
    monkeypatch.setattr(MemoryProvider, "access", lambda *_: Access())
    relayed = Sessions(replace(house.ports, relay_url="https://api.example"))
    connection = await relayed.connect(ME, session.id)
    assert connection.url == f"https://api.example/v1/sessions/{session.id}/agent"
    assert connection.websocket == f"wss://api.example/v1/sessions/{session.id}/shell"
    assert (await house.sessions.connect(ME, session.id)).url is None


async def test_what_does_not_run_cannot_be_connected_to(house: House) -> None:
    with pytest.raises(SessionNotFound):
        await house.sessions.connect(ME, "ws-nobody-x-1")
    session = await house.running()
    with pytest.raises(SessionNotFound):
        await house.sessions.connect(Caller("other", "key"), session.id)
    failed = house.store.documents[session.id]
    await house.store.update(failed.moved(State.FAILED, error="it broke"))
    with pytest.raises(SessionFailed, match="it broke"):
        await house.sessions.connect(ME, session.id)


async def test_a_ticket_opens_what_runs_and_nothing_that_is_over(house: House) -> None:
    session = await house.running()
    assert (await house.sessions.opened_by_ticket(session.id)).id == session.id
    assert not await house.sessions.is_over(session.id)
    await house.sessions.delete(ME, session.id)
    assert await house.sessions.is_over(session.id)
    with pytest.raises(SessionNotFound):
        await house.sessions.opened_by_ticket(session.id)


async def test_an_expired_session_is_over_before_anything_is_removed(house: House) -> None:
    session = await house.running()
    house.clock.advance(minutes=61)
    assert await house.sessions.is_over(session.id)


async def test_a_session_that_does_not_start_in_time_is_not_ready(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.sessions.EXECUTE_WAIT_S", 0.01)
    session = await house.sessions.create(ME, SPEC)
    with pytest.raises(SessionNotReady):
        await house.sessions.opened(ME, session.id)


async def test_a_plan_is_what_create_would_do_and_makes_nothing(house: House) -> None:
    plan = house.sessions.plan(SPEC)
    assert plan.choice.provider is ProviderName.CLOUD_RUN
    assert plan.cost_per_hour_usd == 0.0792
    assert plan.expected_start_s > 0
    assert house.is_empty()
    session = await house.running()
    assert session.details["reason"] == "; ".join(plan.choice.reasons)


async def test_a_plan_says_what_a_cheaper_kind_of_workspace_costs(house: House) -> None:
    house.provider.price_share = INSTANCE_SHARE
    assert house.sessions.plan(SPEC).cost_per_hour_usd == 0.015


async def test_a_plan_refuses_what_create_refuses(house: House) -> None:
    for spec in (replace(SPEC, template="cobol"), replace(SPEC, provider="gke"), replace(SPEC, needs_ssh=True)):
        with pytest.raises(InvalidRequest) as planned:
            house.sessions.plan(spec)
        with pytest.raises(InvalidRequest) as created:
            await house.sessions.create(ME, spec)
        assert str(planned.value) == str(created.value)


async def test_a_size_that_the_only_provider_has_not_is_refused_in_its_words(house: House) -> None:
    house.provider.most_memory_bytes = GIB
    with pytest.raises(InvalidRequest, match=r"resources\.memory: got too much for cloud_run"):
        await house.sessions.create(ME, SPEC)


@pytest.mark.parametrize(
    ("provider", "cpu", "memory", "dollars"),
    [
        (ProviderName.CLOUD_RUN, 1, 2, 0.0792),
        (ProviderName.CLOUD_RUN, 4, 16, 0.3744),
        (ProviderName.GKE, 1, 2, 0.0543),
        (ProviderName.WORKSTATIONS, 1, 2, 0.167),  # the smallest machine has two
        (ProviderName.WORKSTATIONS, 2, 8, 0.167),
        (ProviderName.WORKSTATIONS, 4, 8, 0.334),
    ],
)
def test_prices_are_those_of_the_list(provider: ProviderName, cpu: float, memory: int, dollars: float) -> None:
    assert cost_per_hour(provider, Resources(cpu, memory * GIB)) == dollars


async def test_the_older_api_sees_the_same_sessions_but_of_cloud_run_alone(house: House) -> None:
    workspaces = Sessions(house.ports, only=ProviderName.CLOUD_RUN)
    session = await house.running()
    made = await workspaces.create(ME, SPEC)
    await house.deliver()
    assert (await house.sessions.get(ME, made.id)).provider is ProviderName.CLOUD_RUN
    assert (await workspaces.get(ME, session.id)).id == session.id
    listed = (await workspaces.list(ME, SessionFilter(), 10, None)).sessions
    assert {one.id for one in listed} == {session.id, made.id}
    await house.store.update(replace(house.store.documents[made.id], provider=ProviderName.GKE))
    for call in (workspaces.get, workspaces.delete, workspaces.connect):
        with pytest.raises(SessionNotFound):
            await call(ME, made.id)
    assert [one.id for one in (await workspaces.list(ME, SessionFilter(), 10, None)).sessions] == [session.id]
