"""API keys: for a key with the admin scope."""

from collections.abc import Sequence
from datetime import datetime

from .calls import Calls
from .faces import operation
from .paths import given, path_to
from .shapes import KeyListDict, NewKeyDict, RevokedKeyDict


class KeyOperations(Calls):
    """Every call raises Forbidden with a key that has not the admin scope."""

    @operation
    async def create_key(
        self,
        name: str,
        *,
        scopes: Sequence[str] | None = None,
        namespaces: Sequence[str] | None = None,
        expires_at: datetime | str | None = None,
        tenant: str | None = None,
    ) -> NewKeyDict:
        """A new API key; its secret, `key`, is shown this once.

        `scopes`: of "sessions" (if not given) and "admin". `namespaces`: where it may be used, everywhere if not given.
        `expires_at`: an aware datetime or ISO 8601, never if not given. Not repeated once it may have been carried
        out: a key whose secret was lost would stay open; after Timeout or ConnectionLost look at list_keys.
        """
        body = given(
            name=name,
            scopes=_listed("scopes", scopes),
            namespaces=_listed("namespaces", namespaces),
            expires_at=_written(expires_at),
            tenant=tenant,
        )
        return await self._link.call(NewKeyDict, "POST", "/v1/keys", json=body, idempotent=False)

    @operation
    async def list_keys(self) -> KeyListDict:
        """The tenant's keys, revoked ones too, without their secrets: `{"keys": [...]}`."""
        return await self._link.call(KeyListDict, "GET", "/v1/keys", idempotent=True)

    @operation
    async def revoke_key(self, key_id: str) -> RevokedKeyDict:
        """From now on the key opens nothing. Raises NotFound."""
        return await self._link.call(RevokedKeyDict, "DELETE", path_to("keys", key_id=key_id), idempotent=True)


def _listed(field: str, words: Sequence[str] | None) -> list[str] | None:
    if isinstance(words, str):
        raise TypeError(f"{field}: got the string {words!r}, wanted a list of strings")
    return None if words is None else list(words)


def _written(moment: datetime | str | None) -> str | None:
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"expires_at: got {moment.isoformat()}, wanted a datetime with a time zone")
    return moment.isoformat()
