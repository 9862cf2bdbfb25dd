"""Who calls: bearer tokens, the one of the cluster's administrator and those of TokenRequests."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.emulators.kubernetes.certificates import write_private

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
SHORTEST_S: Final = 600  # of a TokenRequest, as the real server's
LONGEST_S: Final = 1 << 32
DEFAULT_S: Final = 3600
_PROTOCOL = "base64url.bearer.authorization.k8s.io."  # how a browser's WebSocket carries a token


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...]
    uid: str = ""


ADMINISTRATOR: Final = User("kubernetes-admin", ("system:masters", "system:authenticated"))


def kept_token(path: Path) -> str:
    """The token in the file, which is made the first time."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32).encode())
    return path.read_text()


class Tokens:
    """`token` is the administrator's; the others are signed with a key that derives from it."""

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._token = token
        self._key = hmac.digest(token.encode(), b"service-account-tokens", hashlib.sha256)
        self._clock = clock

    def user(self, headers: dict[str, str]) -> User | None:
        """None: no token, or none that is valid."""
        return self.user_of(_presented(headers))

    def user_of(self, token: str) -> User | None:
        if hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode()):
            return ADMINISTRATOR
        claims = self._claims(token)
        if claims is None:
            return None
        namespace, account = claims["kubernetes.io"]["namespace"], claims["kubernetes.io"]["serviceaccount"]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(claims["sub"], groups, account["uid"])

    def issue(self, namespace: str, account: dict[str, Any], audiences: list[str], lifetime_s: int) -> tuple[str, int]:
        """The token, and when it ends (seconds since 1970)."""
        now = int(self._clock())
        end = now + lifetime_s
        name = account["metadata"]["name"]
        claims = {
            "aud": audiences,
            "exp": end,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": account["metadata"]["uid"]},
            },
        }
        signed = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(claims)}"
        return f"{signed}.{self._signature(signed)}", end

    def _signature(self, signed: str) -> str:
        return base64.urlsafe_b64encode(hmac.digest(self._key, signed.encode(), hashlib.sha256)).decode().rstrip("=")

    def _claims(self, token: str) -> dict[str, Any] | None:
        signed, _, signature = token.rpartition(".")
        if not token.isascii() or not hmac.compare_digest(signature, self._signature(signed)):
            return None
        payload = signed.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return claims if claims["exp"] > self._clock() and ISSUER in claims["aud"] else None


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).decode().rstrip("=")


def _presented(headers: dict[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        protocol = protocol.strip()
        if protocol.startswith(_PROTOCOL):
            encoded = protocol.removeprefix(_PROTOCOL)
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except (binascii.Error, UnicodeDecodeError, ValueError):
                return ""
    return ""
