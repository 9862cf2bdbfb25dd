"""What a crash between two writes can leave behind, found and put right. Safe to run at any time and more than once."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from shared import names
from shared.errors import ProviderUnavailable
from shared.job_life import JobLife
from shared.models import ProviderName, Session, State
from shared.ports import Ports
from shared.steps import STANDING_STILL, Steps
from shared.tasks import first_look
from shared.turns import begun

if TYPE_CHECKING:
    from shared.providers.base import Provider

log = logging.getLogger(__name__)

STUCK_AFTER = timedelta(minutes=2)  # whoever wrote it has enqueued its task long before, or has crashed
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
        """Put everything right, one action at a time. What fails keeps nothing else from being put right.

        Raises ProviderUnavailable at the end: something failed, the first of it.
        """
        now = self.ports.clock()
        failure: ProviderUnavailable | None = None
        strays = [self._strays(name, provider) for name, provider in self.ports.providers.items()]
        for plan in (
            self._stuck(now),
            self._overdue(now),
            self._jobs(now),
            *strays,
            self._buckets(),
            self._tasks(),
            self._spent_keys(now),
        ):
            try:
                async for action, do in plan:
                    try:
                        if not dry_run:
                            await do()
                    except ProviderUnavailable as exc:
                        log.warning("not put right", extra={"deed": action.deed, "target": action.target})
                        failure = failure or exc
                    else:
                        yield action
            except ProviderUnavailable as exc:
                failure = failure or exc
        if failure is not None:
            raise failure

    async def _stuck(self, now: datetime) -> "AsyncIterator[tuple[Action, _Do]]":
        """Sessions on their way to another state whose task was lost. One that is there runs, or is tried again."""
        attempt = f"r{int(now.timestamp())}"  # the names of tasks that ran stay blocked for a day
        pending: set[tuple[str, str | None]] | None = None
        async for session in self.ports.store.unfinished():
            age = now - session.version if session.version is not None else now - session.created_at
            if age < STUCK_AFTER:
                continue
            if pending is None:
                found = [pair async for pair in self.ports.tasks.pending()]
                pending = {(one, names.step_of_task(_last(name))) for one, name in found}
            deed, step, enqueue = self._steps[session.state]
            if (session.id, step) not in pending:
                reason = f"{session.state} for {int(age.total_seconds())} s"
                yield Action(deed, session.id, reason), _bind(enqueue, session, attempt)

    async def _overdue(self, now: datetime) -> "AsyncIterator[tuple[Action, _Do]]":
        async for session in self.ports.store.expired(now - OVERDUE_AFTER):
            if session.state not in STANDING_STILL:
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

    async def _strays(self, name: ProviderName, provider: "Provider") -> "AsyncIterator[tuple[Action, _Do]]":
        async for batch in _batched(provider.session_ids()):
            sessions = await self._known(batch)
            for session_id in batch:
                session = sessions.get(session_id)
                if not _may_be_on(name, session):
                    reason = "its session is gone" if session is None else f"its session is on {session.provider}"
                    action = Action(Deed.DELETE_WORKSPACE, f"{name}/{session_id}", reason)
                    yield action, _bind(self._remove_stray, name, provider, session_id)

    async def _remove_stray(self, name: ProviderName, provider: "Provider", session_id: str) -> None:
        """Its session may have begun to move there since it was looked up."""
        if not _may_be_on(name, await self.ports.stored(session_id)):
            await provider.delete(session_id)

    async def _buckets(self) -> "AsyncIterator[tuple[Action, _Do]]":
        async for batch in _batched(self.ports.buckets.session_ids()):
            for session_id in await self._unkept(await self._gone(batch)):
                action = Action(Deed.DELETE_BUCKET, session_id, "its session is gone")
                yield action, _bind(self.ports.buckets.delete, session_id)

    async def _tasks(self) -> "AsyncIterator[tuple[Action, _Do]]":
        pending = [pair async for pair in self.ports.tasks.pending()]
        gone = await self._gone([session_id for session_id, _ in pending])
        for session_id, task_name in pending:
            if session_id in gone:
                action = Action(Deed.DELETE_TASK, _last(task_name), "its session is gone")
                yield action, _bind(self.ports.tasks.delete, task_name)

    async def _provision(self, session: Session, attempt: str) -> None:
        """Its expiry's task may have been lost with it; where it was not, this is the same one."""
        await self.ports.tasks.expire(session, self.ports.clock(), first_look(session, begun(session)))
        await self.ports.tasks.provision(session, attempt)

    @property
    def _steps(self) -> "Mapping[State, tuple[Deed, str, Callable[[Session, str], Awaitable[None]]]]":
        """What leads on from a state that a session is on its way from, and the step that the tasks' names say."""
        tasks = self.ports.tasks
        return {
            State.PROVISIONING: (Deed.PROVISION, "provision", self._provision),
            State.SUSPENDING: (Deed.SUSPEND, "suspend", tasks.suspend),
            State.MOVING: (Deed.MOVE, "move", tasks.move),
            State.DELETING: (Deed.TEARDOWN, "teardown", tasks.teardown),
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


def _may_be_on(name: ProviderName, session: Session | None) -> bool:
    """Whether the session has, or may be getting, a workspace there."""
    return session is not None and name in (session.provider, session.target)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


async def _batched(ids: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    batch: list[str] = []
    async for one in ids:
        batch.append(one)
        if len(batch) == LOOKED_UP_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
