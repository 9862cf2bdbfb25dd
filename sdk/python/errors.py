"""What can go wrong in a call: one tree, from the socket to the service's refusal.

OnMemOSError
├── TransportError              no answer that means something
│   ├── ConnectError            never sent
│   │   └── ConnectTimeout      also a Timeout
│   ├── Timeout                 sent, no answer in time
│   ├── ConnectionLost          sent, the connection broke
│   │   └── ShellExited         the shell that it led to came to its own end
│   └── InvalidResponse         something answered, but not OnMemOS
├── APIError                    the service refused: status, code, detail, errors, request_id
│   ├── BadRequest 400, Unauthorized 401, Forbidden 403, NotFound 404, RateLimited 429
│   ├── Conflict 409
│   │   ├── SessionFailed       the session cannot start
│   │   ├── SessionSuspended    the session is suspended, and nobody asked to resume it
│   │   └── SessionUnchanged    the session could not be suspended, resumed or moved
│   ├── SessionEnded 410        the session was deleted while it was in use
│   └── ServerError 5xx
│       └── Unavailable 502, 503, 504
└── CommandFailed               execute_session(..., check=True): the command ran and failed
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .shapes import ExecutionDict

SESSION_NOT_FOUND = "session_not_found"
SESSION_NOT_READY = "session_not_ready"
SESSION_FAILED = "session_failed"
SESSION_SUSPENDED = "session_suspended"
SESSION_UNCHANGED = "session_unchanged"  # the SDK's own
WORKSPACE_UNREACHABLE = "workspace_unreachable"
FROZEN = "frozen"  # an agent's, while its session is being suspended or moved
RESTORING = "restoring"  # an agent's, while its session's files come back

# 5xx codes with which the service says that it ran nothing.
NOTHING_DONE = frozenset({SESSION_NOT_READY, WORKSPACE_UNREACHABLE, "workspace_exhausted", FROZEN, RESTORING})


class OnMemOSError(Exception):
    """Root of the tree.

    `may_have_executed`: whether the service may have carried the call out although it failed; where it is False the
    call can be made again without doing anything twice. `earlier`: what the tries before this one met, oldest first.
    """

    may_have_executed: bool = False
    earlier: tuple["OnMemOSError", ...] = ()


class TransportError(OnMemOSError):
    """No usable answer came back."""

    may_have_executed = True


class ConnectError(TransportError):
    """No connection: refused, no such host, TLS failed. The request was never sent."""

    may_have_executed = False


class Timeout(TransportError):
    """The request was sent and no answer came in time."""


class ConnectTimeout(ConnectError, Timeout):
    """The connection was not accepted in time. The request was never sent."""


class ConnectionLost(TransportError):
    """The connection broke after the request, or some of it, was sent."""


class ShellExited(ConnectionLost):
    """The shell at the other end exited, as `exit` makes it do."""


class InvalidResponse(TransportError):
    """A success that is not a JSON object: what answers at `base_url` is probably not OnMemOS."""


class APIError(OnMemOSError):
    """The service refused or failed.

    `status` is HTTP's. `code` is stable, fit for programs; None when something before the service answered. `detail`
    is a sentence for people. `errors` maps fields of the request to their complaints. `request_id` is what to quote
    when asking for help. `retry_after_s`: how long the service asks to wait.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        code: str | None = None,
        errors: Mapping[str, Sequence[str]] | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.errors = {field: list(complaints) for field, complaints in (errors or {}).items()}
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.may_have_executed = status >= 500 and code not in NOTHING_DONE

    def __str__(self) -> str:
        code = f" {self.code}" if self.code else ""
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.status}{code}: {self.detail}{request}"


class BadRequest(APIError):
    """400: the request cannot be served as it is written; `errors` names the fields."""


class Unauthorized(APIError):
    """401: the API key is missing, wrong, revoked or expired."""


class Forbidden(APIError):
    """403: the API key may not do this."""


class NotFound(APIError):
    """404: no such session (or key), or it is somebody else's."""


class Conflict(APIError):
    """409: the idempotency key was used for another request, or the session's state does not allow it."""


class SessionFailed(Conflict):
    """409: the session could not start, so nothing can run in it; `detail` is the reason."""


class SessionSuspended(Conflict):
    """409: the session is suspended, so nothing can run in it until it is resumed."""

    how = "session.resume() or client.resume_session(id) starts it again; with auto_resume a command does so itself"

    def __str__(self) -> str:
        return f"{super().__str__()}; {self.how}"


class SessionUnchanged(Conflict):
    """409: the session could not be suspended, resumed or moved, and is as it was; `detail` is the reason."""


class SessionEnded(APIError):
    """410: the session was deleted while a shell was open in it. What ran at that time may have been cut short."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.may_have_executed = True


class RateLimited(APIError):
    """429: too much at once; nothing was done. `retry_after_s` says when to come back, if the service knows."""


class ServerError(APIError):
    """5xx: the service failed."""


class Unavailable(ServerError):
    """502, 503, 504: the service, or what stands before it, cannot answer now."""


class CommandFailed(OnMemOSError):
    """The command ran and its returncode is not 0. `result` is what execute_session would have returned."""

    may_have_executed = True

    def __init__(self, result: ExecutionDict) -> None:
        super().__init__(result)
        self.result = result
        self.returncode = result["returncode"]
        self.stdout = result["stdout"]
        self.stderr = result["stderr"]

    def __str__(self) -> str:
        last_words = self.stderr.strip().rpartition("\n")[2]
        how = "ran out of time" if self.result.get("timed_out") else f"ended with returncode {self.returncode}"
        return f"the command {how}{': ' if last_words else ''}{last_words}"


_BY_STATUS: Mapping[int, type[APIError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: SessionEnded,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}

_CONFLICTS: Mapping[str | None, type[APIError]] = {
    SESSION_FAILED: SessionFailed,
    SESSION_SUSPENDED: SessionSuspended,
    SESSION_UNCHANGED: SessionUnchanged,
}


def class_of(status: int, code: str | None = None) -> type[APIError]:
    """The class that stands for an HTTP status, or for the service's code where it has one of its own."""
    if status == 409 and code in _CONFLICTS:
        return _CONFLICTS[code]
    return _BY_STATUS.get(status, ServerError if status >= 500 else APIError)
