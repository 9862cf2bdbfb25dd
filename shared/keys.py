"""API keys: who a secret belongs to, and their making and revoking.

Only digests are stored; a revoked key works for at most CACHED_S more seconds.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.callers import ApiKey, Caller, Scope
from shared.errors import Forbidden, InvalidRequest, KeyNotFound, Unauthenticated

if TYPE_CHECKING:
    from shared.key_store import KeyStore

CACHED_S = 30.0
UNKNOWN_CACHED_S = 5.0
MAX_CACHED = 10_000
OPERATORS_TENANT = "default"  # the bootstrap key's: who runs the deployment
BOOTSTRAP_ID = "bootstrap"
SECRET_PREFIX = "onmemos_"  # noqa: S105  # so that scanners for leaked secrets can tell what they found
SECRET_BYTES = 32
WRONG_KEY = "Invalid API key: the X-API-Key header holds a key that is unknown, revoked or expired"


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key shall be; `tenant` None: that of whoever makes it. `namespaces` None: all of the tenant's."""

    name: str
    scopes: frozenset[str]
    namespaces: frozenset[str] | None = None
    expires_at: datetime | None = None
    tenant: str | None = None


class Keys:
    """Looks callers up by key, and keeps the keys. `bootstrap` is the deployment's first, from its settings; "": none.

    A secret is 256 random bits, so a plain SHA-256 is digest enough: there is nothing to guess and nothing to salt.
    Whoever makes and revokes keys has the scope for it: the routes see to that. An admin of the bootstrap key's tenant
    runs the deployment, and keeps the keys of all tenants.
    """

    def __init__(self, store: "KeyStore", bootstrap: str, *, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._bootstrap = digest(bootstrap) if bootstrap else ""
        self._clock = clock
        self._cache: dict[str, tuple[datetime, ApiKey | None]] = {}

    async def caller(self, secret: str | None) -> Caller:
        """Raises Unauthenticated: no key, or not one of ours."""
        if not secret:
            raise Unauthenticated("Missing API key: send it in the X-API-Key header")
        name = digest(secret)
        if self._bootstrap and hmac.compare_digest(name, self._bootstrap):
            return Caller(OPERATORS_TENANT, BOOTSTRAP_ID, frozenset(Scope))
        now = self._clock()
        known = self._cache.get(name)
        if known is None or known[0] <= now:
            key = await self._store.by_digest(name)
            lifetime = CACHED_S if key else UNKNOWN_CACHED_S
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            known = self._cache[name] = (now + timedelta(seconds=lifetime), key)
        key = known[1]
        if key is None or not key.opens_at(now):
            raise Unauthenticated(WRONG_KEY)
        return Caller(key.tenant, key.id, key.scopes, key.namespaces)

    async def create(self, caller: Caller, wanted: NewKey) -> tuple[ApiKey, str]:
        """A new key and its secret, which is kept nowhere.

        Raises InvalidRequest, or Forbidden: another tenant's keys, or other namespaces, are not the caller's to give.
        """
        now = self._clock()
        if wanted.expires_at is not None and wanted.expires_at <= now:
            raise InvalidRequest.field("expires_at", f"got {wanted.expires_at.isoformat()}, wanted a time to come")
        tenant = wanted.tenant or caller.tenant
        if tenant != caller.tenant and not _keeps_all(caller):
            raise Forbidden(f"tenant: got '{tenant}', wanted '{caller.tenant}': this key keeps no other tenant's keys")
        if caller.namespaces is not None and not (wanted.namespaces and wanted.namespaces <= caller.namespaces):
            allowed = ", ".join(sorted(caller.namespaces))
            raise Forbidden(f"namespaces: wanted some of {allowed}: a key cannot give what it has not")
        secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        key = ApiKey(
            digest=digest(secret),
            name=wanted.name,
            tenant=tenant,
            scopes=wanted.scopes,
            created_at=now,
            namespaces=wanted.namespaces,
            expires_at=wanted.expires_at,
        )
        await self._store.create(key)
        return key, secret

    async def list(self, caller: Caller) -> list[ApiKey]:
        """The keys that the caller keeps, newest first."""
        found = self._store.of_tenant(None if _keeps_all(caller) else caller.tenant)
        return [key async for key in found if _keeps(caller, key)]

    async def revoke(self, caller: Caller, key_id: str) -> ApiKey:
        """From now on the key opens nothing; revoking twice is not an error. Raises KeyNotFound."""
        key = await self._store.by_id(key_id)
        if not _keeps(caller, key):
            raise KeyNotFound
        revoked = await self._store.revoke(key, self._clock())
        self._cache.pop(key.digest, None)
        return revoked


def digest(secret: str) -> str:
    """The name under which a key's document is stored."""
    return sha256(secret.encode()).hexdigest()


def _keeps_all(caller: Caller) -> bool:
    return caller.tenant == OPERATORS_TENANT and caller.namespaces is None


def _keeps(caller: Caller, key: ApiKey) -> bool:
    if _keeps_all(caller):
        return True
    if key.tenant != caller.tenant:
        return False
    return caller.namespaces is None or bool(key.namespaces and key.namespaces <= caller.namespaces)
