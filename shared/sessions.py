"""The use cases of callers: create, get, list, execute, delete."""

import asyncio
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from shared import names, templates
from shared.choice import choose
from shared.errors import (
    AlreadyExists,
    IdempotencyConflict,
    ProviderUnavailable,
    SessionFailed,
    SessionNotFound,
    SessionNotReady,
    WorkspaceUnreachable,
)
from shared.liveness import Liveness
from shared.models import (
    Caller,
    Command,
    Execution,
    Idempotency,
    Page,
    Position,
    Session,
    SessionFilter,
    SessionSpec,
    State,
)
from shared.pauses import Pauses
from shared.ports import Ports
from shared.steps import Steps

EXECUTE_WAIT_S = 60.0  # how long a command waits for its session to start; a service rarely takes more than 20 s
IDEMPOTENCY_KEPT = timedelta(hours=24)
MAX_NAME_TRIES = 8
VERIFIED_AT_ONCE = 32  # agents asked at the same time when a page of sessions is listed


@dataclass(frozen=True, slots=True)
class Sessions:
    """What a caller may ask. Another tenant's session is one that does not exist."""

    ports: Ports

    async def create(
        self, caller: Caller, spec: SessionSpec, *, wait_s: float = 0.0, idempotency_key: str | None = None
    ) -> Session:
        """A new session, or with a key that was used before the one it made. Waits up to `wait_s` for it to run.

        Raises InvalidRequest, IdempotencyConflict, ProviderUnavailable (then nothing was created).
        """
        template = templates.find(spec.template)
        name, reason = choose(spec, self.ports.providers)
        resources = spec.resources or template.resources
        self.ports.providers[name].check(resources, egress=spec.egress)
        now = self.ports.clock()
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
        session, is_new = await self._record(draft, record)
        try:
            await self._enqueue(session, now)
        except ProviderUnavailable:
            if is_new:
                await self.ports.store.discard(session.id, record)
            raise
        return await self._settled(session, wait_s)

    async def get(self, caller: Caller, session_id: str) -> Session:
        """The session as it is now: one that says `running` answered a moment ago. Raises SessionNotFound."""
        return await self._liveness.verified(await self._visible(caller, session_id))

    async def list(self, caller: Caller, where: SessionFilter, size: int, after: Position | None) -> Page:
        """A page of the caller's sessions, newest first, each as `get` would give it."""
        now = self.ports.clock()
        page = await self.ports.store.page(caller.tenant, where, size, after)
        turn = asyncio.Semaphore(VERIFIED_AT_ONCE)

        async def verified(session: Session) -> Session:
            async with turn:
                return await self._liveness.verified(session)

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
        pauses = Pauses(EXECUTE_WAIT_S, self.ports.sleep)
        while True:
            try:
                execution = await self.ports.agents.execute(session, command)
            except WorkspaceUnreachable:
                seen = await self._liveness.verified(session)
                if seen.state is State.FAILED:
                    raise SessionFailed(f"session {session.id} failed: {seen.error}") from None
                if not await pauses.next():
                    raise
            else:
                await self._liveness.note_boot(session, execution.boot_id)
                return execution

    async def delete(self, caller: Caller, session_id: str) -> Session:
        """From now on the session is gone for everybody; its resources follow. Raises SessionNotFound."""
        await self._visible(caller, session_id)
        deleting = await Steps(self.ports).begin_deletion(session_id)
        if deleting is None:
            raise SessionNotFound
        return deleting

    @property
    def _liveness(self) -> Liveness:
        return Liveness(self.ports)

    async def _record(self, draft: Session, record: Idempotency | None) -> tuple[Session, bool]:
        """Write a session under a name that nobody has (True), or find the one that the record made before (False)."""
        for _ in range(MAX_NAME_TRIES):
            try:
                return await self.ports.store.create(draft, record and replace(record, session_id=draft.id)), True
            except AlreadyExists:
                former = record and await self.ports.store.idempotency(record.id)
                if record and former:
                    return await self._repeated(record, former), False
            suffix = secrets.token_hex(2)
            draft = replace(draft, id=names.session_id(draft.namespace, draft.user, draft.created_at, suffix))
        raise ProviderUnavailable(f"no free session name like {draft.id} after {MAX_NAME_TRIES} tries")

    async def _repeated(self, record: Idempotency, former: Idempotency) -> Session:
        if former.body_digest != record.body_digest:
            raise IdempotencyConflict("Idempotency-Key: it was used before with another body; wanted a new key")
        session = await self.ports.stored(former.session_id)
        if session is None or not session.is_visible_at(self.ports.clock()):
            raise IdempotencyConflict(
                f"Idempotency-Key: it was used for {former.session_id}, which is gone; wanted a new key"
            )
        return session

    async def _enqueue(self, session: Session, now: datetime) -> None:
        """Both at once. What one left behind when the other failed finds no session, and does nothing."""
        outcomes = await asyncio.gather(
            self.ports.tasks.provision(session), self.ports.tasks.expire(session, now), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _visible(self, caller: Caller, session_id: str) -> Session:
        session = await self.ports.store.get(session_id)
        if session.tenant != caller.tenant or not session.is_visible_at(self.ports.clock()):
            raise SessionNotFound
        return session

    async def _settled(self, session: Session, wait_s: float) -> Session:
        """Wait until it is no longer provisioning, at most `wait_s`. Raises SessionNotFound: deleted meanwhile."""
        pauses = Pauses(wait_s, self.ports.sleep)
        while session.state is State.PROVISIONING and await pauses.next():
            session = await self.ports.store.get(session.id)
        if session.state is State.DELETING:
            raise SessionNotFound
        return session


def _idempotency(caller: Caller, spec: SessionSpec, key: str, draft: Session) -> Idempotency:
    body = json.dumps(asdict(spec), sort_keys=True, default=str)
    return Idempotency(
        id=hashlib.sha256(f"{caller.tenant}\0{key}".encode()).hexdigest(),
        body_digest=hashlib.sha256(body.encode()).hexdigest(),
        session_id=draft.id,
        expires_at=draft.created_at + IDEMPOTENCY_KEPT,
    )
