"""What can go wrong, in the words of the domain. HTTP is not known here; `code` is stable and part of the API."""

from collections.abc import Mapping, Sequence


class OnMemOSError(Exception):
    """Root of all domain errors. Its text is a sentence for the user: the thing, the value seen, the value wanted."""

    code = "internal"


class InvalidRequest(OnMemOSError):
    """The request cannot be served as it is written. `errors` maps each field to its complaints."""

    code = "invalid_request"

    def __init__(self, detail: str, errors: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(detail)
        self.errors = {field: list(complaints) for field, complaints in (errors or {}).items()}

    @classmethod
    def field(cls, name: str, complaint: str) -> "InvalidRequest":
        """One field is wrong; `complaint` says what was seen and what is wanted."""
        return cls(f"{name}: {complaint}", {name: [complaint]})


class RequestTooLarge(InvalidRequest):
    """The body is larger than the operation takes."""

    code = "request_too_large"


class ProviderNotConfigured(InvalidRequest):
    """This deployment cannot serve the provider that was asked for."""

    code = "provider_not_configured"


class Unauthenticated(OnMemOSError):
    """No caller could be made out: the key or token is missing, wrong, revoked or expired."""

    code = "unauthenticated"


class Forbidden(OnMemOSError):
    """The key is good, and was not made for this."""

    code = "forbidden"


class KeyNotFound(OnMemOSError):
    """There is no such API key, or it is another tenant's."""

    code = "key_not_found"

    def __init__(self) -> None:
        super().__init__("API key not found")


class SessionNotFound(OnMemOSError):
    """There is no such session, or it is another tenant's: nobody can tell which."""

    code = "session_not_found"

    def __init__(self) -> None:
        super().__init__("Session not found")


class JobNotFound(OnMemOSError):
    """The session has no such job."""

    code = "job_not_found"

    def __init__(self) -> None:
        super().__init__("Job not found")


class RouteNotFound(OnMemOSError):
    """The function was called with a path that is not its own."""

    code = "route_not_found"


class MethodNotAllowed(OnMemOSError):
    """The function was called with a method that is not its own."""

    code = "method_not_allowed"


class IdempotencyConflict(OnMemOSError):
    """The Idempotency-Key was used before, with another body or for a session that is gone."""

    code = "idempotency_conflict"


class SessionFailed(OnMemOSError):
    """The session could not be provisioned, so nothing can run in it."""

    code = "session_failed"


class SessionSuspended(OnMemOSError):
    """The session is suspended and is not one that a command resumes. Nothing was run."""

    code = "session_suspended"


class SessionNotReady(OnMemOSError):
    """The session was still starting when the time to wait for it was up. Nothing was run; trying again is safe."""

    code = "session_not_ready"


class WorkspaceUnreachable(OnMemOSError):
    """The workspace could not be reached. Nothing was run; trying again is safe."""

    code = "workspace_unreachable"


class WorkspaceLost(OnMemOSError):
    """The connection to the workspace broke after the command was sent: it may or may not have run."""

    code = "workspace_lost"


class WorkspaceExhausted(OnMemOSError):
    """The workspace has no process or memory left to start the command with. Nothing was run."""

    code = "workspace_exhausted"


class ProviderUnavailable(OnMemOSError):
    """A cloud API did not answer or asked to be tried later. Nothing is known to have changed; trying again is safe."""

    code = "provider_unavailable"


class QuotaExceeded(OnMemOSError):
    """The project has no room for another workspace; the message is the cloud's own."""

    code = "quota_exceeded"


class TooManyJobs(QuotaExceeded):
    """The session has as many unfinished jobs as one may have. Nothing was started."""

    code = "too_many_jobs"


class ProvisioningFailed(OnMemOSError):
    """The workspace cannot start and trying again will not help; the message is the cloud's own."""

    code = "provisioning_failed"


class WriteConflict(OnMemOSError):
    """Somebody else changed the document since it was read. Read again and decide anew."""

    code = "conflict"


class AlreadyExists(OnMemOSError):
    """A document of that name is there."""

    code = "already_exists"
