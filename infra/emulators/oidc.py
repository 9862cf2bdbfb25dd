"""Identity tokens as Google's accounts mint them, signed with a key of our own that is kept in a file."""

import base64
import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER = "https://accounts.google.com"
LIFETIME_S = 3600
REUSE_S = 600  # a token is handed out again for this long: signing costs a millisecond, and Google caches too


class OidcTokens:
    """The issuer: makes its key in `path` (PEM, mode 0600) the first time, reads it ever after."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970. Raises ValueError: the file at `path` holds no RSA private key."""
        self._clock = clock
        self._key = _load_or_create(path)
        numbers = self._key.public_key().public_numbers()
        self._jwk = {"kty": "RSA", "n": _base64url(numbers.n), "e": _base64url(numbers.e)}
        # RFC 7638: the thumbprint is over the required members in this order, without spaces.
        thumbprint = '{{"e":"{e}","kty":"{kty}","n":"{n}"}}'.format(**self._jwk)
        self._kid = hashlib.sha256(thumbprint.encode()).hexdigest()[:40]
        self._minted: dict[tuple[str, str], tuple[float, str]] = {}

    def mint(self, email: str, audience: str) -> str:
        """A JWT (RS256) that says its bearer is service account `email`; for `audience` only, good for an hour."""
        now = self._clock()
        minted_at, token = self._minted.get((email, audience), (-REUSE_S, ""))
        if now - minted_at < REUSE_S:
            return token
        account = str(int(hashlib.sha256(email.encode()).hexdigest(), 16))[:21]
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "azp": account,
            "sub": account,
            "email": email,
            "email_verified": True,
            "iat": int(now),
            "exp": int(now) + LIFETIME_S,
        }
        token = jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._kid})
        self._minted = {pair: kept for pair, kept in self._minted.items() if now - kept[0] < REUSE_S}
        self._minted[email, audience] = (now, token)
        return token

    def jwks(self) -> dict[str, Any]:
        """The document of www.googleapis.com/oauth2/v3/certs: the public key with which tokens are checked."""
        return {"keys": [{**self._jwk, "alg": "RS256", "use": "sig", "kid": self._kid}]}


def _load_or_create(path: Path) -> rsa.RSAPrivateKey:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _create(path)
    try:
        # Not validated: that takes 90 ms at every start, and whoever writes this file is its owner.
        key = serialization.load_pem_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    except ValueError as exc:
        raise ValueError(f"{path} holds no private key in PEM; remove it to have a new one made") from exc
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(f"{path} holds a {type(key).__name__}, an RSA private key is wanted")
    return key


def _create(path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
        # A link, not a rename: of two processes that start together one key must win for both.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def _base64url(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
