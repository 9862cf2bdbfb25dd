"""Whose bucket a session has mounted, and what becomes of it."""

from dataclasses import replace

import pytest

from shared import names
from shared.callers import Caller
from shared.errors import Forbidden, InvalidRequest, ProvisioningFailed
from shared.models import Filestore, Session, SessionSpec, State, Storage
from shared.reconcile import Deed, Reconciler
from tests.unit.shared.test_sessions import ME, SPEC, House

KEEP = replace(SPEC, storage=Storage(keep=True))


@pytest.fixture
def house() -> House:
    return House()


def with_bucket(name: str) -> SessionSpec:
    return replace(SPEC, storage=Storage(bucket=name, keep=True))


async def ended(house: House, spec: SessionSpec) -> Session:
    """A session that ran and is gone."""
    session = await house.running(spec)
    await house.sessions.delete(ME, session.id)
    await house.deliver()
    assert session.id not in house.store.documents
    return session


async def test_a_session_without_a_bucket_is_given_its_own_which_goes_with_it(house: House) -> None:
    session = await house.running()
    assert house.provider.made[session.id]["BUCKET_NAME"] == names.bucket_name(session.id)
    await house.sessions.delete(ME, session.id)
    await house.deliver()
    assert house.is_empty()


async def test_an_existing_bucket_is_mounted_and_left_as_it_was(house: House) -> None:
    house.buckets.others.add("datasets")
    session = await ended(house, with_bucket("datasets"))
    assert session.details["bucket_name"] == "datasets"
    assert not house.buckets.made
    assert house.buckets.others == {"datasets"}


async def test_a_bucket_that_is_not_there_is_refused_by_name_and_nothing_is_made(house: House) -> None:
    with pytest.raises(InvalidRequest, match=r"storage\.bucket: got 'datasets', which does not exist"):
        await house.sessions.create(ME, with_bucket("datasets"))
    assert house.is_empty()


async def test_a_bucket_that_is_kept_outlives_its_session_and_the_reconciler(house: House) -> None:
    session = await ended(house, KEEP)
    assert house.buckets.made == {session.id}
    house.clock.advance(minutes=5)
    assert [action async for action in Reconciler(house.ports).run()] == []
    assert house.buckets.made == {session.id}


async def test_a_kept_bucket_is_its_tenants_to_mount(house: House) -> None:
    bucket = names.bucket_name((await ended(house, KEEP)).id)
    house.clock.advance(minutes=5)
    session = await house.running(with_bucket(bucket))
    assert session.details["bucket_name"] == bucket
    for stranger in (Caller("other", "key"), Caller("default", "key", namespaces=frozenset({"elsewhere"}))):
        with pytest.raises(InvalidRequest, match="another session's"):
            await house.sessions.create(stranger, replace(with_bucket(bucket), namespace="elsewhere"))


@pytest.mark.parametrize(
    ("storage", "named"),
    [
        (Storage(bucket="datasets", keep=True), r"storage\.bucket: got 'datasets', wanted one that a session of your"),
        (Storage(filestore=Filestore("10.0.0.2", "vol1")), r"storage\.filestore: got 10\.0\.0\.2, wanted none"),
    ],
)
async def test_what_no_session_made_is_not_other_tenants_to_mount(house: House, storage: Storage, named: str) -> None:
    house.buckets.others.add("datasets")
    with pytest.raises(Forbidden, match=named):
        await house.sessions.create(Caller("other", "key"), replace(SPEC, storage=storage))
    assert house.is_empty()
    assert (await house.running(replace(SPEC, storage=storage))).state is State.RUNNING


async def test_another_tenant_mounts_what_its_own_session_kept(house: House) -> None:
    theirs = Caller("other", "key")
    session = await house.sessions.create(theirs, KEEP)
    await house.deliver()
    bucket = names.bucket_name(session.id)
    mounted = await house.sessions.create(theirs, with_bucket(bucket))
    assert mounted.storage.bucket == bucket
    with pytest.raises(InvalidRequest, match="another session's"):
        await house.sessions.create(ME, with_bucket(bucket))


async def test_a_live_sessions_bucket_is_nobody_elses_to_mount(house: House) -> None:
    session = await house.running()
    with pytest.raises(InvalidRequest, match="another session's"):
        await house.sessions.create(ME, with_bucket(names.bucket_name(session.id)))


async def test_a_session_that_never_ran_keeps_nothing(house: House) -> None:
    session = await house.sessions.create(ME, KEEP)
    house.provider.fault = ProvisioningFailed("no such image")
    await house.deliver()
    assert house.store.documents[session.id].state is State.FAILED
    assert not house.buckets.made
    assert not house.store.kept


async def test_a_bucket_that_nobody_kept_is_still_an_orphan(house: House) -> None:
    session = await house.running(KEEP)
    house.buckets.made.add("ws-ghost-user-1700000000")
    actions = [(action.deed, action.target) async for action in Reconciler(house.ports).run()]
    assert actions == [(Deed.DELETE_BUCKET, "ws-ghost-user-1700000000")]
    assert house.buckets.made == {session.id}


async def test_a_sessions_bucket_is_made_for_its_tenant_and_a_mounted_one_is_not_touched(house: House) -> None:
    session = await house.running()
    assert house.buckets.tenants == {session.id: ME.tenant}
    house.buckets.others.add("datasets")
    await house.running(with_bucket("datasets"))
    assert house.buckets.tenants == {session.id: ME.tenant}
