"""The steps that Cloud Tasks delivers: at least once, in any order, after a crash at any line."""

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared import names
from shared.errors import (
    ProviderUnavailable,
    ProvisioningFailed,
    QuotaExceeded,
    WorkspaceUnreachable,
    WriteConflict,
)
from shared.liveness import Liveness
from shared.models import Session, State
from shared.ports import Ports

log = logging.getLogger(__name__)

PROVISION_DEADLINE = timedelta(minutes=15)  # transient faults are retried for so long, then the session has failed
FIRST_ANSWER_S = 60.0  # the platform says that a workspace is ready; its address may need a moment more
NAME_LASTS = timedelta(seconds=2)  # the second of its creation, and one for clocks that differ
ASKED_AGAIN = timedelta(minutes=1)  # a workspace that restarts answers by then
MAX_WRITE_TRIES = 8


@dataclass(frozen=True, slots=True)
class Steps:
    """What moves a session from state to state. Each can be repeated."""

    ports: Ports

    async def provision(self, session_id: str) -> None:
        """Step: start the workspace. Raises ProviderUnavailable to be delivered again."""
        session = await self.ports.stored(session_id)
        if session is None or session.state is not State.PROVISIONING:
            return
        try:
            bucket = session.storage.bucket or await self.ports.buckets.ensure(session.id)
            env = self._environment(session, bucket)
            imaged = session if session.image else replace(session, image=self._image_of(session))
            workspace = await self.ports.providers[session.provider].create(imaged, env, bucket)
            ready = replace(session, url=workspace.url, details={**session.details, **workspace.details})
            boot_id = await Liveness(self.ports).first_boot(ready, FIRST_ANSWER_S)
        except (ProvisioningFailed, QuotaExceeded) as exc:
            await self._fail(session, str(exc))
            return
        except (ProviderUnavailable, WorkspaceUnreachable) as exc:
            if self.ports.clock() - session.created_at < PROVISION_DEADLINE:
                raise ProviderUnavailable(str(exc)) from exc
            await self._fail(session, str(exc))
            return
        try:
            await self.ports.store.update(ready.moved(State.RUNNING, boot_id=boot_id))
        except WriteConflict:
            current = await self.ports.stored(session_id)
            if current is None or current.state is State.DELETING:
                # It was deleted while it started; its teardown may have come too early to find what was just made.
                await self._remove_resources(session)
            elif current.state is State.PROVISIONING:
                raise ProviderUnavailable(f"session {session_id} was changed while it started") from None
            return
        log.info("session running", extra={"session_id": session.id, "provider": session.provider})

    async def expire(self, session_id: str, generation: int) -> None:
        """Step: the session's time may be up, or nothing may have happened in it for too long.

        Early or stale deliveries see that and do nothing or come back.
        """
        session = await self.ports.stored(session_id)
        if session is None or session.expiry_generation != generation or session.state is State.DELETING:
            return
        now = self.ports.clock()
        idle_at = await self._idle_at(session, now)
        if session.expires_at > now and (idle_at is None or idle_at > now):
            await self.ports.tasks.expire(session, now, idle_at)
            return
        await self.begin_deletion(session_id)
        why = "its time is up" if session.expires_at <= now else "it was idle"
        log.info("session expired", extra={"session_id": session_id, "reason": why})

    async def teardown(self, session_id: str) -> None:
        """Step: remove everything of a deleted session, its document last.

        Raises ProviderUnavailable to be delivered again.
        """
        session = await self.ports.stored(session_id)
        if session is None or session.state is not State.DELETING:
            return
        await self._remove_resources(session)
        await self.ports.tasks.forget(session, self.ports.clock())
        # Names hold the second of creation. While that lasts the document keeps its name from being given again.
        young_s = (session.created_at + NAME_LASTS - self.ports.clock()).total_seconds()
        if young_s > 0:
            await self.ports.sleep(young_s)
        await self.ports.store.delete(session.id)
        log.info("session gone", extra={"session_id": session.id})

    async def begin_deletion(self, session_id: str) -> Session | None:
        """Write `deleting` and enqueue the teardown; None when it was deleted already."""
        for _ in range(MAX_WRITE_TRIES):
            session = await self.ports.stored(session_id)
            if session is None or session.state is State.DELETING:
                return None
            try:
                deleting = await self.ports.store.update(session.moved(State.DELETING))
                break
            except WriteConflict:
                continue
        else:
            raise ProviderUnavailable(f"session {session_id} kept changing while it was deleted")
        try:
            await self.ports.tasks.teardown(deleting)
        except ProviderUnavailable as exc:
            # It is deleted for every caller; the reconciler enqueues what could not be enqueued here.
            log.warning("teardown not enqueued", extra={"session_id": session_id, "error": str(exc)})
        return deleting

    async def _idle_at(self, session: Session, now: datetime) -> datetime | None:
        """When its idle timeout will be over if nothing happens; None: it has none. Only a workspace itself knows."""
        if session.idle_timeout_minutes is None:
            return None
        timeout = timedelta(minutes=session.idle_timeout_minutes)
        if session.state is not State.RUNNING:
            return now + timeout
        try:
            idle = timedelta(seconds=await self.ports.agents.idle_s(session))
        except WorkspaceUnreachable:
            return now + ASKED_AGAIN
        return now + timeout - idle

    async def _fail(self, session: Session, error: str) -> None:
        """Nothing is left behind first, then it is said: a crash in between tries to start it again."""
        await self._remove_resources(replace(session, storage=replace(session.storage, keep=False)))
        if session.storage.keep:
            await self.ports.store.forget_kept(names.bucket_name(session.id))
        try:
            await self.ports.store.update(session.moved(State.FAILED, error=error))
        except WriteConflict:
            return  # deleted meanwhile; its teardown finds nothing, and that is fine
        log.warning("session failed", extra={"session_id": session.id, "error": error})

    async def _remove_resources(self, session: Session) -> None:
        await self.ports.providers[session.provider].delete(session.id)
        if session.storage.bucket is None and not session.storage.keep:
            await self.ports.buckets.delete(session.id)  # after the workspace, which has it mounted

    def _image_of(self, session: Session) -> str:
        """For documents of before images were recorded."""
        return next((one.image for one in self.ports.templates if one.name == session.template), "")

    def _environment(self, session: Session, bucket: str) -> dict[str, str]:
        return {
            **session.env,
            "WORKSPACE_ID": session.id,
            "NAMESPACE": session.namespace,
            "USER": session.user,
            "BUCKET_NAME": bucket,
            "ONMEMOS_TICKET_KEYS": self.ports.tickets.public_keys(),
        }
