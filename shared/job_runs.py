"""Where jobs run: the Protocol, and how a run can be."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from shared.job_models import Job
from shared.models import Session


class Progress(StrEnum):
    """How far a run is."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Run:
    """A job's one run, with all of its attempts. `reason`: the platform's own words for how it is."""

    progress: Progress
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing runs any more and nothing will."""
        return self.progress not in {Progress.PENDING, Progress.RUNNING}


class JobRuns(Protocol):
    """Every method may raise ProviderUnavailable and can be repeated."""

    async def start(self, session: Session, job: Job, bucket: str) -> None:
        """Run the job in the session's image with the bucket mounted; a run that a former try began is left alone.

        Two must not start the same job at the same time. Raises QuotaExceeded, ProvisioningFailed.
        """

    async def inspect(self, job_id: str) -> Run | None:
        """How its run is; None: there is none."""

    async def cancel(self, job_id: str) -> None:
        """End the run, and wait up to CANCEL_TIMEOUT_S for that; one that is over, or none, is not an error."""

    async def remove(self, job_id: str) -> None:
        """End the run and forget it; one that is gone is not an error."""

    def job_ids(self) -> AsyncIterator[tuple[str, str]]:
        """(session id, job id) of all that carry our labels and name."""
