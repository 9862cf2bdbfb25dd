"""In-memory ports for the use cases. Each passes the contract tests of the adapter that it stands for."""

import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import google_crc32c

from shared import names
from shared.callers import ApiKey
from shared.errors import (
    AlreadyExists,
    InvalidRequest,
    KeyNotFound,
    SessionNotFound,
    WorkspaceLost,
    WorkspaceUnreachable,
    WriteConflict,
)
from shared.models import (
    Command,
    Execution,
    Idempotency,
    KeptBucket,
    Page,
    Position,
    ProviderName,
    Resources,
    Session,
    SessionFilter,
    State,
)
from shared.objects import Written
from shared.providers.base import Access, Address, Condition, Health, Wanted, Workspace
from shared.store import UNFINISHED, kept_by

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)


def a_session(**changes: Any) -> Session:
    """A session that runs, apart from the changes."""
    session = Session(
        id="ws-test-developer-1761998400",
        tenant="default",
        namespace="test",
        user="developer",
        provider=ProviderName.CLOUD_RUN,
        template="python",
        state=State.RUNNING,
        created_at=START,
        expires_at=START + timedelta(hours=1),
        resources=Resources(),
        image="onmemos/workspace-python:local",
        url="http://localhost:8080/run/onmemos-ws-test-developer-1761998400",
        boot_id="boot-1",
    )
    return replace(session, **changes)


class MemoryStore:
    """The Store in a dictionary; versions are the clock's time, told apart by microseconds."""

    write_fault: Exception | None = None

    def __init__(self, clock: "Clock | None" = None) -> None:
        self._clock = clock or Clock()
        self.documents: dict[str, Session] = {}
        self.records: dict[str, Idempotency] = {}
        self.kept: dict[str, KeptBucket] = {}
        self._writes = 0

    async def create(self, session: Session, idempotency: Idempotency | None = None) -> Session:
        if session.id in self.documents or (idempotency and idempotency.id in self.records):
            raise AlreadyExists(session.id)
        if idempotency:
            self.records[idempotency.id] = idempotency
        kept = kept_by(session)
        if kept is not None:
            self.kept[kept.name] = kept
        return self._write(session)

    async def discard(self, session_id: str, idempotency: Idempotency | None) -> None:
        self.documents.pop(session_id, None)
        self.kept.pop(names.bucket_name(session_id), None)
        if idempotency:
            self.records.pop(idempotency.id, None)

    async def get(self, session_id: str) -> Session:
        if session_id not in self.documents:
            raise SessionNotFound
        return self.documents[session_id]

    async def get_many(self, session_ids: list[str]) -> dict[str, Session]:
        return {one: self.documents[one] for one in session_ids if one in self.documents}

    async def update(self, session: Session) -> Session:
        current = self.documents.get(session.id)
        if current is None or current.version != session.version:
            raise WriteConflict(session.id)
        return self._write(session)

    async def delete(self, session_id: str) -> None:
        self.documents.pop(session_id, None)

    async def page(self, tenant: str, where: SessionFilter, size: int, after: Position | None) -> Page:
        found = [s for s in self.documents.values() if s.tenant == tenant and _matches(s, where)]
        found.sort(key=lambda s: (s.created_at, s.id), reverse=True)
        if after is not None:
            found = [s for s in found if (s.created_at, s.id) < (after.created_at, after.session_id)]
        page = tuple(found[:size])
        return Page(page, Position(page[-1].created_at, page[-1].id) if len(found) > size else None)

    async def unfinished(self) -> AsyncIterator[Session]:
        for session in list(self.documents.values()):
            if session.state in UNFINISHED:
                yield session

    async def expired(self, now: datetime) -> AsyncIterator[Session]:
        for session in list(self.documents.values()):
            if session.expires_at <= now:
                yield session

    async def idempotency(self, record_id: str) -> Idempotency | None:
        return self.records.get(record_id)

    async def has_spent_idempotency(self, before: datetime) -> bool:
        return any(one.expires_at <= before for one in self.records.values())

    async def forget_idempotency(self, before: datetime) -> int:
        old = [one.id for one in self.records.values() if one.expires_at <= before]
        for record_id in old:
            del self.records[record_id]
        return len(old)

    async def kept_buckets(self, bucket_names: list[str]) -> dict[str, KeptBucket]:
        return {name: self.kept[name] for name in bucket_names if name in self.kept}

    async def forget_kept(self, bucket_name: str) -> None:
        self.kept.pop(bucket_name, None)

    def _write(self, session: Session) -> Session:
        if self.write_fault:
            raise self.write_fault
        self._writes += 1
        written = replace(session, version=self._clock() + timedelta(microseconds=self._writes))
        self.documents[session.id] = written
        return written


