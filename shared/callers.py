"""Who calls: API keys, what they are for, and the tenant and namespaces that they open."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.errors import Forbidden

KEY_ID_LENGTH = 16  # hexadecimal digits: 64 bits, enough to tell a deployment's keys apart


class Scope(StrEnum):
    """What a key may be used for: keys themselves, or sessions."""

    ADMIN = "admin"
    SESSIONS = "sessions"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a key, the tenant whose sessions it may see, and of those the namespaces; None: all of them."""

    tenant: str
    key_id: str
    scopes: frozenset[str] = frozenset({Scope.SESSIONS})
    namespaces: frozenset[str] | None = None

    def may_use(self, namespace: str) -> bool:
        """Whether sessions of this namespace are the caller's to make and to see."""
        return self.namespaces is None or namespace in self.namespaces

    def require(self, scope: Scope) -> None:
        """Raises Forbidden: the key was not made for this."""
        if scope not in self.scopes:
            has = ", ".join(sorted(self.scopes)) or "none"
            raise Forbidden(f"this API key has the scopes {has}; wanted one with the scope {scope}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored: never the secret, only its digest. None: every namespace, no expiry, not revoked.

    `id` is public: the beginning of the digest.
    """

    digest: str
    name: str
    tenant: str
    scopes: frozenset[str]
    created_at: datetime
    namespaces: frozenset[str] | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def id(self) -> str:
        return self.digest[:KEY_ID_LENGTH]

    def opens_at(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)
