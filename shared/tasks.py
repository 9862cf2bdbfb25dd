"""Steps of a session's life that run later: the Protocol, and when to look at a session next.

The functions behind the steps bear duplicates, reordering and stale deliveries.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Protocol

from shared.models import Session

HORIZON = timedelta(days=29)  # Cloud Tasks schedules at most 30 days ahead; a day for clocks and retries


class Tasks(Protocol):
    """Every method may raise ProviderUnavailable and can be repeated. `attempt` makes the name a new one."""

    async def provision(self, session: Session, attempt: str = "1") -> None:
        """Start the session's workspace now."""

    async def expire(self, session: Session, now: datetime, idle_at: datetime | None = None) -> None:
        """Come back when the session's time is up, or at the horizon or `idle_at` if that is earlier."""

    async def teardown(self, session: Session, attempt: str = "1") -> None:
        """Remove everything of the session now."""

    async def suspend(self, session: Session, attempt: str = "1") -> None:
        """Stop the session's workspace now: its turn is this one."""

    async def move(self, session: Session, attempt: str = "1") -> None:
        """Carry the session to its target now: its turn is this one."""

    async def forget(self, session: Session, now: datetime) -> None:
        """Take back what is scheduled for the session."""

    def pending(self) -> AsyncIterator[tuple[str, str]]:
        """(session id, task name) of all tasks that have a name of ours."""

    async def delete(self, task_name: str) -> None:
        """Delete a task that `pending` gave; one that is gone is not an error."""


def next_hop(session: Session, now: datetime) -> datetime:
    """When to look at the session next. Hops count from its creation, so their task names can be worked out again."""
    hop = session.created_at + HORIZON
    while hop <= now:
        hop += HORIZON
    return min(hop, session.expires_at)


def first_look(session: Session, now: datetime) -> datetime | None:
    """When to see whether the session is idle; None: it may be."""
    timeout = session.idle_timeout_minutes
    return None if timeout is None else now + timedelta(minutes=timeout)
