"""The use cases of callers: create, plan, get, list, execute, connect, update, delete."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.callers import Caller
from shared.creation import Creation, Plan
from shared.errors import (
    ProviderUnavailable,
    SessionFailed,
    SessionNotFound,
    SessionNotReady,
    SessionSuspended,
    WorkspaceUnreachable,
    WriteConflict,
)
from shared.liveness import Liveness
from shared.models import (
    Command,
    Connection,
    Execution,
    Page,
    Position,
    ProviderName,
    Session,
    SessionFilter,
    SessionSpec,
    State,
)
from shared.moving import Moving
from shared.pauses import Pauses
from shared.ports import Ports
from shared.steps import Steps
from shared.suspension import Suspension
from shared.tasks import first_look
from shared.turns import MAX_WRITE_TRIES, expiry_forgotten

EXECUTE_WAIT_S = 60.0  # how long a command waits for its session to start; a service rarely takes more than 20 s
ON_THE_WAY = frozenset({State.PROVISIONING, State.SUSPENDING, State.MOVING})
VERIFIED_AT_ONCE = 32  # agents asked at the same time when a page of sessions is listed


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change of a session; None leaves it. Labels take the place of those before.

    The TTL is from now, and of a suspended session from when it is resumed.
    """

    ttl_minutes: int | None = None
    labels: Mapping[str, str] | None = None
    auto_resume: bool | None = None


