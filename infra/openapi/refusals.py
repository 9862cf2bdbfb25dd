"""What can go wrong in each operation: derived from its route where it can be, else said here and nowhere else.

Left out is what a caller cannot come by: a function called with another path or method than its own, which the gateway
refuses before.
"""

from collections.abc import Mapping, Sequence

from shared import errors
from shared.http import Access, Route, status_of

Error = type[errors.OnMemOSError]

OF_SESSION: tuple[Error, ...] = (errors.SessionNotFound,)
OF_JOB: tuple[Error, ...] = (*OF_SESSION, errors.JobNotFound)
TO_CREATE: tuple[Error, ...] = (
    errors.ProviderNotConfigured, errors.IdempotencyConflict, errors.SessionNotFound,  # deleted while it is waited for
)  # fmt: skip
TO_TURN: tuple[Error, ...] = (*OF_SESSION, errors.SessionFailed, errors.SessionNotReady)
TO_REACH: tuple[Error, ...] = (*TO_TURN, errors.SessionSuspended, errors.WorkspaceUnreachable)
TO_RUN: tuple[Error, ...] = (*TO_REACH, errors.WorkspaceLost, errors.WorkspaceExhausted, errors.InvalidRequest)

RAISED: Mapping[str, Sequence[Error]] = {
    "cancel_job": OF_JOB,
    "connect_session": TO_REACH,
    "create_job": (
        *OF_SESSION, errors.SessionFailed, errors.ProviderNotConfigured, errors.IdempotencyConflict,
        errors.QuotaExceeded, errors.TooManyJobs,
    ),
    "create_key": (),
    "create_session": TO_CREATE,
    "create_workspace": TO_CREATE,
    "delete_session": OF_SESSION,
    "delete_workspace": OF_SESSION,
    "execute_session": TO_RUN,
    "execute_workspace": TO_RUN,
    "get_job": OF_JOB,
    "get_session": OF_SESSION,
    "get_workspace": OF_SESSION,
    "health": (),
    "list_jobs": OF_SESSION,
    "list_keys": (),
    "list_sessions": (),
    "list_templates": (),
    "list_workspaces": (),
    "move_session": (*TO_TURN, errors.ProviderNotConfigured),
    "plan_session": (errors.ProviderNotConfigured,),
    "resume_session": TO_TURN,
    "revoke_key": (errors.KeyNotFound,),
    "run_python": TO_RUN,
    "run_shell": TO_RUN,
    "suspend_session": TO_TURN,
    "update_session": OF_SESSION,
}  # fmt: skip


def refusals(route: Route) -> dict[int, list[Error]]:
    """The errors of an operation by their status, each in the order of their codes."""
    found: set[Error] = set(RAISED[route.name])
    if route.access is Access.KEY:
        # The namespace or the scope may not be the key's; keys and sessions are in Firestore.
        found |= {errors.Unauthenticated, errors.Forbidden, errors.ProviderUnavailable}
    if route.body is not None:
        found |= {errors.InvalidRequest, errors.RequestTooLarge}
    if route.query is not None:
        found.add(errors.InvalidRequest)
    by_status: dict[int, list[Error]] = {}
    for error in sorted(found, key=lambda error: error.code):
        by_status.setdefault(status_of(error), []).append(error)
    return dict(sorted(by_status.items()))
