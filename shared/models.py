"""Sessions and what describes them: frozen values, the states, and the moves between states that are legal."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any


class ProviderName(StrEnum):
    """Where workspaces can run."""

    CLOUD_RUN = "cloud_run"
    GKE = "gke"
    WORKSTATIONS = "workstations"


AUTO = "auto"  # the caller leaves the choice of provider to us
DATA_PATH, FILESTORE_PATH = "/data", "/mnt/filestore"  # where storage is mounted if nothing else is asked for
NEVER = datetime(9999, 12, 31, tzinfo=UTC)  # when a suspended session expires: a time that Firestore can hold


class State(StrEnum):
    """A session's life. A session that is gone has no document, hence no state."""

    PROVISIONING = "provisioning"
    RUNNING = "running"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    MOVING = "moving"
    DELETING = "deleting"
    FAILED = "failed"


# What resumes is provisioned; what cannot be resumed, suspended or moved is again what it was.
LEGAL_MOVES: Mapping[State, frozenset[State]] = {
    State.PROVISIONING: frozenset({State.RUNNING, State.SUSPENDED, State.FAILED, State.DELETING}),
    State.RUNNING: frozenset({State.SUSPENDING, State.SUSPENDED, State.MOVING, State.FAILED, State.DELETING}),
    State.SUSPENDING: frozenset({State.SUSPENDED, State.RUNNING, State.FAILED, State.DELETING}),
    State.SUSPENDED: frozenset({State.PROVISIONING, State.FAILED, State.DELETING}),
    State.MOVING: frozenset({State.RUNNING, State.FAILED, State.DELETING}),
    State.FAILED: frozenset({State.DELETING}),
    State.DELETING: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What a workspace may use: vCPUs, and bytes of memory."""

    cpu: float = 1.0
    memory_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Filestore:
    """An NFS share to mount: the server's IP address, the share's name, and where in the session."""

    ip: str
    share: str
    mount_path: str = FILESTORE_PATH


@dataclass(frozen=True, slots=True)
class Storage:
    """What a session has mounted: an existing `bucket`, or with None its own, which goes with it unless `keep`."""

    bucket: str | None = None
    mount_path: str = DATA_PATH
    keep: bool = False
    filestore: Filestore | None = None


@dataclass(frozen=True, slots=True)
class KeptBucket:
    """A session's bucket that outlives it, and whose it is. Written before the bucket is made."""

    name: str
    tenant: str
    namespace: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was in a session's work folder: a tar in its own bucket. `crc32c` is of all its bytes, in base64."""

    object: str
    size_bytes: int
    crc32c: str


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a caller asks for. `provider` may be `auto`; no `resources`: the template's; the TTL is from creation.

    `idle_timeout_minutes`: how long nothing may happen in it; None: as long as its TTL lasts. `auto_resume`: whether
    a command resumes it when it is suspended.
    """

    template: str
    namespace: str
    user: str
    provider: str = AUTO
    ttl_minutes: int = 60
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    long_lived: bool = False
    needs_ssh: bool = False
    expected_duration_minutes: int | None = None
    resources: Resources | None = None
    egress: bool = True
    idle_timeout_minutes: int | None = None
    storage: Storage = Storage()
    auto_resume: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is stored.

    `image` is what its workspace runs, chosen at its creation; "" in documents from before images were recorded.
    `expiry_generation` counts the changes of `expires_at`: each has a task of its own. `boot_id` names the process of
    the agent that was last seen and `boots` how many were: more than 1 says that the workspace was restarted under its
    handle. `version` is when the document was last written, the store's mark for compare-and-set; None before.

    `turn` counts its suspensions, resumptions and moves, each with a task of its own, and `turned_at` is when the last
    of them began. While it is suspended, `ttl_left` is what its TTL has left, `expires_at` is NEVER, and `snapshot` has
    its files where the provider does not keep them; `ttl_left` and `snapshot` stay until it runs again. `target` is
    where it moves, `leaving` where a workspace is still to be removed: it moved from there, or did not start there.

    `error` says why it failed; while it is provisioning, why that was given up, and nothing starts it any more.
    """

    id: str
    tenant: str
    namespace: str
    user: str
    provider: ProviderName
    template: str
    state: State
    created_at: datetime
    expires_at: datetime
    resources: Resources
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    egress: bool = True
    image: str = ""
    idle_timeout_minutes: int | None = None
    storage: Storage = Storage()
    url: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    expiry_generation: int = 1
    boot_id: str | None = None
    boots: int = 1
    long_lived: bool = False
    auto_resume: bool = False
    turn: int = 0
    turned_at: datetime | None = None
    ttl_left: timedelta | None = None
    snapshot: Snapshot | None = None
    target: ProviderName | None = None
    leaving: ProviderName | None = None
    version: Any = field(default=None, compare=False, repr=False)

    def moved(self, state: State, **changes: Any) -> "Session":
        """The session in another state. An illegal move is a bug of ours: ValueError."""
        if state not in LEGAL_MOVES[self.state]:
            raise ValueError(f"session {self.id}: {self.state} -> {state} is no legal move")
        return replace(self, state=state, **changes)

    def is_visible_at(self, now: datetime) -> bool:
        """Whether callers may still see it: from the call of delete, or from its expiry, it is gone for them."""
        return self.state is not State.DELETING and not self.is_over_at(now)

    def is_over_at(self, now: datetime) -> bool:
        """Whether its TTL has passed, which stands still from a suspension's beginning until it is resumed."""
        return self.state is not State.SUSPENDING and self.expires_at <= now

    @property
    def places(self) -> tuple[ProviderName, ...]:
        """Every provider that may have a workspace of it."""
        return tuple(dict.fromkeys(place for place in (self.provider, self.target, self.leaving) if place is not None))


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: a line for `/bin/sh -c`, or an argument vector. `timeout_s` bounds the command alone."""

    line: str | None = None
    argv: tuple[str, ...] | None = None
    timeout_s: float = 120.0
    stdin: str | None = None
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Execution:
    """What a command did. 124: its time was up; 128+N: signal N ended it. `truncated`: a stream passed its cap."""

    stdout: str
    stderr: str
    returncode: int
    timed_out: bool
    truncated: bool
    duration_ms: float
    boot_id: str


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a session's agent without the functions: what its provider offers, and None for what it doesn't.

    `url`: the agent's, for HTTP. `websocket`: of its shell. `ticket` opens both until `expires_at`, in a URL once.
    """

    url: str | None
    websocket: str | None
    ticket: str
    expires_at: datetime
    ssh: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions to list, within one tenant; None does not filter. `label` is one (key, value).

    `namespaces`: those that the caller may see.
    """

    namespace: str | None = None
    user: str | None = None
    status: State | None = None
    provider: ProviderName | None = None
    label: tuple[str, str] | None = None
    namespaces: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the listing's order (newest first, then by id): the last session of the page before."""

    created_at: datetime
    session_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some sessions, and where the next page begins; None when this is the last."""

    sessions: tuple[Session, ...]
    next: Position | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A create call that must not happen twice: whose, under which key, with which body (digests), until when."""

    id: str
    body_digest: str
    session_id: str
    expires_at: datetime
