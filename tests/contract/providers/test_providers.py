"""What every provider keeps: create can be repeated, ready is ready, deleting twice is fine, nothing is left."""

import pytest

from shared.models import Session
from shared.providers.base import Health, Provider
from tests.contract.providers.conftest import Stand
from tests.fakes import a_session

SESSION = a_session()
ENV = {"WORKSPACE_ID": SESSION.id, "A": "1"}
BUCKET = "onmemos-test-developer-1761998400"


@pytest.fixture
def session(stand: Stand) -> Session:
    (stand.buckets / BUCKET).mkdir(parents=True, exist_ok=True)
    return SESSION


async def listed(provider: Provider) -> list[str]:
    return [session_id async for session_id in provider.session_ids()]


async def test_a_workspace_is_made_ready_and_found(stand: Stand, session: Session) -> None:
    workspace = await stand.provider.create(session, ENV, BUCKET)
    assert workspace.url.startswith("http")
    assert workspace.details["bucket_name"] == BUCKET
    assert (await stand.provider.inspect(session.id)).health is Health.READY
    assert await listed(stand.provider) == [session.id]


async def test_creating_again_finds_what_the_first_try_made(stand: Stand, session: Session) -> None:
    first = await stand.provider.create(session, ENV, BUCKET)
    assert await stand.provider.create(session, ENV, BUCKET) == first
    assert await listed(stand.provider) == [session.id]


async def test_deleting_leaves_nothing_and_twice_is_not_an_error(stand: Stand, session: Session) -> None:
    await stand.provider.create(session, ENV, BUCKET)
    await stand.provider.delete(session.id)
    await stand.provider.delete(session.id)
    assert (await stand.provider.inspect(session.id)).health is Health.GONE
    assert await listed(stand.provider) == []
    assert stand.is_empty()


async def test_one_that_was_stopped_is_started_again(stand: Stand, session: Session) -> None:
    await stand.provider.create(session, ENV, BUCKET)
    await stand.provider.stop(session.id)
    await stand.provider.stop(session.id)
    assert (await stand.provider.inspect(session.id)).health in {Health.STOPPED, Health.GONE}
    workspace = await stand.provider.create(session, ENV, BUCKET)
    assert workspace.url.startswith("http")
    assert (await stand.provider.inspect(session.id)).health is Health.READY
    assert await listed(stand.provider) == [session.id]


async def test_a_stopped_one_is_deleted_and_leaves_nothing(stand: Stand, session: Session) -> None:
    await stand.provider.create(session, ENV, BUCKET)
    await stand.provider.stop(session.id)
    await stand.provider.delete(session.id)
    assert (await stand.provider.inspect(session.id)).health is Health.GONE
    assert await listed(stand.provider) == []
    assert stand.is_empty()


async def test_a_workspace_that_was_never_made_is_gone(stand: Stand) -> None:
    assert (await stand.provider.inspect("ws-none-me-1756062811")).health is Health.GONE
    await stand.provider.stop("ws-none-me-1756062811")
    await stand.provider.delete("ws-none-me-1756062811")
