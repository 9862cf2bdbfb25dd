"""Jobs: commands that outlive a request, and what is known of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from shared.models import Position


class JobState(StrEnum):
    """A job's life. TIMED_OUT, FAILED: what its last attempt came to."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self not in {JobState.PENDING, JobState.RUNNING}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What to run: a line for `/bin/sh -c`, or an argument vector. `timeout_s` bounds each attempt.

    `env` is laid over the session's. `retries`: how often it is started again after it failed.
    """

    line: str | None = None
    argv: tuple[str, ...] | None = None
    timeout_s: float = 3600.0
    env: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is stored.

    `claimed_at`: since when somebody starts it; None: nobody does. `started`: that it was started has been seen.
    `cancelling`: a caller wants its end. `version` is the store's mark for compare-and-set, as a session's.
    """

    id: str
    session_id: str
    spec: JobSpec
    created_at: datetime
    state: JobState = JobState.PENDING
    claimed_at: datetime | None = None
    started: bool = False
    cancelling: bool = False
    attempts: int = 0
    returncode: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    version: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class JobOutput:
    """The newest of what the newest attempt has written so far; `truncated`: there was more."""

    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False


NO_OUTPUT = JobOutput()


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs of a session, and where the next page begins, after a job; None when this is the last."""

    jobs: tuple[Job, ...]
    next: Position | None = None
