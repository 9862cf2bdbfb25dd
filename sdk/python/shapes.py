"""The JSON of the API as types: what goes in and what comes back. At run time these are plain dicts.

A newer service may send more fields than are named here; they are passed through.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict


class ResourcesDict(TypedDict, total=False):
    """What a workspace may use: vCPUs, and memory as a Kubernetes quantity such as `2Gi`."""

    cpu: float
    memory: str


class FilestoreDict(TypedDict):
    """An NFS share to mount: `{"ip": "10.0.0.2", "share": "vol1"}`."""

    ip: str
    share: str
    mount_path: NotRequired[str]


class StorageDict(TypedDict, total=False):
    """What is mounted: an existing `bucket`, else the session's own. `keep`: the bucket outlives the session."""

    bucket: str
    mount_path: str
    keep: bool
    filestore: FilestoreDict


class SessionOptionsDict(TypedDict, total=False):
    """What may be asked for. `ttl_minutes` is 1 or more, 60 if not given.

    `idle_timeout_minutes`: how long nothing may run and nobody be connected before the session ends. `auto_resume`:
    whether a command resumes the session when it is suspended.
    """

    provider: str
    ttl_minutes: int
    env: Mapping[str, str]
    labels: Mapping[str, str]
    long_lived: bool
    auto_resume: bool
    needs_ssh: bool
    expected_duration_minutes: int
    resources: ResourcesDict
    network: Mapping[str, Any]
    idle_timeout_minutes: int
    storage: StorageDict


class SessionSpecDict(SessionOptionsDict, total=False):
    """What to ask for. `template`, `namespace` and `user` are needed."""

    template: str
    namespace: str
    user: str


class SessionStorageDict(TypedDict):
    """What is mounted in a session."""

    bucket: str | None
    mount_path: str | None
    keep: bool
    filestore: FilestoreDict | None


class SessionDict(TypedDict):
    """A session. Times are ISO 8601 in UTC.

    `status`: provisioning, running, suspending, suspended, moving, deleting or failed. While it is suspended,
    `expires_at` is None and `ttl_left_seconds` is what will be left of its time when it is resumed.
    """

    id: str
    provider: str
    namespace: str
    user: str
    status: str
    url: str | None
    websocket: str | None
    ssh: bool
    details: dict[str, Any]
    template: str
    labels: dict[str, str]
    created_at: str
    expires_at: str | None
    suspended_at: NotRequired[str | None]
    ttl_left_seconds: NotRequired[float | None]
    long_lived: NotRequired[bool]
    auto_resume: NotRequired[bool]
    error: NotRequired[str | None]
    idle_timeout_minutes: NotRequired[int | None]
    storage: NotRequired[SessionStorageDict]


class SessionPageDict(TypedDict):
    """Some sessions, newest first; `next_page_token` leads to the next page, None on the last."""

    sessions: list[SessionDict]
    next_page_token: str | None


class PlanDict(TypedDict):
    """What a creation would choose, and why. `prices_of`: the month that the price was taken from."""

    provider: str
    reasons: list[str]
    expected_start_seconds: float
    cost_per_hour_usd: float
    prices_of: str
    notes: list[str]


class ConnectionDict(TypedDict):
    """How to reach the session's agent without the service between.

    `url`: the agent's; None where there is no way to it. `websocket`: of its shell. `ticket`: opens this session until
    `expires_at`, as often as wanted in a header, once in a URL. `ssh`: a `host`, and the `command` that leads there;
    None where the provider has none.
    """

    url: str | None
    websocket: str | None
    ticket: str
    expires_at: str
    ssh: Any


class TemplateDict(TypedDict):
    """A template; where it is not `available`, `reason` says why."""

    name: str
    description: str
    image: str
    resources: ResourcesDict
    env: dict[str, str]
    available: bool
    reason: str | None


class TemplateListDict(TypedDict):
    """What sessions can be made from."""

    templates: list[TemplateDict]


class KeyDict(TypedDict):
    """An API key, without its secret. `namespaces` None: all of them; `expires_at` None: never. Times are ISO 8601."""

    id: str
    name: str
    tenant: str
    scopes: list[str]
    namespaces: list[str] | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class NewKeyDict(KeyDict):
    """A key that was just made. `key` is its secret, which is shown this once."""

    key: str


class KeyListDict(TypedDict):
    """The tenant's keys, revoked ones too."""

    keys: list[KeyDict]


class RevokedKeyDict(TypedDict):
    """A key that opens nothing from now on."""

    id: str
    revoked_at: str
    success: bool


class WorkspacePageDict(TypedDict):
    """Some Cloud Run workspaces, newest first: sessions, as the older API shows them."""

    workspaces: list[SessionDict]
    next_page_token: str | None


class ExecutionDict(TypedDict):
    """What a command did.

    `returncode` 124 with `timed_out`: the time was up; 128+N: signal N ended it. `success`: returncode is 0.
    `truncated`: a stream was longer than the workspace keeps. `duration_ms`: in the workspace.
    """

    stdout: str
    stderr: str
    returncode: int
    success: bool
    timed_out: NotRequired[bool]
    truncated: NotRequired[bool]
    duration_ms: NotRequired[float]


class JobDict(TypedDict):
    """A job. `state`: pending, running, succeeded, failed, cancelled or timed_out.

    `command` or `argv` is what it runs. `timeout` is in seconds, for each of its `attempts`. `error`: why it could not
    run, or was ended. `stdout`, `stderr`: the newest 1 MiB of each, `truncated` where one was longer; not in a list.
    """

    id: str
    session_id: str
    state: str
    command: NotRequired[str | None]
    argv: NotRequired[list[str] | None]
    timeout: float
    retries: int
    attempts: int
    returncode: int | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: str | None
    stdout: NotRequired[str]
    stderr: NotRequired[str]
    truncated: NotRequired[bool]


class JobPageDict(TypedDict):
    """Some jobs of a session; `next_page_token` leads to the next page, None on the last."""

    jobs: list[JobDict]
    next_page_token: str | None


class ShellResultDict(ExecutionDict):
    """What a command in a shell did. `cwd`: where the shell is after it."""

    cwd: str


class WelcomeDict(TypedDict):
    """What a shell says when it opens. `boot_id`: the process of the agent; `shell`: bash or sh."""

    session_id: str
    boot_id: str
    shell: str
    cwd: str
    version: NotRequired[str]


class DeletedDict(TypedDict):
    """A session that is gone for every caller; `status` is `deleting` while its resources follow."""

    id: str
    status: str


class HealthDict(TypedDict):
    """`status` is `ok`."""

    status: str
    version: NotRequired[str]
