"""The JSON of the API as types: what goes in and what comes back. At run time these are plain dicts.

A newer service may send more fields than are named here; they are passed through.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict


class ResourcesDict(TypedDict, total=False):
    """What a workspace may use: vCPUs, and memory as a Kubernetes quantity such as `2Gi`."""

    cpu: float
    memory: str


class SessionSpecDict(TypedDict, total=False):
    """What to ask for. `template`, `namespace` and `user` are needed; `ttl_minutes` is 1 to 43,200, 60 if not given."""

    template: str
    namespace: str
    user: str
    provider: str
    ttl_minutes: int
    env: Mapping[str, str]
    labels: Mapping[str, str]
    long_lived: bool
    needs_ssh: bool
    expected_duration_minutes: int
    resources: ResourcesDict
    network: Mapping[str, Any]


class SessionDict(TypedDict):
    """A session. `status`: provisioning, running, suspended, deleting or failed. Times are ISO 8601 in UTC."""

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
    expires_at: str
    error: NotRequired[str | None]


class SessionPageDict(TypedDict):
    """Some sessions, newest first; `next_page_token` leads to the next page, None on the last."""

    sessions: list[SessionDict]
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


class DeletedDict(TypedDict):
    """A session that is gone for every caller; `status` is `deleting` while its resources follow."""

    id: str
    status: str


class HealthDict(TypedDict):
    """`status` is `ok`."""

    status: str
    version: NotRequired[str]
