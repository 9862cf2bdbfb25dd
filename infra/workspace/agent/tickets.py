"""Verifying tickets: EdDSA JWTs for one session. Slow to import (PyJWT, cryptography): 40 ms."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import jwt

from .errors import BadTicket

ISSUER = "onmemos"
LEEWAY_S = 5  # how far the clocks of the control plane and of a workspace may be apart
REQUIRED_CLAIMS = ["iss", "aud", "sub", "exp", "iat", "jti"]
MAX_REMEMBERED = 1024


class Tickets:
    """The tickets of one session. `keys` are JSON Web Keys by key id; `clock` gives seconds since the epoch.

    A ticket that was verified is remembered (its digest, until it expires): an Ed25519 check in the same session's
    next call would find the same. A ticket that was spent is remembered by its jti until no clock would take it.
    """

    def __init__(
        self,
        session_id: str,
        keys: Mapping[str, Mapping[str, str]],
        *,
        clock: Callable[[], float],
        started_at: float | None = None,
    ) -> None:
        self._booted_as = self._session_id = session_id
        self._keys = {key_id: jwt.PyJWK(dict(jwk), "EdDSA") for key_id, jwk in keys.items()}
        self._clock = clock
        self._started_at = clock() if started_at is None else started_at
        self._expiry_of: dict[bytes, float] = {}
        self._spent_until: dict[str, float] = {}

    def check(self, token: str) -> None:
        """Raises BadTicket, which says why, unless the token opens this session now."""
        digest = sha256(token.encode()).digest()
        expires_at = self._expiry_of.get(digest)
        if expires_at is not None and self._clock() < expires_at:
            return
        expires_at = float(self._verified(token, self._session_id)["exp"])
        if len(self._expiry_of) >= MAX_REMEMBERED:
            self._expiry_of.clear()
        self._expiry_of[digest] = expires_at

    def spend(self, token: str) -> None:
        """Take a ticket that came in a URL, which ends up in logs: from now on it opens nothing. Raises BadTicket.

        One from before this process is refused: a process before it may have taken it.
        """
        claims = self._verified(token, self._session_id)
        if claims["iat"] < self._started_at - LEEWAY_S:
            raise BadTicket("the ticket in the URL is older than the agent; wanted a new one, or this one in a header")
        now = self._clock()
        if len(self._spent_until) >= MAX_REMEMBERED:
            self._spent_until = {jti: until for jti, until in self._spent_until.items() if until > now}
        self._spent_until[claims["jti"]] = claims["exp"] + LEEWAY_S
        self._expiry_of.clear()  # another token with this jti, however it came about, is spent with it

    def check_adoption(self, token: str) -> None:
        """As `check`, for who may hand this workspace to a session: a ticket for the name that it has had first."""
        self._verified(token, self._booted_as)

    def readdress(self, session_id: str) -> None:
        """From now on only tickets for this session open anything."""
        if session_id != self._session_id:
            self._session_id = session_id
            self._expiry_of.clear()

    def _verified(self, token: str, audience: str) -> dict[str, Any]:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(key_id) if isinstance(key_id, str) else None
            if key is None:
                raise BadTicket(f"the ticket's key id is {key_id!r}, which this workspace does not know")
            claims = jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=audience,
                issuer=ISSUER,
                leeway=LEEWAY_S,
                options={"require": REQUIRED_CLAIMS, "strict_aud": True},
            )
        except jwt.InvalidAudienceError as exc:
            raise BadTicket("the ticket is for another session") from exc
        except jwt.InvalidTokenError as exc:
            raise BadTicket(f"the ticket is not valid: {exc}") from exc
        if claims["jti"] in self._spent_until:
            raise BadTicket("the ticket was used in a URL, where it works once; wanted a new one")
        return claims
