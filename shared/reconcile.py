"""What a crash between two writes can leave behind, found and put right. Safe to run at any time and more than once."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared import names
from shared.job_life import JobLife
from shared.models import Session, State
from shared.ports import Ports
from shared.steps import Steps

STUCK_AFTER = timedelta(minutes=2)  # a task that was enqueued has run, or is being retried, long before
OVERDUE_AFTER = timedelta(seconds=30)
LOOKED_UP_AT_ONCE = 100


class Deed(StrEnum):
    """What was done, or with `dry_run` would have been."""

    PROVISION = "enqueue provision"
    SUSPEND = "enqueue suspend"
    MOVE = "enqueue move"
    TEARDOWN = "enqueue teardown"
    EXPIRE = "expire"
    DELETE_WORKSPACE = "delete workspace"
    DELETE_BUCKET = "delete bucket"
    DELETE_TASK = "delete task"
    SETTLE_JOB = "settle job"
    DELETE_JOB = "delete job"
    FORGET_KEYS = "forget idempotency keys"


@dataclass(frozen=True, slots=True)
class Action:
    """One deed, on what, and why."""

    deed: Deed
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Compares what is recorded with what is there. Touches only what carries a label or a name of ours.

    A resource is listed before its session is looked up: a session's document is written before anything is made for
    it, so a resource whose session is not found has outlived it.
    """

    ports: Ports

    async def run(self, *, dry_run: bool = False) -> AsyncGenerator[Action]:
        """Put everything right, one action at a time. Raises ProviderUnavailable; what was done by then stays done."""
        now = self.ports.clock()
        for plan in (self._stuck(now), self._overdue(now), self._jobs(now), self._orphans(), self._spent_keys(now)):
            async for action, do in plan:
                if not dry_run:
                    await do()
                yield action

    async def _stuck(self, now: datetime) -> "AsyncIterator[tuple[Action, _Do]]":
        attempt = f"r{int(now.timestamp())}"  # the names of tasks that ran stay blocked for a day
        async for session in self.ports.store.unfinished():
            age = now - session.version if session.version is not None else now - session.created_at
            if age < STUCK_AFTER:
                continue
            reason = f"{session.state} for {int(age.total_seconds())} s"
            deed, enqueue = self._steps[session.state]
            yield Action(deed, session.id, reason), _bind(enqueue, session, attempt)

    async def _overdue(self, now: datetime) -> "AsyncIterator[tuple[Action, _Do]]":
        async for session in self.ports.store.expired(now - OVERDUE_AFTER):
            if session.state is not State.DELETING:
                reason = f"its time was up at {session.expires_at:%Y-%m-%dT%H:%M:%SZ}"
                yield (
                    Action(Deed.EXPIRE, session.id, reason),
                    _bind(Steps(self.ports).expire, session.id, session.expiry_generation),
                )

    async def _jobs(self, now: datetime) -> "AsyncIterator[tuple[Action, _Do]]":
        """Those that nobody asks about get started and settled, too."""
        life = JobLife(self.ports)
        async for job, session in life.unsettled():
            if session is None:
                yield Action(Deed.DELETE_JOB, job.id, "its session is gone"), _bind(life.forget, job.id)
            elif session.state is not State.DELETING and now - job.version >= STUCK_AFTER:
                reason = f"{job.state} for {int((now - job.version).total_seconds())} s"
                yield Action(Deed.SETTLE_JOB, job.id, reason), _bind(life.settled, job, session)
        async for job_id in life.orphans():
            yield Action(Deed.DELETE_JOB, job_id, "it is over, or its session is gone"), _bind(life.forget, job_id)

    async def _orphans(self) -> "AsyncIterator[tuple[Action, _Do]]":
        for name, provider in self.ports.providers.items():
            async for batch in _batched(provider.session_ids()):
                sessions = await self._known(batch)
                for session_id in batch:
                    session = sessions.get(session_id)
                    if session is not None and name in (session.provider, session.target):
                        continue
                    reason = "its session is gone" if session is None else f"its session moved to {session.provider}"
                    action = Action(Deed.DELETE_WORKSPACE, f"{name}/{session_id}", reason)
                    yield action, _bind(provider.delete, session_id)
        async for batch in _batched(self.ports.buckets.session_ids()):
            for session_id in await self._unkept(await self._gone(batch)):
                action = Action(Deed.DELETE_BUCKET, session_id, "its session is gone")
                yield action, _bind(self.ports.buckets.delete, session_id)
        pending = [pair async for pair in self.ports.tasks.pending()]
        gone = await self._gone([session_id for session_id, _ in pending])
        for session_id, task_name in pending:
            if session_id in gone:
                action = Action(Deed.DELETE_TASK, task_name.rpartition("/")[2], "its session is gone")
                yield action, _bind(self.ports.tasks.delete, task_name)

    @property
    def _steps(self) -> "Mapping[State, tuple[Deed, Callable[[Session, str], Awaitable[None]]]]":
        """What leads on from a state that a session is on its way from."""
        tasks = self.ports.tasks
        return {
            State.PROVISIONING: (Deed.PROVISION, tasks.provision),
            State.SUSPENDING: (Deed.SUSPEND, tasks.suspend),
            State.MOVING: (Deed.MOVE, tasks.move),
            State.DELETING: (Deed.TEARDOWN, tasks.teardown),
        }

    async def _spent_keys(self, now: datetime) -> "AsyncIterator[tuple[Action, _Do]]":
        if await self.ports.store.has_spent_idempotency(now):
            action = Action(Deed.FORGET_KEYS, "idempotency", "older than a day")
            yield action, _bind(self.ports.store.forget_idempotency, now)

    async def _unkept(self, session_ids: set[str]) -> set[str]:
        """Without those whose bucket outlives them."""
        buckets = {names.bucket_name(one): one for one in session_ids}
        kept = await self.ports.store.kept_buckets(list(buckets))
        return {session_id for bucket, session_id in buckets.items() if bucket not in kept}

    async def _gone(self, session_ids: list[str]) -> set[str]:
        return set(session_ids) - (await self._known(session_ids)).keys()

    async def _known(self, session_ids: list[str]) -> dict[str, Session]:
        known: dict[str, Session] = {}
        for start in range(0, len(session_ids), LOOKED_UP_AT_ONCE):
            known |= await self.ports.store.get_many(session_ids[start : start + LOOKED_UP_AT_ONCE])
        return known


_Do = Callable[[], Awaitable[object]]


def _bind(call: Callable[..., Awaitable[object]], *args: object) -> _Do:
    return lambda: call(*args)


async def _batched(ids: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    batch: list[str] = []
    async for one in ids:
        batch.append(one)
        if len(batch) == LOOKED_UP_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
