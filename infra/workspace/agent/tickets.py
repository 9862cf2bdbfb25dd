"""Verifying tickets: EdDSA JWTs for one session. Slow to import (PyJWT, cryptography): 40 ms."""

from collections.abc import Callable, Mapping
from hashlib import sha256

import jwt

from .errors import BadTicket

ISSUER = "onmemos"
LEEWAY_S = 5  # how far the clocks of the control plane and of a workspace may be apart
REQUIRED_CLAIMS = ["iss", "aud", "sub", "exp", "iat", "jti"]
MAX_REMEMBERED = 1024


class Tickets:
    """The tickets of one session. `keys` are JSON Web Keys by key id; `clock` gives seconds since the epoch.

    A ticket that was verified is remembered (its digest, until it expires): an Ed25519 check in the same session's
    next call would find the same.
    """

    def __init__(self, session_id: str, keys: Mapping[str, Mapping[str, str]], *, clock: Callable[[], float]) -> None:
        self._session_id = session_id
        self._keys = {key_id: jwt.PyJWK(dict(jwk), "EdDSA") for key_id, jwk in keys.items()}
        self._clock = clock
        self._expiry_of: dict[bytes, float] = {}

    def check(self, token: str) -> None:
        """Raises BadTicket, which says why, unless the token opens this session now."""
        digest = sha256(token.encode()).digest()
        expires_at = self._expiry_of.get(digest)
        if expires_at is not None and self._clock() < expires_at:
            return
        expires_at = self._verified_expiry(token)
        if len(self._expiry_of) >= MAX_REMEMBERED:
            self._expiry_of.clear()
        self._expiry_of[digest] = expires_at

    def _verified_expiry(self, token: str) -> float:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(key_id) if isinstance(key_id, str) else None
            if key is None:
                raise BadTicket(f"the ticket's key id is {key_id!r}, which this workspace does not know")
            claims = jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=self._session_id,
                issuer=ISSUER,
                leeway=LEEWAY_S,
                options={"require": REQUIRED_CLAIMS, "strict_aud": True},
            )
        except jwt.InvalidAudienceError as exc:
            raise BadTicket("the ticket is for another session") from exc
        except jwt.InvalidTokenError as exc:
            raise BadTicket(f"the ticket is not valid: {exc}") from exc
        return float(claims["exp"])
