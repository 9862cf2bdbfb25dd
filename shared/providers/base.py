"""What a provider does: create, inspect, delete and find workspaces. What happens inside one is the agent's."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from shared.models import ProviderName, Resources, Session, Storage


class Health(StrEnum):
    """What a provider says of a workspace. STARTING covers a restart that the platform does by itself."""

    READY = "ready"
    STARTING = "starting"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Condition:
    """A workspace's health, and the platform's own words for it."""

    health: Health
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace that is up: where its agent answers, and what the session's `details` say of it."""

    url: str
    details: dict[str, str]


@dataclass(frozen=True, slots=True)
class Access:
    """How clients reach a workspace without the control plane; None: not in this way."""

    url: str | None = None
    websocket: str | None = None
    ssh: Mapping[str, str] | None = None


class Provider(Protocol):
    """Every method may raise ProviderUnavailable; names derive from the session's id, so each call can be repeated."""

    name: ProviderName
    ssh: bool

    def check(self, resources: Resources, *, egress: bool, storage: Storage) -> None:
        """Raises InvalidRequest: the provider has no workspace of that size or kind."""

    def access(self, session: Session) -> Access:
        """How clients reach the agent of a session that runs."""

    async def create(self, session: Session, env: dict[str, str], bucket: str) -> Workspace:
        """Start the workspace, with the bucket and what else its storage names mounted, and wait until it is ready.

        One that a former try made is found again.

        Raises QuotaExceeded, or ProvisioningFailed: it cannot start, and trying again will not help.
        """

    async def inspect(self, session_id: str) -> Condition:
        """How the workspace is; one that does not exist is GONE."""

    async def delete(self, session_id: str) -> None:
        """Remove the workspace and all that belongs to it; one that is gone is not an error."""

    def session_ids(self) -> AsyncIterator[str]:
        """The session ids of all workspaces that carry our label and name."""
