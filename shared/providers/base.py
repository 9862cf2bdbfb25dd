"""What a provider does: create, stop, inspect, delete and find workspaces. What happens inside one is the agent's."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from shared.models import ProviderName, Resources, Session, Storage

if TYPE_CHECKING:
    import ssl


class Health(StrEnum):
    """What a provider says of a workspace.

    STARTING covers a restart that the platform does by itself. STOPPED: it does not run, and `create` starts it again.
    """

    READY = "ready"
    STARTING = "starting"
    STOPPED = "stopped"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Condition:
    """A workspace's health, and the platform's own words for it."""

    health: Health
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace that is up: where its agent answers, and what the session's `details` say of it.

    `adopt`: it was up before the session was; its agent goes by this id and is to be given the session and its `env`
    (again, when it was given them before). None: it was made for the session.
    """

    url: str
    details: dict[str, str]
    adopt: str | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """How clients reach a workspace without the control plane; None: not in this way."""

    url: str | None = None
    websocket: str | None = None
    ssh: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """How the control plane reaches an agent: `url` without a slash at its end, and what opens the way to it.

    `headers` are the platform's, never the agent's own. `ssl`: whom to trust and how to show oneself; None: the public
    authorities.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssl: "ssl.SSLContext | None" = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a session asks of a provider."""

    template: str
    resources: Resources
    egress: bool = True
    storage: Storage = Storage()
    long_lived: bool = False

    @classmethod
    def of(cls, session: Session) -> "Wanted":
        """What this session asks for."""
        return cls(session.template, session.resources, session.egress, session.storage, session.long_lived)


class Provider(Protocol):
    """Every method may raise ProviderUnavailable; names derive from the session's id, so each call can be repeated."""

    name: ProviderName
    ssh: bool
    price_share: float  # of the list price, where its workspaces are of a cheaper kind

    def check(self, wanted: Wanted) -> None:
        """Raises InvalidRequest: the provider has no workspace of that size or kind."""

    def access(self, session: Session) -> Access:
        """How clients reach the agent of a session that runs."""

    async def address(self, session: Session) -> Address:
        """How the control plane reaches it; asked before every command. Raises WorkspaceUnreachable: it has none."""

    def keeps_files(self, session: Session) -> bool:
        """Whether the work folder outlives `stop` by itself."""

    async def create(self, session: Session, env: dict[str, str], bucket: str) -> Workspace:
        """Start the workspace, with the bucket and what else its storage names mounted, and wait until it is ready.

        One that a former try made is found again, and one that was stopped is started.

        Raises QuotaExceeded, or ProvisioningFailed: it cannot start, and trying again will not help.
        """

    async def stop(self, session_id: str) -> None:
        """End the workspace with all that runs in it, so that it costs nothing but what `create` needs to go on.

        One that is stopped or gone is not an error.
        """

    async def inspect(self, session_id: str) -> Condition:
        """How the workspace is; one that does not exist is GONE."""

    async def delete(self, session_id: str) -> None:
        """Remove the workspace, stopped or not, and all that belongs to it; one that is gone is not an error."""

    def session_ids(self) -> AsyncIterator[str]:
        """The session ids of all workspaces, stopped ones too, that carry our label and name."""
