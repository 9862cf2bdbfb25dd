"""FirestoreKeys against the embedded Firestore, held to what the use cases rely on; the fake is held to the same."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.callers import ApiKey, Scope
from shared.errors import KeyNotFound
from shared.key_store import FirestoreKeys, KeyStore
from shared.keys import digest
from tests.fakes import START, MemoryKeys

KEY = ApiKey(
    digest=digest("secret"),
    name="ci",
    tenant="acme",
    scopes=frozenset({Scope.ADMIN, Scope.SESSIONS}),
    created_at=START,
    namespaces=frozenset({"a", "b"}),
    expires_at=START + timedelta(days=30),
)


@pytest.fixture(params=["memory", "firestore"])
def keys(request: pytest.FixtureRequest) -> KeyStore:
    if request.param == "memory":
        return MemoryKeys()
    return FirestoreKeys(*request.getfixturevalue("firestore"))


async def listed(keys: KeyStore, tenant: str | None) -> list[str]:
    return [key.name async for key in keys.of_tenant(tenant)]


async def test_what_is_stored_is_found_whole_by_digest_and_by_id(keys: KeyStore) -> None:
    plain = ApiKey(digest("other"), "plain", "acme", frozenset({Scope.SESSIONS}), START)
    for key in (KEY, plain):
        await keys.create(key)
        assert await keys.by_digest(key.digest) == key
        assert await keys.by_id(key.id) == key


async def test_what_is_not_there_is_not_found(keys: KeyStore) -> None:
    assert await keys.by_digest(digest("none")) is None
    with pytest.raises(KeyNotFound):
        await keys.by_id("0" * 16)
    with pytest.raises(KeyNotFound):
        await keys.revoke(KEY, START)


async def test_a_tenants_keys_are_listed_newest_first_and_all_of_them_for_nobody_in_particular(keys: KeyStore) -> None:
    for number, tenant in enumerate(["acme", "other", "acme"]):
        at = START + timedelta(seconds=number)
        key = replace(KEY, digest=digest(str(number)), name=f"k{number}", tenant=tenant, created_at=at)
        await keys.create(key)
    assert await listed(keys, "acme") == ["k2", "k0"]
    assert await listed(keys, "nobody") == []
    assert await listed(keys, None) == ["k2", "k1", "k0"]


async def test_revoking_is_written_once(keys: KeyStore) -> None:
    await keys.create(KEY)
    revoked = await keys.revoke(KEY, START + timedelta(minutes=1))
    assert revoked.revoked_at == START + timedelta(minutes=1)
    assert await keys.by_digest(KEY.digest) == revoked
    assert await keys.revoke(revoked, START + timedelta(minutes=9)) == revoked