def _matches(session: Session, where: SessionFilter) -> bool:
    return (
        session.state is not State.DELETING
        and where.namespace in (None, session.namespace)
        and (where.namespaces is None or session.namespace in where.namespaces)
        and where.user in (None, session.user)
        and where.status in (None, session.state)
        and where.provider in (None, session.provider)
        and (where.label is None or session.labels.get(where.label[0]) == where.label[1])
    )


class MemoryKeys:
    """The KeyStore in a dictionary."""

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}

    async def create(self, key: ApiKey) -> None:
        self.keys[key.digest] = key

    async def by_digest(self, digest: str) -> ApiKey | None:
        return self.keys.get(digest)

    async def by_id(self, key_id: str) -> ApiKey:
        for key in self.keys.values():
            if key.id == key_id:
                return key
        raise KeyNotFound

    async def of_tenant(self, tenant: str | None) -> AsyncIterator[ApiKey]:
        for key in sorted(self.keys.values(), key=lambda key: key.created_at, reverse=True):
            if tenant in (None, key.tenant):
                yield key

    async def revoke(self, key: ApiKey, at: datetime) -> ApiKey:
        if key.revoked_at is not None:
            return key
        if key.digest not in self.keys:
            raise KeyNotFound
        self.keys[key.digest] = replace(key, revoked_at=at)
        return self.keys[key.digest]


@dataclass
class MemoryTasks:
    """Tasks that wait until a test delivers them. `fault` is raised by every call while it is set.

    `looks`: when a task that looks whether a session is idle is due.
    """

    queued: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    fault: Exception | None = None
    looks: dict[str, datetime] = field(default_factory=dict)

    async def provision(self, session: Session, attempt: str = "1") -> None:
        self._add(names.task_name(session.id, "provision", attempt), "provision", session)

    async def expire(self, session: Session, now: datetime, idle_at: datetime | None = None) -> None:
        name = self._expiry(session)
        if idle_at is not None and idle_at < session.expires_at:
            name = names.task_name(session.id, "expire", f"{session.expiry_generation}_{int(idle_at.timestamp())}")
            self.looks[name] = idle_at
        self._add(name, "expire", session)

    async def teardown(self, session: Session, attempt: str = "1") -> None:
        self._add(names.task_name(session.id, "teardown", attempt), "teardown", session)

    async def suspend(self, session: Session, attempt: str = "1") -> None:
        self._add(names.task_name(session.id, "suspend", f"{session.turn}_{attempt}"), "suspend", session, session.turn)

    async def move(self, session: Session, attempt: str = "1") -> None:
        self._add(names.task_name(session.id, "move", f"{session.turn}_{attempt}"), "move", session, session.turn)

    async def forget(self, session: Session, now: datetime) -> None:
        self.queued.pop(self._expiry(session), None)

    async def pending(self) -> AsyncIterator[tuple[str, str]]:
        for name, (_, session_id, _) in list(self.queued.items()):
            yield session_id, name

    async def delete(self, task_name: str) -> None:
        self.queued.pop(task_name, None)

    def due(self, name: str, session: Session) -> datetime:
        """When an expiry's task is delivered."""
        return self.looks.get(name, session.expires_at)

    def steps(self) -> list[str]:
        """What is queued, by step."""
        return [step for step, _, _ in self.queued.values()]

    def _add(self, name: str, step: str, session: Session, number: int | None = None) -> None:
        if self.fault:
            raise self.fault
        if name not in self.used:
            self.used.add(name)
            self.queued[name] = (step, session.id, session.expiry_generation if number is None else number)

    @staticmethod
    def _expiry(session: Session) -> str:
        return names.task_name(session.id, "expire", session.expiry_generation)


