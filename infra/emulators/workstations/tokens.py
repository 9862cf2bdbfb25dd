"""Access tokens of workstations: JSON Web Tokens that open one workstation, or one port of it, until they expire."""

import contextlib
import datetime
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

import jwt

ISSUER = "https://workstations.googleapis.com"
LONGEST = datetime.timedelta(hours=24)  # GenerateAccessTokenRequest.ttl, .expire_time
DEFAULT = datetime.timedelta(hours=1)
_ALGORITHM = "HS256"  # who mints them checks them


class TokenRefused(Exception):
    """The token is not one of ours, or no longer good."""


class WrongWorkstation(Exception):
    """A good token, for another workstation or another port."""


class AccessTokens:
    """Mints and checks; makes its key in `path` (mode 0600) the first time, reads it ever after."""

    def __init__(self, path: Path, clock: Callable[[], datetime.datetime]) -> None:
        self._clock = clock
        if not path.exists():
            _create(path)
        self._key = path.read_bytes()

    def mint(self, uid: str, expires_at: datetime.datetime, port: int = 0) -> str:
        """For the workstation of that uid; `port` 0: all of its ports."""
        claims = {"iss": ISSUER, "aud": uid, "iat": self._clock().timestamp(), "exp": expires_at.timestamp()}
        return jwt.encode({**claims, "port": port} if port else claims, self._key, algorithm=_ALGORITHM)

    def check(self, token: str, uid: str, port: int) -> None:
        """Raises TokenRefused, WrongWorkstation."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=ISSUER,
                options={"verify_exp": False, "verify_aud": False, "verify_iat": False, "require": ["aud", "exp"]},
            )
        except jwt.InvalidTokenError as exc:
            raise TokenRefused("the access token is not one of this service's") from exc
        if claims["exp"] <= self._clock().timestamp():
            raise TokenRefused("the access token has expired")
        if claims["aud"] != uid:
            raise WrongWorkstation("the access token is another workstation's")
        if claims.get("port", port) != port:
            raise WrongWorkstation(f"the access token is for port {claims['port']}, not for {port}")


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
        # A link, not a rename: of two processes that start together one key must win for both.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
