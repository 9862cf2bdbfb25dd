"""The use cases: what happens to a session, in the order in which it happens.

Callers' calls come first, then the steps that Cloud Tasks delivers: at least once, in any order, after a crash at any
line.
"""

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared import names, templates
from shared.choice import choose
from shared.errors import (
    AlreadyExists,
    IdempotencyConflict,
    ProviderUnavailable,
    ProvisioningFailed,
    QuotaExceeded,
    SessionFailed,
    SessionNotFound,
    SessionNotReady,
    WorkspaceUnreachable,
    WriteConflict,
)
from shared.models import (
    Caller,
    Command,
    Execution,
    Idempotency,
    Page,
    Position,
    ProviderName,
    Session,
    SessionFilter,
    SessionSpec,
    State,
)
from shared.providers.base import Health

if TYPE_CHECKING:
    from shared.agent import Agents
    from shared.buckets import Buckets
    from shared.providers.base import Provider
    from shared.store import Store
    from shared.tasks import Tasks

log = logging.getLogger(__name__)

EXECUTE_WAIT_S = 60.0  # how long a command waits for its session to start; a service rarely takes more than 20 s
PROVISION_DEADLINE = timedelta(minutes=15)  # transient faults are retried for so long, then the session has failed
IDEMPOTENCY_KEPT = timedelta(hours=24)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.5
MAX_WRITE_TRIES = 8
VERIFIED_AT_ONCE = 32  # agents asked at the same time when a page of sessions is listed


