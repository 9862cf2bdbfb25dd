"""Python client of OnMemOS: isolated sessions where commands run.

Installed it is the package `onmemos`; in the repository it is `sdk.python`.
"""

from .client import AsyncOnMemOSClient, OnMemOSClient
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
    ShellExited,
    Timeout,
    TransportError,
    Unauthorized,
    Unavailable,
)
from .retries import Retries
from .sessions import AsyncSession, AsyncSessions, Session, Sessions
from .shells import AsyncShell, Shell
from .terminals import AsyncTerminal, Terminal
from .version import __version__
from .workspaces import AsyncWorkspace, Workspace

__all__ = [
    "APIError",
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
    "NotFound",
    "OnMemOSClient",
    "OnMemOSError",
    "RateLimited",
    "Retries",
    "ServerError",
    "Session",
    "SessionEnded",
    "SessionFailed",
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