@dataclass(frozen=True, slots=True)
class Sessions:
    """What a caller may ask. Another tenant's session is one that does not exist, and so is, with `only`, another
    provider's.
    """

    ports: Ports
    only: ProviderName | None = None

    async def create(
        self, caller: Caller, spec: SessionSpec, *, wait_s: float = 0.0, idempotency_key: str | None = None
    ) -> Session:
        """A new session, or with a key that was used before the one it made. Waits up to `wait_s` for it to run.

        Raises InvalidRequest, Forbidden, IdempotencyConflict, ProviderUnavailable (then nothing was created).
        """
        return await self._arrived(await self._creation.create(caller, spec, idempotency_key), wait_s)

    def plan(self, spec: SessionSpec) -> Plan:
        """What `create` would choose for this, without creating anything. Raises InvalidRequest as `create` does."""
        return self._creation.plan(spec)

    async def get(self, caller: Caller, session_id: str) -> Session:
        """The session as it is now: one that says `running` answered a moment ago. Raises SessionNotFound."""
        return await self._liveness.verified(await self._visible(caller, session_id))

    async def list(self, caller: Caller, where: SessionFilter, size: int, after: Position | None) -> Page:
        """A page of the caller's sessions, newest first, each as `get` would give it."""
        now = self.ports.clock()
        if where.namespace is not None and not caller.may_use(where.namespace):
            return Page(())
        namespaces = None if where.namespace is not None else caller.namespaces
        where = replace(where, namespaces=namespaces, provider=self.only or where.provider)
        page = await self.ports.store.page(caller.tenant, where, size, after)
        turn = asyncio.Semaphore(VERIFIED_AT_ONCE)

        async def verified(session: Session) -> Session | None:
            async with turn:
                with suppress(SessionNotFound):  # it goes at this moment
                    return await self._liveness.verified(session)
            return None

        alive = [session for session in page.sessions if session.is_visible_at(now)]
        sessions = await asyncio.gather(*map(verified, alive))
        # What a look at the workspace changed may no longer be what was asked for.
        return Page(tuple(one for one in sessions if one and where.status in (None, one.state)), page.next)

    async def execute(self, caller: Caller, session_id: str, command: Command) -> Execution:
        """Run a command; waits up to EXECUTE_WAIT_S for a session that is starting, restarting or moving.

        Raises SessionNotFound, SessionFailed, SessionSuspended, SessionNotReady, and what Agents.execute raises.
        """
        session = await self.opened(caller, session_id)
        pauses = Pauses(EXECUTE_WAIT_S, self.ports.sleep)
        while True:
            try:
                execution = await self.ports.agents.execute(session, command)
            except WorkspaceUnreachable:
                await self._liveness.verified(session)
                if not await pauses.next():
                    raise
                session = await self.opened(caller, session_id)  # it may have failed, moved or been suspended
            else:
                await self._liveness.note_boot(session, execution.boot_id)
                return execution

    async def opened(self, caller: Caller, session_id: str) -> Session:
        """The session once it runs; waits up to EXECUTE_WAIT_S for one that is on its way there.

        Raises SessionNotFound, SessionFailed, SessionSuspended, SessionNotReady.
        """
        return await self._running(await self._visible(caller, session_id))

    async def opened_by_ticket(self, session_id: str) -> Session:
        """The same for whoever holds a ticket of the session, which was verified before."""
        session = await self.ports.store.get(session_id)
        if not session.is_visible_at(self.ports.clock()):
            raise SessionNotFound
        return await self._running(session)

    async def is_over(self, session_id: str) -> bool:
        """Whether it is deleted, expired or gone."""
        session = await self.ports.stored(session_id)
        return session is None or not session.is_visible_at(self.ports.clock())

    async def connect(self, caller: Caller, session_id: str) -> Connection:
        """How to reach the session's agent directly, with a ticket that nobody else has. Raises as `opened` does."""
        session = await self.opened(caller, session_id)
        access = self.ports.provider(session.provider).access(session)
        ticket = self.ports.tickets.fresh(session.id, caller.key_id)
        url, websocket = access.url, access.websocket
        if url is None and self.ports.relay_url:
            base = f"{self.ports.relay_url}/v1/sessions/{session.id}"
            url, websocket = f"{base}/agent", f"ws{base.removeprefix('http')}/shell"
        return Connection(url, websocket, ticket.token, ticket.expires_at, access.ssh)

    async def update(self, caller: Caller, session_id: str, changes: Changes) -> Session:
        """Give the session another TTL or other labels, or both.

        Raises SessionNotFound, ProviderUnavailable (then nothing was changed).
        """
        for _ in range(MAX_WRITE_TRIES):
            before, now = await self._visible(caller, session_id), self.ports.clock()
            wanted = _changed(before, changes, now)
            is_rescheduled = wanted.expiry_generation != before.expiry_generation
            if is_rescheduled:
                # Before the write, so that no time is written without its task. If the write fails, the task is stale.
                await self.ports.tasks.expire(wanted, now, first_look(wanted, now))
            try:
                session = await self.ports.store.update(wanted)
            except WriteConflict:
                continue
            if is_rescheduled:
                await expiry_forgotten(self.ports, before)
            return await self._liveness.verified(session)
        raise ProviderUnavailable(f"session {session_id} kept changing while it was updated")

    async def suspend(self, caller: Caller, session_id: str, *, wait_s: float = 0.0) -> Session:
        """Stop it and keep its files, until it is resumed; its TTL stands still. Waits up to `wait_s` for that.

        Raises SessionNotFound, SessionFailed, SessionNotReady, ProviderUnavailable.
        """
        session = await self._arrived(await self._visible(caller, session_id), wait_s)
        return await self._arrived(await Suspension(self.ports).suspend(session), wait_s)

    async def resume(self, caller: Caller, session_id: str, *, wait_s: float = 0.0) -> Session:
        """Start it again with its files. Raises as `suspend`."""
        session = await self._arrived(await self._visible(caller, session_id), wait_s)
        return await self._arrived(await Suspension(self.ports).resume(session), wait_s)

    async def move(self, caller: Caller, session_id: str, target: ProviderName, *, wait_s: float = 0.0) -> Session:
        """Carry it with its files to another provider, or leave it as it is where that cannot start it.

        Raises as `suspend`, and InvalidRequest: the other provider cannot have such a session.
        """
        session = await self._arrived(await self._visible(caller, session_id), wait_s)
        return await self._arrived(await Moving(self.ports).move(session, target), wait_s)

    async def delete(self, caller: Caller, session_id: str) -> Session:
        """From now on the session is gone for everybody; its resources follow. Raises SessionNotFound."""
        await self._visible(caller, session_id)
        deleting = await Steps(self.ports).begin_deletion(session_id)
        if deleting is None:
            raise SessionNotFound
        return deleting

    @property
    def _creation(self) -> Creation:
        return Creation(self.ports, self.only)

    @property
    def _liveness(self) -> Liveness:
        return Liveness(self.ports)

    async def _visible(self, caller: Caller, session_id: str) -> Session:
        session = await self.ports.visible(caller, session_id)
        if self.only not in (None, session.provider):
            raise SessionNotFound
        return session

    async def _running(self, session: Session) -> Session:
        session = await self._arrived(session, EXECUTE_WAIT_S)
        if session.state is State.SUSPENDED and session.auto_resume:
            session = await self._arrived(await Suspension(self.ports).resume(session), EXECUTE_WAIT_S)
        match session.state:
            case State.RUNNING:
                return session
            case State.FAILED:
                raise SessionFailed(f"session {session.id} failed: {session.error}")
            case State.SUSPENDED:
                why = session.details.get("notice", "suspended")
                raise SessionSuspended(f"session {session.id} is suspended ({why}): resume it first")
        raise SessionNotReady(f"session {session.id} is still {session.state} after {EXECUTE_WAIT_S:g} s")

    async def _arrived(self, session: Session, wait_s: float) -> Session:
        """Wait until it is no longer on its way to another state, at most `wait_s`. Raises SessionNotFound."""
        pauses = Pauses(wait_s, self.ports.sleep)
        while session.state in ON_THE_WAY and await pauses.next():
            session = await self.ports.store.get(session.id)
        if session.state is State.DELETING:
            raise SessionNotFound
        return session


def _changed(session: Session, changes: Changes, now: datetime) -> Session:
    if changes.labels is not None:
        session = replace(session, labels=changes.labels)
    if changes.auto_resume is not None:
        session = replace(session, auto_resume=changes.auto_resume)
    if changes.ttl_minutes is None:
        return session
    ttl = timedelta(minutes=changes.ttl_minutes)
    if session.ttl_left is not None:  # it is suspended, or will be again if it cannot be resumed
        session = replace(session, ttl_left=ttl)
    if session.state is not State.SUSPENDED:
        session = replace(session, expires_at=now + ttl, expiry_generation=session.expiry_generation + 1)
    return session