@dataclass(frozen=True, slots=True)
class Sessions:
    """The use cases over their ports. `clock` gives aware UTC; `public_keys` is what workspaces verify tickets with."""

    store: "Store"
    tasks: "Tasks"
    buckets: "Buckets"
    agents: "Agents"
    providers: "Mapping[ProviderName, Provider]"
    public_keys: str
    clock: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def create(
        self, caller: Caller, spec: SessionSpec, *, wait_s: float = 0.0, idempotency_key: str | None = None
    ) -> Session:
        """A new session, or with a key that was used before the one it made. Waits up to `wait_s` for it to run.

        Raises InvalidRequest, IdempotencyConflict, ProviderUnavailable (then nothing was created).
        """
        template = templates.find(spec.template)
        name, reason = choose(spec, self.providers)
        resources = spec.resources or template.resources
        self.providers[name].check(resources, egress=spec.egress)
        now = self.clock()
        draft = Session(
            id=names.session_id(spec.namespace, spec.user, now),
            tenant=caller.tenant,
            namespace=spec.namespace,
            user=spec.user,
            provider=name,
            template=template.name,
            state=State.PROVISIONING,
            created_at=now,
            expires_at=now + timedelta(minutes=spec.ttl_minutes),
            resources=resources,
            env={**template.env, **spec.env},
            labels=spec.labels,
            egress=spec.egress,
            details={"reason": reason},
        )
        record = _idempotency(caller, spec, idempotency_key, draft) if idempotency_key else None
        session = await self._record(draft, record)
        try:
            await self._enqueue(session, now)
        except ProviderUnavailable:
            await self.store.discard(session.id, record)
            raise
        return await self._settled(session, wait_s)

    async def get(self, caller: Caller, session_id: str) -> Session:
        """The session as it is now: one that says `running` answered a moment ago. Raises SessionNotFound."""
        return await self._verified(await self._visible(caller, session_id))

    async def list(self, caller: Caller, where: SessionFilter, size: int, after: Position | None) -> Page:
        """A page of the caller's sessions, newest first, each as `get` would give it."""
        now = self.clock()
        page = await self.store.page(caller.tenant, where, size, after)
        turn = asyncio.Semaphore(VERIFIED_AT_ONCE)

        async def verified(session: Session) -> Session:
            async with turn:
                return await self._verified(session)

        alive = [session for session in page.sessions if session.is_visible_at(now)]
        sessions = tuple(await asyncio.gather(*map(verified, alive)))
        # What a look at the workspace changed may no longer be what was asked for.
        return Page(tuple(s for s in sessions if where.status in (None, s.state)), page.next)

    async def execute(self, caller: Caller, session_id: str, command: Command) -> Execution:
        """Run a command; waits up to EXECUTE_WAIT_S for a session that is starting or restarting.

        Raises SessionNotFound, SessionFailed, SessionNotReady, and what Agents.execute raises.
        """
        session = await self._settled(await self._visible(caller, session_id), EXECUTE_WAIT_S)
        if session.state is State.FAILED:
            raise SessionFailed(f"session {session.id} failed: {session.error}")
        if session.state is not State.RUNNING:
            raise SessionNotReady(f"session {session.id} is still {session.state} after {EXECUTE_WAIT_S:g} s")
        pauses = _Pauses(EXECUTE_WAIT_S, self.sleep)
        while True:
            try:
                execution = await self.agents.execute(session, command)
            except WorkspaceUnreachable:
                session = await self._verified(session)
                if session.state is State.FAILED:
                    raise SessionFailed(f"session {session.id} failed: {session.error}") from None
                if not await pauses.next():
                    raise
            else:
                await self._note_boot(session, execution.boot_id)
                return execution

    async def delete(self, caller: Caller, session_id: str) -> Session:
        """From now on the session is gone for everybody; its resources follow. Raises SessionNotFound."""
        await self._visible(caller, session_id)
        deleting = await self._begin_deletion(session_id)
        if deleting is None:
            raise SessionNotFound
        return deleting

    async def provision(self, session_id: str) -> None:
        """Step: start the workspace. Raises ProviderUnavailable to be delivered again."""
        session = await self._stored(session_id)
        if session is None or session.state is not State.PROVISIONING:
            return
        try:
            bucket = await self.buckets.ensure(session.id)
            env = self._environment(session, bucket)
            workspace = await self.providers[session.provider].create(session, env, bucket)
            ready = replace(session, url=workspace.url, details={**session.details, **workspace.details})
            boot_id = await self._first_boot(ready)
        except (ProvisioningFailed, QuotaExceeded) as exc:
            await self._fail(session, str(exc))
            return
        except (ProviderUnavailable, WorkspaceUnreachable) as exc:
            if self.clock() - session.created_at < PROVISION_DEADLINE:
                raise ProviderUnavailable(str(exc)) from exc
            await self._fail(session, str(exc))
            return
        try:
            await self.store.update(ready.moved(State.RUNNING, boot_id=boot_id))
        except WriteConflict:
            current = await self._stored(session_id)
            if current is None or current.state is State.DELETING:
                # It was deleted while it started; its teardown may have come too early to find what was just made.
                await self._remove_resources(session)
            return
        log.info("session running", extra={"session_id": session.id, "provider": session.provider})

    async def expire(self, session_id: str, generation: int) -> None:
        """Step: the session's time may be up. Early or stale deliveries see that and do nothing or come back."""
        session = await self._stored(session_id)
        if session is None or session.expiry_generation != generation or session.state is State.DELETING:
            return
        now = self.clock()
        if session.expires_at > now:
            await self.tasks.expire(session, now)
            return
        await self._begin_deletion(session_id)
        log.info("session expired", extra={"session_id": session_id})

    async def teardown(self, session_id: str) -> None:
        """Step: remove everything of a deleted session, its document last.

        Raises ProviderUnavailable to be delivered again.
        """
        session = await self._stored(session_id)
        if session is None or session.state is not State.DELETING:
            return
        await self._remove_resources(session)
        await self.tasks.forget(session, self.clock())
        await self.store.delete(session.id)
        log.info("session gone", extra={"session_id": session.id})

    async def _record(self, draft: Session, record: Idempotency | None) -> Session:
        """Write a session under a name that nobody has; with a record that exists, give the session that it made."""
        for _ in range(MAX_WRITE_TRIES):
            try:
                return await self.store.create(draft, record and replace(record, session_id=draft.id))
            except AlreadyExists:
                former = record and await self.store.idempotency(record.id)
                if record and former:
                    return await self._repeated(record, former)
            suffix = secrets.token_hex(2)
            draft = replace(draft, id=names.session_id(draft.namespace, draft.user, draft.created_at, suffix))
        raise ProviderUnavailable(f"no free session name like {draft.id} after {MAX_WRITE_TRIES} tries")

    async def _repeated(self, record: Idempotency, former: Idempotency) -> Session:
        if former.body_digest != record.body_digest:
            raise IdempotencyConflict("Idempotency-Key: it was used before with another body; wanted a new key")
        session = await self._stored(former.session_id)
        if session is None or not session.is_visible_at(self.clock()):
            raise IdempotencyConflict(
                f"Idempotency-Key: it was used for {former.session_id}, which is gone; wanted a new key"
            )
        return session

    async def _enqueue(self, session: Session, now: datetime) -> None:
        """Both at once. What one left behind when the other failed finds no session, and does nothing."""
        outcomes = await asyncio.gather(
            self.tasks.provision(session), self.tasks.expire(session, now), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _stored(self, session_id: str) -> Session | None:
        try:
            return await self.store.get(session_id)
        except SessionNotFound:
            return None

    async def _visible(self, caller: Caller, session_id: str) -> Session:
        session = await self.store.get(session_id)
        if session.tenant != caller.tenant or not session.is_visible_at(self.clock()):
            raise SessionNotFound
        return session

    async def _settled(self, session: Session, wait_s: float) -> Session:
        """Wait until it is no longer provisioning, at most `wait_s`. Raises SessionNotFound: deleted meanwhile."""
        pauses = _Pauses(wait_s, self.sleep)
        while session.state is State.PROVISIONING and await pauses.next():
            session = await self.store.get(session.id)
        if session.state is State.DELETING:
            raise SessionNotFound
        return session

    async def _verified(self, session: Session) -> Session:
        """A session that says `running` is asked whether it is: a restart shows as provisioning, a loss as failed."""
        if session.state is not State.RUNNING:
            return session
        try:
            boot_id = await self.agents.boot_id(session)
        except WorkspaceUnreachable as silence:
            condition = await self.providers[session.provider].inspect(session.id)
            if condition.health is Health.GONE:
                return await self._lost(session, condition.reason)
            reason = condition.reason or str(silence)
            details = {**session.details, "notice": f"the workspace is restarting: {reason}"}
            return replace(session, state=State.PROVISIONING, details=details)
        return await self._note_boot(session, boot_id)

    async def _lost(self, session: Session, reason: str) -> Session:
        failed = session.moved(State.FAILED, error=f"the workspace was lost: {reason}")
        try:
            return await self.store.update(failed)
        except WriteConflict:
            return await self.store.get(session.id)

    async def _note_boot(self, session: Session, boot_id: str) -> Session:
        """Remember that the workspace was restarted under its handle. Whoever sees it first counts it."""
        if boot_id == session.boot_id:
            return session
        try:
            return await self.store.update(replace(session, boot_id=boot_id, boots=session.boots + 1))
        except WriteConflict:
            return await self._stored(session.id) or session

    async def _first_boot(self, session: Session) -> str:
        """The platform says that it is ready; its address may need a moment more."""
        pauses = _Pauses(EXECUTE_WAIT_S, self.sleep)
        while True:
            try:
                return await self.agents.boot_id(session)
            except WorkspaceUnreachable:
                if not await pauses.next():
                    raise

    async def _fail(self, session: Session, error: str) -> None:
        """Nothing is left behind first, then it is said: a crash in between tries to start it again."""
        await self._remove_resources(session)
        try:
            await self.store.update(session.moved(State.FAILED, error=error))
        except WriteConflict:
            return  # deleted meanwhile; its teardown finds nothing, and that is fine
        log.warning("session failed", extra={"session_id": session.id, "error": error})

    async def _begin_deletion(self, session_id: str) -> Session | None:
        """Write `deleting` and enqueue the teardown; None when it was deleted already."""
        for _ in range(MAX_WRITE_TRIES):
            session = await self._stored(session_id)
            if session is None or session.state is State.DELETING:
                return None
            try:
                deleting = await self.store.update(session.moved(State.DELETING))
                break
            except WriteConflict:
                continue
        else:
            raise ProviderUnavailable(f"session {session_id} kept changing while it was deleted")
        try:
            await self.tasks.teardown(deleting)
        except ProviderUnavailable as exc:
            # It is deleted for every caller; the reconciler enqueues what could not be enqueued here.
            log.warning("teardown not enqueued", extra={"session_id": session_id, "error": str(exc)})
        return deleting

    async def _remove_resources(self, session: Session) -> None:
        await self.providers[session.provider].delete(session.id)
        await self.buckets.delete(session.id)  # after the workspace, which has it mounted

    def _environment(self, session: Session, bucket: str) -> dict[str, str]:
        return {
            **session.env,
            "WORKSPACE_ID": session.id,
            "NAMESPACE": session.namespace,
            "USER": session.user,
            "BUCKET_NAME": bucket,
            "ONMEMOS_TICKET_KEYS": self.public_keys,
        }


class _Pauses:
    """Growing pauses up to a total: `next` waits and says whether there was time left."""

    def __init__(self, total_s: float, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._deadline = time.monotonic() + total_s
        self._pause_s = FIRST_PAUSE_S
        self._sleep = sleep

    async def next(self) -> bool:
        left = self._deadline - time.monotonic()
        if left <= 0:
            return False
        await self._sleep(min(self._pause_s, left))
        self._pause_s = min(self._pause_s * 1.3, LONGEST_PAUSE_S)
        return True


def _idempotency(caller: Caller, spec: SessionSpec, key: str, draft: Session) -> Idempotency:
    body = json.dumps(asdict(spec), sort_keys=True, default=str)
    return Idempotency(
        id=hashlib.sha256(f"{caller.tenant}\0{key}".encode()).hexdigest(),
        body_digest=hashlib.sha256(body.encode()).hexdigest(),
        session_id=draft.id,
        expires_at=draft.created_at + IDEMPOTENCY_KEPT,
    )
