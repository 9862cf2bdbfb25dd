"""A session's beginning: what it starts from, where and under which name, written once and enqueued."""

import asyncio
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from shared import names, prices
from shared.callers import Caller
from shared.choice import Choice, choose
from shared.errors import AlreadyExists, Forbidden, IdempotencyConflict, InvalidRequest, ProviderUnavailable
from shared.keys import OPERATORS_TENANT
from shared.models import (
    AUTO,
    Idempotency,
    ProviderName,
    Resources,
    Session,
    SessionSpec,
    State,
    Storage,
)
from shared.ports import Ports
from shared.providers.base import Wanted
from shared.tasks import first_look
from shared.templates import Template

IDEMPOTENCY_KEPT = timedelta(hours=24)
MAX_NAME_TRIES = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What a session would be: where, why there, what it costs (US dollars an hour), when it would run, and caveats."""

    choice: Choice
    resources: Resources
    cost_per_hour_usd: float
    expected_start_s: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Creation:
    """How sessions come about; with `only`, on that provider."""

    ports: Ports
    only: ProviderName | None = None

    async def create(self, caller: Caller, spec: SessionSpec, idempotency_key: str | None) -> Session:
        """A session that is written and whose steps are enqueued, or the one that the key made before.

        Raises InvalidRequest, Forbidden, IdempotencyConflict, ProviderUnavailable (then nothing was created).
        """
        if not caller.may_use(spec.namespace):
            allowed = ", ".join(sorted(caller.namespaces or ()))
            raise Forbidden(f"namespace: got '{spec.namespace}', wanted one that this API key may use: {allowed}")
        template, resources, choice = self._chosen(spec)
        await self._check_storage(caller, spec.storage)
        now = self.ports.clock()
        draft = Session(
            id=names.session_id(spec.namespace, spec.user, now),
            tenant=caller.tenant,
            namespace=spec.namespace,
            user=spec.user,
            provider=choice.provider,
            template=template.name,
            state=State.PROVISIONING,
            created_at=now,
            expires_at=now + timedelta(minutes=spec.ttl_minutes),
            resources=resources,
            env={**template.env, **spec.env},
            labels=spec.labels,
            egress=spec.egress,
            image=template.image,
            idle_timeout_minutes=spec.idle_timeout_minutes,
            storage=spec.storage,
            long_lived=spec.long_lived,
            auto_resume=spec.auto_resume,
            details={"reason": "; ".join(choice.reasons)},
        )
        record = _idempotency(caller, spec, idempotency_key, draft) if idempotency_key else None
        session, is_new = await self._record(draft, record)
        try:
            await self._enqueue(session, now)
        except ProviderUnavailable:
            if is_new:
                await self.ports.store.discard(session.id, record)
            raise
        return session

    def plan(self, spec: SessionSpec) -> Plan:
        """What `create` would choose for this, without creating anything. Raises InvalidRequest as `create` does."""
        _, resources, choice = self._chosen(spec)
        beside = prices.PRICES[choice.provider].beside
        return Plan(
            choice,
            resources,
            prices.cost_per_hour(choice.provider, resources, self.ports.providers[choice.provider].price_share),
            prices.START_S[choice.provider],
            (beside,) if beside else (),
        )

    def _chosen(self, spec: SessionSpec) -> tuple[Template, Resources, Choice]:
        """What a session of this spec starts from, with what, and where."""
        template = self.ports.templates.find(spec.template)
        resources = spec.resources or template.resources
        if self.only is not None:
            spec = replace(spec, provider=self.only)
        unfit: dict[ProviderName, InvalidRequest] = {}
        for name, provider in self.ports.providers.items():
            if spec.provider in {AUTO, name}:
                try:
                    provider.check(Wanted(template.name, resources, spec.egress, spec.storage, spec.long_lived))
                except InvalidRequest as exc:
                    unfit[name] = exc
        return template, resources, choose(spec, self.ports.providers, unfit)

    async def _check_storage(self, caller: Caller, storage: Storage) -> None:
        """What no session made belongs to the project, not to a tenant: it is for the tenant that runs the deployment.

        Raises Forbidden, or InvalidRequest: there is no such bucket, or it is another session's.
        """
        bucket, share = storage.bucket, storage.filestore
        is_lent = caller.tenant == OPERATORS_TENANT
        if share is not None and not is_lent:
            raise Forbidden(f"storage.filestore: got {share.ip}, wanted none: shares are not other tenants' to mount")
        if bucket is None:
            return
        if names.session_of_bucket(bucket) is None:
            if not is_lent:
                raise Forbidden(f"storage.bucket: got '{bucket}', wanted one that a session of your tenant kept")
        else:
            kept = (await self.ports.store.kept_buckets([bucket])).get(bucket)
            if kept is None or kept.tenant != caller.tenant or not caller.may_use(kept.namespace):
                wanted = "a bucket of your own, or one that a session of yours kept"
                complaint = f"got '{bucket}', which is another session's; wanted {wanted}"
                raise InvalidRequest.field("storage.bucket", complaint)
        if not await self.ports.buckets.exists(bucket):
            raise InvalidRequest.field(
                "storage.bucket",
                f"got '{bucket}', which does not exist or is closed to this deployment; wanted the name of a bucket",
            )

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
            self.ports.tasks.provision(session),
            self.ports.tasks.expire(session, now, first_look(session, now)),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome


def _idempotency(caller: Caller, spec: SessionSpec, key: str, draft: Session) -> Idempotency:
    body = json.dumps(asdict(spec), sort_keys=True, default=str)
    return Idempotency(
        id=hashlib.sha256(f"{caller.tenant}\0{key}".encode()).hexdigest(),
        body_digest=hashlib.sha256(body.encode()).hexdigest(),
        session_id=draft.id,
        expires_at=draft.created_at + IDEMPOTENCY_KEPT,
    )
