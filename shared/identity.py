"""Who pushes a task: verifies the OpenID Connect tokens that Cloud Tasks signs its calls with."""

import asyncio
import time
from typing import Any

import aiohttp
import jwt

from shared.errors import ProviderUnavailable, Unauthenticated

ISSUERS = ("https://accounts.google.com", "accounts.google.com")
CERTS_KEPT_S = 3600.0  # Google rotates its keys over days
CERTS_ASKED_AGAIN_S = 10.0  # an unknown key id is no reason to ask more often
TIMEOUT = aiohttp.ClientTimeout(total=5.0)
LEEWAY_S = 10.0


class TaskIdentity:
    """Accepts the tokens of one service account. `client` is the caller's to close."""

    def __init__(self, client: aiohttp.ClientSession, certs_url: str, account: str) -> None:
        self._client = client
        self._certs_url = certs_url
        self._account = account
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = -CERTS_KEPT_S
        self._lock = asyncio.Lock()

    async def verify(self, authorization: str | None, audience: str) -> None:
        """Raises Unauthenticated: not a token of the account for this audience."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Missing OpenID Connect token: only Cloud Tasks may call this function")
        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid", ""))
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=["RS256"], audience=audience, issuer=ISSUERS, leeway=LEEWAY_S
            )
        except jwt.InvalidTokenError as exc:
            raise Unauthenticated(f"Invalid OpenID Connect token: {exc}") from exc
        if claims.get("email") != self._account or not claims.get("email_verified"):
            raise Unauthenticated(f"Invalid OpenID Connect token: got the account '{claims.get('email')}'")

    async def _key(self, key_id: str) -> jwt.PyJWK:
        async with self._lock:
            age = time.monotonic() - self._fetched_at
            if age > CERTS_KEPT_S or (key_id not in self._keys and age > CERTS_ASKED_AGAIN_S):
                await self._fetch()
        if key_id not in self._keys:
            raise jwt.InvalidTokenError(f"signed with an unknown key '{key_id}'")
        return self._keys[key_id]

    async def _fetch(self) -> None:
        try:
            async with self._client.get(self._certs_url, timeout=TIMEOUT, raise_for_status=True) as response:
                certs = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            raise ProviderUnavailable(f"the certificates at {self._certs_url} could not be read: {exc!r}") from exc
        keys = jwt.PyJWKSet.from_dict(certs).keys
        self._keys = {key.key_id: key for key in keys if key.key_id}
        self._fetched_at = time.monotonic()
