"""API keys: who a secret belongs to. Only digests are stored; a revoked key works for at most CACHED_S more seconds."""

import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.errors import Unauthenticated
from shared.models import Caller

if TYPE_CHECKING:
    from shared.store import Store

CACHED_S = 30.0
UNKNOWN_CACHED_S = 5.0
MAX_CACHED = 10_000
BOOTSTRAP_TENANT = "default"
WRONG_KEY = "Invalid API key: the X-API-Key header holds a key that is unknown, revoked or expired"


class Keys:
    """Looks callers up by key. `bootstrap` is the deployment's first key, from its settings; "" for none.

    A secret is 256 random bits, so a plain SHA-256 is digest enough: there is nothing to guess and nothing to salt.
    """

    def __init__(self, store: "Store", bootstrap: str, *, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._bootstrap = digest(bootstrap) if bootstrap else ""
        self._clock = clock
        self._cache: dict[str, tuple[datetime, Caller | None]] = {}

    async def caller(self, secret: str | None) -> Caller:
        """Raises Unauthenticated: no key, or not one of ours."""
        if not secret:
            raise Unauthenticated("Missing API key: send it in the X-API-Key header")
        name = digest(secret)
        if self._bootstrap and hmac.compare_digest(name, self._bootstrap):
            return Caller(BOOTSTRAP_TENANT, "bootstrap", frozenset({"admin", "sessions"}))
        now = self._clock()
        known = self._cache.get(name)
        if known is None or known[0] <= now:
            caller = await self._look_up(name, now)
            lifetime = CACHED_S if caller else UNKNOWN_CACHED_S
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            known = self._cache[name] = (now + timedelta(seconds=lifetime), caller)
        if known[1] is None:
            raise Unauthenticated(WRONG_KEY)
        return known[1]

    async def _look_up(self, name: str, now: datetime) -> Caller | None:
        document = await self._store.key(name)
        if document is None or document.get("revoked_at") is not None:
            return None
        expires_at = document.get("expires_at")
        if expires_at is not None and expires_at <= now:
            return None
        return Caller(document["tenant"], name[:16], frozenset(document["scopes"]))


def digest(secret: str) -> str:
    """The name under which a key's document is stored."""
    return sha256(secret.encode()).hexdigest()
