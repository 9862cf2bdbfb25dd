"""Who a key belongs to, what it may be used for, and who may make and revoke which."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.callers import Caller, Scope
from shared.errors import Forbidden, InvalidRequest, KeyNotFound, SessionNotFound, Unauthenticated
from shared.keys import CACHED_S, Keys, NewKey
from shared.models import SessionFilter
from tests.fakes import Clock, MemoryKeys
from tests.unit.shared.test_sessions import SPEC, House

SESSIONS = frozenset({Scope.SESSIONS})
ADMIN = frozenset({Scope.ADMIN})


class Office:
    """Two processes over one store, so that what one remembers the other may not know."""

    def __init__(self) -> None:
        self.clock, self.store = Clock(), MemoryKeys()
        self.keys = Keys(self.store, "bootstrap-secret", clock=self.clock)
        self.elsewhere = Keys(self.store, "bootstrap-secret", clock=self.clock)

    async def operator(self) -> Caller:
        return await self.keys.caller("bootstrap-secret")

    async def admin_of(self, tenant: str, namespaces: frozenset[str] | None = None) -> Caller:
        wanted = NewKey("admin", ADMIN, namespaces, tenant=tenant)
        return await self.keys.caller((await self.keys.create(await self.operator(), wanted))[1])


@pytest.fixture
def office() -> Office:
    return Office()


async def test_the_bootstrap_key_may_do_everything(office: Office) -> None:
    assert (await office.operator()).scopes == {"admin", "sessions"}


async def test_a_new_keys_secret_opens_and_is_stored_as_a_digest_alone(office: Office) -> None:
    key, secret = await office.keys.create(await office.operator(), NewKey("ci", SESSIONS, frozenset({"a"})))
    caller = await office.elsewhere.caller(secret)
    assert (caller.tenant, caller.key_id, caller.scopes) == ("default", key.id, SESSIONS)
    assert caller.namespaces == frozenset({"a"})
    assert secret.startswith("onmemos_")
    assert secret not in repr(office.store.keys)


async def test_no_two_secrets_are_alike(office: Office) -> None:
    operator = await office.operator()
    assert len({(await office.keys.create(operator, NewKey("x", SESSIONS)))[1] for _ in range(20)}) == 20


async def test_an_expired_key_opens_nothing_even_while_it_is_remembered(office: Office) -> None:
    soon = office.clock() + timedelta(seconds=5)
    _, secret = await office.keys.create(await office.operator(), NewKey("x", SESSIONS, expires_at=soon))
    await office.keys.caller(secret)
    office.clock.advance(seconds=5)
    with pytest.raises(Unauthenticated):
        await office.keys.caller(secret)


async def test_a_key_that_would_be_born_expired_is_refused(office: Office) -> None:
    with pytest.raises(InvalidRequest, match="expires_at"):
        await office.keys.create(await office.operator(), NewKey("x", SESSIONS, expires_at=office.clock()))
    assert not office.store.keys


async def test_a_revoked_key_opens_nothing_here_at_once_and_elsewhere_soon(office: Office) -> None:
    operator = await office.operator()
    key, secret = await office.keys.create(operator, NewKey("x", SESSIONS))
    await office.keys.caller(secret)
    await office.elsewhere.caller(secret)
    revoked = await office.keys.revoke(operator, key.id)
    assert revoked.revoked_at == office.clock()
    with pytest.raises(Unauthenticated):
        await office.keys.caller(secret)
    office.clock.advance(seconds=CACHED_S + 1)
    with pytest.raises(Unauthenticated):
        await office.elsewhere.caller(secret)


async def test_revoking_twice_is_not_an_error_and_keeps_the_first_time(office: Office) -> None:
    operator = await office.operator()
    key, _ = await office.keys.create(operator, NewKey("x", SESSIONS))
    first = await office.keys.revoke(operator, key.id)
    office.clock.advance(minutes=1)
    assert await office.keys.revoke(operator, key.id) == first


async def test_the_operator_keeps_every_tenants_keys(office: Office) -> None:
    operator = await office.operator()
    key, secret = await office.keys.create(operator, NewKey("x", SESSIONS, tenant="acme"))
    assert (await office.keys.caller(secret)).tenant == "acme"
    assert key in await office.keys.list(operator)
    await office.keys.revoke(operator, key.id)


async def test_a_tenants_admin_keeps_its_own_keys_and_learns_of_no_other(office: Office) -> None:
    theirs, _ = await office.keys.create(await office.operator(), NewKey("x", SESSIONS, tenant="other"))
    admin = await office.admin_of("acme")
    mine, secret = await office.keys.create(admin, NewKey("mine", SESSIONS))
    assert (await office.keys.caller(secret)).tenant == "acme"
    assert {key.name for key in await office.keys.list(admin)} == {"admin", "mine"}
    with pytest.raises(Forbidden, match="wanted 'acme'"):
        await office.keys.create(admin, NewKey("x", SESSIONS, tenant="other"))
    for key_id in (theirs.id, "0000000000000000"):
        with pytest.raises(KeyNotFound):
            await office.keys.revoke(admin, key_id)
    await office.keys.revoke(admin, mine.id)


async def test_a_key_gives_no_namespace_that_it_has_not(office: Office) -> None:
    admin = await office.admin_of("acme", frozenset({"a", "b"}))
    await office.keys.create(admin, NewKey("x", SESSIONS, frozenset({"a"})))
    for namespaces in (None, frozenset({"a", "c"})):
        with pytest.raises(Forbidden, match="namespaces"):
            await office.keys.create(admin, NewKey("x", SESSIONS, namespaces))


async def test_an_admin_of_the_default_tenant_with_namespaces_is_no_operator(office: Office) -> None:
    admin = await office.admin_of("default", frozenset({"a"}))
    everything, _ = await office.keys.create(await office.operator(), NewKey("x", SESSIONS))
    with pytest.raises(KeyNotFound):
        await office.keys.revoke(admin, everything.id)
    with pytest.raises(Forbidden, match="tenant"):
        await office.keys.create(admin, NewKey("x", SESSIONS, frozenset({"a"}), tenant="acme"))


async def test_a_key_without_the_scope_is_forbidden() -> None:
    with pytest.raises(Forbidden, match="scopes sessions; wanted one with the scope admin"):
        Caller("t", "k").require(Scope.ADMIN)


async def test_a_key_for_some_namespaces_sees_no_others_session() -> None:
    house = House()
    narrow = Caller("default", "key", namespaces=frozenset({"test"}))
    wide = Caller("default", "key")
    mine = await house.sessions.create(narrow, SPEC)
    theirs = await house.sessions.create(wide, replace(SPEC, namespace="secret"))
    await house.deliver()
    assert (await house.sessions.get(narrow, mine.id)).id == mine.id
    for call in (house.sessions.get, house.sessions.delete, house.sessions.connect, house.sessions.opened):
        with pytest.raises(SessionNotFound):
            await call(narrow, theirs.id)
    for where in (SessionFilter(), SessionFilter(namespace="test")):
        assert [one.id for one in (await house.sessions.list(narrow, where, 10, None)).sessions] == [mine.id]
    assert not (await house.sessions.list(narrow, SessionFilter(namespace="secret"), 10, None)).sessions
    assert len((await house.sessions.list(wide, SessionFilter(), 10, None)).sessions) == 2


async def test_a_key_for_some_namespaces_makes_no_session_in_another() -> None:
    house = House()
    with pytest.raises(Forbidden, match="namespace: got 'test', wanted one that this API key may use: other"):
        await house.sessions.create(Caller("default", "key", namespaces=frozenset({"other"})), SPEC)
    assert house.is_empty()
