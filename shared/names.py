"""Names that are derived from a session: legal everywhere they are used, and the same on every try."""

import hashlib
import re
from datetime import datetime

SERVICE_PREFIX = "onmemos-"
MAX_SERVICE_NAME = 49  # Cloud Run: cloud.google.com/run/docs/reference/rest/v2/projects.locations.services
MAX_SESSION_ID = MAX_SERVICE_NAME - len(SERVICE_PREFIX)
SESSION_PREFIX = "ws-"
TASK = re.compile(r"[0-9a-f]{8}-(ws-.+)-(provision|expire|teardown|suspend|move)-[^-]+")


def session_id(namespace: str, user: str, at: datetime, suffix: str = "") -> str:
    """`ws-<namespace>-<user>-<epoch>[-<suffix>]`, cleaned to a-z, 0-9 and hyphens, at most 41 characters."""
    tail = f"-{int(at.timestamp())}" + (f"-{suffix}" if suffix else "")
    first, second = _clip_pair(_clean(namespace), _clean(user), MAX_SESSION_ID - len(SESSION_PREFIX) - 1 - len(tail))
    return f"{SESSION_PREFIX}{first}-{second}{tail}"


def service_name(session: str) -> str:
    """The Cloud Run service of a session."""
    return SERVICE_PREFIX + session


def job_name(job: str) -> str:
    """The Cloud Run job of a job. Job ids are short: with a run's suffix it stays below Cloud Run's 63 characters."""
    return SERVICE_PREFIX + job


def job_folder(job: str) -> str:
    """The folder of a job in its session's bucket: what its objects' names begin with, without a slash at its end."""
    return f".onmemos/jobs/{job}"


def bucket_name(session: str) -> str:
    """The bucket of a session: `onmemos-<id without ws->`, as the contract shows it."""
    return SERVICE_PREFIX + session.removeprefix(SESSION_PREFIX)


def session_of_bucket(bucket: str) -> str | None:
    """The session whose bucket this is; None when the name is not one of ours."""
    ours = re.fullmatch(r"onmemos-[a-z0-9-]+-\d{10}(-[a-z0-9]{4})?", bucket)
    return SESSION_PREFIX + bucket.removeprefix(SERVICE_PREFIX) if ours else None


def workspace_account(pattern: str, tenant: str) -> str:
    """The service account that a tenant's workspaces run as. Where the pattern holds no `{tenant}`, all share one."""
    return pattern.replace("{tenant}", tenant)


def task_name(session: str, step: str, generation: int | str) -> str:
    """A task's id. Cloud Tasks spreads names by their prefix, so it begins with a digest."""
    name = f"{session}-{step}-{generation}"
    return f"{hashlib.sha256(name.encode()).hexdigest()[:8]}-{name}"


def session_of_task(task: str) -> str | None:
    """The session whose task this is; None when the name is not one of ours."""
    ours = TASK.fullmatch(task)
    return ours[1] if ours else None


def step_of_task(task: str) -> str | None:
    """The step that this task delivers; None when the name is not one of ours."""
    ours = TASK.fullmatch(task)
    return ours[2] if ours else None


def function_url(pattern: str, function: str) -> str:
    """Where a function answers. `pattern` holds its name as `{function}`, or as `{service}`: Cloud Run takes no '_'."""
    return pattern.format(function=function, service=function.replace("_", "-"))


def _clean(text: str) -> str:
    # No bucket may have "google" or a close misspelling in its name: cloud.google.com/storage/docs/buckets#naming
    return re.sub(r"g[o0]+gle", "ggl", re.sub(r"[^a-z0-9]+", "-", text.lower())).strip("-") or "x"


def _clip_pair(first: str, second: str, room: int) -> tuple[str, str]:
    """Share `room` between the two: each gets half, and what one does not need goes to the other."""
    half = room // 2
    first = first[: max(half, room - len(second))].rstrip("-")
    return first, second[: room - len(first)].rstrip("-")
