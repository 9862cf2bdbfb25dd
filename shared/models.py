"""Sessions and what describes them: frozen values, the states, and the moves between states that are legal."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any


class ProviderName(StrEnum):
    """Where workspaces can run."""

    CLOUD_RUN = "cloud_run"
    GKE = "gke"
    WORKSTATIONS = "workstations"


AUTO = "auto"  # the caller leaves the choice of provider to us


class State(StrEnum):
    """A session's life. A session that is gone has no document, hence no state."""

    PROVISIONING = "provisioning"
    RUNNING = "running"
    SUSPENDED = "suspended"
    DELETING = "deleting"
    FAILED = "failed"


LEGAL_MOVES: Mapping[State, frozenset[State]] = {
    State.PROVISIONING: frozenset({State.RUNNING, State.FAILED, State.DELETING}),
    State.RUNNING: frozenset({State.SUSPENDED, State.FAILED, State.DELETING}),
    State.SUSPENDED: frozenset({State.RUNNING, State.FAILED, State.DELETING}),
    State.FAILED: frozenset({State.DELETING}),
    State.DELETING: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a key, and the tenant whose sessions it may see."""

    tenant: str
    key_id: str
    scopes: frozenset[str] = frozenset({"sessions"})


@dataclass(frozen=True, slots=True)
class Resources:
    """What a workspace may use: vCPUs, and bytes of memory."""

    cpu: float = 1.0
    memory_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a caller asks for. `provider` may be `auto`; no `resources`: the template's; the TTL is from creation."""

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


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is stored.

    `expiry_generation` counts the changes of `expires_at`: each has a task of its own. `boot_id` names the process of
    the agent that was last seen and `boots` how many were: more than 1 says that the workspace was restarted under its
    handle. `version` is when the document was last written, the store's mark for compare-and-set; None before.
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
    url: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    expiry_generation: int = 1
    boot_id: str | None = None
    boots: int = 1
    version: Any = field(default=None, compare=False, repr=False)

    def moved(self, state: State, **changes: Any) -> "Session":
        """The session in another state. An illegal move is a bug of ours: ValueError."""
        if state not in LEGAL_MOVES[self.state]:
            raise ValueError(f"session {self.id}: {self.state} -> {state} is no legal move")
        return replace(self, state=state, **changes)

    def is_visible_at(self, now: datetime) -> bool:
        """Whether callers may still see it: from the call of delete, or from its expiry, it is gone for them."""
        return self.state is not State.DELETING and self.expires_at > now


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
class SessionFilter:
    """Which sessions to list, within one tenant; None does not filter. `label` is one (key, value)."""

    namespace: str | None = None
    user: str | None = None
    status: State | None = None
    provider: ProviderName | None = None
    label: tuple[str, str] | None = None


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
