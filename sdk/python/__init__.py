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
    Timeout,
    TransportError,
    Unauthorized,
    Unavailable,
)
from .retries import Retries
from .version import __version__

__all__ = [
    "APIError",
    "AsyncOnMemOSClient",
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
    "SessionEnded",
    "SessionFailed",
    "Timeout",
    "TransportError",
    "Unauthorized",
    "Unavailable",
    "__version__",
]