@dataclass
class MemoryBuckets:
    """Buckets by session, and `others` by name, with their objects. `fault` is raised by the next call only.

    `write_fault` is raised by every write while it is set.
    """

    made: set[str] = field(default_factory=set)
    fault: Exception | None = None
    others: set[str] = field(default_factory=set)
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    write_fault: Exception | None = None
    tenants: dict[str, str] = field(default_factory=dict)

    async def exists(self, name: str) -> bool:
        return name in self.others or name in map(names.bucket_name, self.made)

    async def ensure(self, session_id: str, tenant: str) -> str:
        self._fail_once()
        self.made.add(session_id)
        self.tenants[session_id] = tenant
        return names.bucket_name(session_id)

    async def delete(self, session_id: str) -> None:
        self._fail_once()
        self.made.discard(session_id)
        bucket = names.bucket_name(session_id)
        self.objects = {key: content for key, content in self.objects.items() if key[0] != bucket}

    async def write(self, bucket: str, name: str, chunks: AsyncIterator[bytes]) -> Written:
        content = b"".join([chunk async for chunk in chunks])
        if self.write_fault:
            raise self.write_fault
        self.objects[bucket, name] = content
        checksum = google_crc32c.Checksum(content)
        return Written(len(content), base64.b64encode(checksum.digest()).decode())

    async def read(self, bucket: str, name: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        content = self.objects.get((bucket, name), b"")[start:]
        if content[:length]:
            yield content[:length]

    async def size(self, bucket: str, name: str) -> int | None:
        content = self.objects.get((bucket, name))
        return None if content is None else len(content)

    async def list(self, bucket: str, prefix: str) -> list[tuple[str, int]]:
        found = [(name, len(content)) for (where, name), content in self.objects.items() if where == bucket]
        return sorted(pair for pair in found if pair[0].startswith(prefix))

    async def remove(self, bucket: str, name: str) -> None:
        self.objects.pop((bucket, name), None)

    async def session_ids(self) -> AsyncIterator[str]:
        for session_id in sorted(self.made):
            yield session_id

    def _fail_once(self) -> None:
        fault, self.fault = self.fault, None
        if fault:
            raise fault


@dataclass
class MemoryProvider:
    """Workspaces by session, with the environment they were given. `fault` is raised by the next create only.

    `stopped` are those of them that were stopped; with `keeps` they have kept their files.
    """

    name: ProviderName = ProviderName.CLOUD_RUN
    ssh: bool = False
    price_share: float = 1.0
    most_memory_bytes: int = 1 << 40
    made: dict[str, dict[str, str]] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)
    fault: Exception | None = None
    inspect_fault: Exception | None = None
    on_create: Any = None
    keeps: bool = False
    stopped: set[str] = field(default_factory=set)
    delete_fault: Exception | None = None

    def check(self, wanted: Wanted) -> None:
        if wanted.resources.memory_bytes > self.most_memory_bytes:
            raise InvalidRequest.field("resources.memory", f"got too much for {self.name}")

    def access(self, session: Session) -> Access:
        return Access(session.url, session.url and f"ws{session.url.removeprefix('http')}/v1/shell")

    async def create(self, session: Session, env: dict[str, str], bucket: str) -> Workspace:
        fault, self.fault = self.fault, None
        if fault:
            raise fault
        self.made[session.id] = env
        self.stopped.discard(session.id)
        if self.on_create:
            await self.on_create(session)
        return Workspace(f"http://{self.name}/{session.id}", {"bucket_name": bucket})

    async def address(self, session: Session) -> Address:
        if session.url is None:
            raise WorkspaceUnreachable(f"the workspace of {session.id} has no address")
        return Address(session.url)

    def keeps_files(self, session: Session) -> bool:
        return self.keeps

    async def stop(self, session_id: str) -> None:
        if session_id in self.made:
            self.stopped.add(session_id)

    async def inspect(self, session_id: str) -> Condition:
        if self.inspect_fault:
            raise self.inspect_fault
        if session_id not in self.made:
            return Condition(Health.GONE, "it does not exist")
        if session_id in self.stopped:
            return Condition(Health.STOPPED, "it was stopped")
        return self.conditions.get(session_id, Condition(Health.READY))

    async def delete(self, session_id: str) -> None:
        fault, self.delete_fault = self.delete_fault, None
        if fault:
            raise fault
        self.made.pop(session_id, None)
        self.stopped.discard(session_id)

    async def session_ids(self) -> AsyncIterator[str]:
        for session_id in sorted(self.made):
            yield session_id


