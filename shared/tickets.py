"""Tickets of the direct path: short-lived EdDSA JWTs that open one session's agent and nothing else.

The control plane signs; a workspace is given only the public keys (a JWK set), so a workspace that is taken over can
open no other.
"""

import binascii
import json
import secrets
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from shared.errors import Unauthenticated

ISSUER = "onmemos"
LIFETIME = timedelta(minutes=5)
REUSED_UNTIL = timedelta(minutes=2)  # a ticket with less left is not handed out again
MAX_REMEMBERED = 10_000
SEED_BYTES = 32  # www.rfc-editor.org/rfc/rfc8032#section-5.1.5
BY_OUR_CLOCK: jwt.types.Options = {
    "require": ["iss", "aud", "sub", "exp", "iat", "jti"], "strict_aud": True, "verify_exp": False, "verify_iat": False
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ticket:
    """A token, and when it stops opening anything."""

    token: str
    expires_at: datetime


class Tickets:
    """Issues tickets with one private key: Ed25519, in PEM (PKCS #8) or its seed in base64. ValueError: it is none."""

    def __init__(self, private_key: str, *, clock: Callable[[], datetime]) -> None:
        self._key = key = _loaded(private_key)
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._key_id = sha256(public).hexdigest()[:16]
        self._jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
        self._clock = clock
        self._issued: dict[tuple[str, str], Ticket] = {}

    def issue(self, session_id: str, subject: str) -> Ticket:
        """A ticket for one session; a fresh one is handed out again, since agents remember what they verified."""
        known = self._issued.get((session_id, subject))
        if known is not None and known.expires_at - self._clock() > REUSED_UNTIL:
            return known
        ticket = self.fresh(session_id, subject)
        if len(self._issued) >= MAX_REMEMBERED:
            self._issued.clear()
        self._issued[session_id, subject] = ticket
        return ticket

    def fresh(self, session_id: str, subject: str) -> Ticket:
        """A ticket that nobody else is given: one that a client may put into a URL, where it works once."""
        now = self._clock()
        expires_at = now + LIFETIME
        claims = {
            "iss": ISSUER,
            "aud": session_id,
            "sub": subject,
            "iat": now,
            "exp": expires_at,
            "jti": secrets.token_hex(8),
        }
        return Ticket(jwt.encode(claims, self._key, "EdDSA", headers={"kid": self._key_id}), expires_at)

    def verify(self, token: str, session_id: str) -> None:
        """Raises Unauthenticated: the token is no ticket of ours that opens this session now."""
        try:
            claims = jwt.decode(
                token, self._key.public_key(), ["EdDSA"], audience=session_id, issuer=ISSUER, options=BY_OUR_CLOCK
            )
        except jwt.InvalidTokenError as exc:
            raise Unauthenticated(f"Invalid ticket: {exc}") from exc
        if claims["exp"] <= self._clock().timestamp():
            raise Unauthenticated("Invalid ticket: it has expired; wanted a new one from /connect")

    def public_keys(self) -> str:
        """The JWK set that a workspace verifies with, as JSON."""
        return json.dumps({"keys": [{**self._jwk, "kid": self._key_id, "alg": "EdDSA", "use": "sig"}]})


def _loaded(private_key: str) -> Ed25519PrivateKey:
    wanted = f"wanted an Ed25519 private key, in PEM or its {SEED_BYTES} bytes in base64"
    if "-----BEGIN" in private_key:
        key = load_pem_private_key(private_key.encode(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"the ticket key is a {type(key).__name__}; {wanted}")
        return key
    try:
        seed = b64decode(private_key, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the ticket key is neither; {wanted}") from None
    if len(seed) != SEED_BYTES:
        raise ValueError(f"the ticket key has {len(seed)} bytes; {wanted}")
    return Ed25519PrivateKey.from_private_bytes(seed)


def new_private_key() -> str:
    """A fresh private key, PEM."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
