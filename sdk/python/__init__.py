"""Python client of OnMemOS: isolated sessions where commands run.

Installed it is the package `onmemos`; in the repository it is `sdk.python`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    APIError,
    BadRequest,
    CommandFailed,
    Conflict,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    Forbidden,
    InvalidResponse,
    NotFound,
    OnMemOSError,
    RateLimited,
    ServerError,
    SessionEnded,
    SessionFailed,
    SessionSuspended,
    SessionUnchanged,
    ShellExited,
    Timeout,
    TransportError,
    Unauthorized,
    Unavailable,
)
from .version import __version__

if TYPE_CHECKING:
    from .client import AsyncOnMemOSClient, OnMemOSClient
    from .jobs import AsyncJob, AsyncJobs, Job, Jobs
    from .retries import Retries
    from .sessions import AsyncSession, AsyncSessions, Session, Sessions
    from .shells import AsyncShell, Shell
    from .terminals import AsyncTerminal, Terminal
    from .workspaces import AsyncWorkspace, Workspace
else:
    # Imported when they are first asked for: with httpx and tenacity that takes 0.2 s, which `onmemos` at Tab has not.
    _LATE = {
        "AsyncOnMemOSClient": "client",
        "OnMemOSClient": "client",
        "AsyncJob": "jobs",
        "AsyncJobs": "jobs",
        "Job": "jobs",
        "Jobs": "jobs",
        "Retries": "retries",
        "AsyncSession": "sessions",
        "AsyncSessions": "sessions",
        "Session": "sessions",
        "Sessions": "sessions",
        "AsyncShell": "shells",
        "Shell": "shells",
        "AsyncTerminal": "terminals",
        "Terminal": "terminals",
        "AsyncWorkspace": "workspaces",
        "Workspace": "workspaces",
    }

    def __getattr__(name: str) -> Any:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_LATE[name]}", __name__), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "APIError",
    "AsyncJob",
    "AsyncJobs",
    "AsyncOnMemOSClient",
    "AsyncSession",
    "AsyncSessions",
    "AsyncShell",
    "AsyncTerminal",
    "AsyncWorkspace",
    "BadRequest",
    "CommandFailed",
    "Conflict",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "Forbidden",
    "InvalidResponse",
    "Job",
    "Jobs",
    "NotFound",
    "OnMemOSClient",
    "OnMemOSError",
    "RateLimited",
    "Retries",
    "ServerError",
    "Session",
    "SessionEnded",
    "SessionFailed",
    "SessionSuspended",
    "SessionUnchanged",
    "Sessions",
    "Shell",
    "ShellExited",
    "Terminal",
    "Timeout",
    "TransportError",
    "Unauthorized",
    "Unavailable",
    "Workspace",
    "__version__",
]