@dataclass
class MemoryAgents:
    """Agents that echo, with work folders by address. `silent` sessions do not answer.

    `boots` overrides who answers, `idle` how long they idle, `processes` how many run. A `frozen` one runs nothing.
    """

    silent: set[str] = field(default_factory=set)
    boots: dict[str, str] = field(default_factory=dict)
    ran: list[tuple[str, Command]] = field(default_factory=list)
    idle: dict[str, float] = field(default_factory=dict)
    processes: int = 2
    frozen: set[str] = field(default_factory=set)
    folders: dict[str, bytes] = field(default_factory=dict)
    restored: list[tuple[str, str]] = field(default_factory=list)
    adopted: dict[str, str] = field(default_factory=dict)
    archive_fault: Exception | None = None
    restore_fault: Exception | None = None

    async def idle_s(self, session: Session) -> float:
        await self.boot_id(session)
        return self.idle.get(session.id, 0.0)

    async def boot_id(self, session: Session) -> str:
        if session.id in self.silent or session.url is None:
            raise WorkspaceUnreachable("silence")
        return self.boots.get(session.id, "boot-1")

    async def execute(self, session: Session, command: Command) -> Execution:
        boot_id = await self.boot_id(session)
        if session.url in self.frozen:
            raise WorkspaceUnreachable("the workspace is frozen")
        self.ran.append((session.id, command))
        return Execution(f"{command.line}\n", "", 0, timed_out=False, truncated=False, duration_ms=1.0, boot_id=boot_id)

    async def adopt(self, session: Session, agent_id: str, env: Mapping[str, str]) -> None:
        await self.boot_id(session)
        if self.adopted.setdefault(agent_id, session.id) != session.id:
            raise WorkspaceLost(f"{agent_id} has another session")

    async def freeze(self, session: Session, lease_s: float) -> int:
        await self.boot_id(session)
        self.frozen.add(_url(session))
        return self.processes

    async def thaw(self, session: Session) -> None:
        await self.boot_id(session)
        self.frozen.discard(_url(session))

    async def archive(self, session: Session) -> AsyncIterator[bytes]:
        await self.boot_id(session)
        yield self.folders.get(_url(session), b"")
        if self.archive_fault:
            raise self.archive_fault

    async def restore(self, session: Session, restore_id: str, tar: AsyncIterator[bytes]) -> None:
        await self.boot_id(session)
        content = b"".join([chunk async for chunk in tar])
        if self.restore_fault:
            raise self.restore_fault
        if (_url(session), restore_id) not in self.restored:
            self.restored.append((_url(session), restore_id))
            self.folders[_url(session)] = content


def _url(session: Session) -> str:
    assert session.url is not None
    return session.url
