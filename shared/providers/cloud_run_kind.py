"""Workspaces as resources of one kind, a service or an instance each: made, found again, looked at and deleted."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from google.api_core import exceptions
from google.cloud import run_v2

from shared import names
from shared.cloud import unavailable
from shared.errors import ProviderUnavailable
from shared.models import Session
from shared.providers.base import Condition, Health, Workspace
from shared.providers.cloud_run_api import SESSION_LABEL, CloudRunSettings, Mode, call_options, finished, translated

if TYPE_CHECKING:
    from google.api_core.operation_async import AsyncOperation

FACTS_PREFIX = "onmemos.dev/"
CONFIGURATION = f"{FACTS_PREFIX}configuration"  # an annotation that is nobody's fact
READY_TIMEOUT_S = (
    300.0  # Cloud Run gives a container 4 minutes to start: cloud.google.com/run/docs/configuring/healthchecks
)

# What it means that there is none: also that the region does not have the kind, and that the deployment may not use the
# kind that it does not make.
ABSENT = (exceptions.NotFound, exceptions.MethodNotImplemented)

R = TypeVar("R", run_v2.Service, run_v2.Instance)


class Kind(ABC, Generic[R]):
    """Both kinds give a session's resource the same name. Errors are translated here, once."""

    mode: ClassVar[Mode]

    def __init__(self, settings: CloudRunSettings, patience_s: float) -> None:
        self._settings = settings
        self._wait = call_options(patience_s)
        self._absent = ABSENT if self.mode is settings.mode else (*ABSENT, exceptions.Forbidden)

    async def create(self, session: Session, env: dict[str, str], bucket: str) -> Workspace:
        """As Provider.create."""
        resource_id = names.service_name(session.id)
        wanted = self._wanted(session, env, bucket)
        try:
            try:
                resource = await self._finished(self._create(resource_id, wanted))
            except exceptions.AlreadyExists:
                resource = await self._found(resource_id, wanted)
        except exceptions.GoogleAPIError as exc:
            raise translated(exc) from exc
        facts = {
            key.removeprefix(FACTS_PREFIX): value
            for key, value in resource.annotations.items()
            if key.startswith(FACTS_PREFIX) and key != CONFIGURATION
        }
        return Workspace(self._url(resource), {f"{self.mode}_name": resource_id, "bucket_name": bucket, **facts})

    async def inspect(self, session_id: str) -> Condition:
        try:
            return self._condition(await self._get(self._path(session_id)))
        except self._absent:
            return Condition(Health.GONE, f"its Cloud Run {self.mode} does not exist")
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Run", exc) from exc

    async def stop(self, session_id: str) -> None:
        await self._end(self._stop(self._path(session_id)))

    async def delete(self, session_id: str) -> None:
        await self._end(self._delete(self._path(session_id)))

    async def session_ids(self) -> AsyncIterator[str]:
        try:
            async for resource in await self._list():
                session_id = resource.labels.get(SESSION_LABEL)
                if session_id and resource.name == self._path(session_id):
                    yield session_id
        except self._absent:
            return
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Run", exc) from exc

    @abstractmethod
    def _wanted(self, session: Session, env: dict[str, str], bucket: str) -> R:
        """The resource that a session asks for."""

    @abstractmethod
    async def _found(self, resource_id: str, wanted: R) -> R:
        """One that a former try made, once ready. Raises ProvisioningFailed."""

    @abstractmethod
    def _url(self, resource: R) -> str: ...

    @abstractmethod
    async def _create(self, resource_id: str, wanted: R) -> "AsyncOperation": ...

    @abstractmethod
    async def _get(self, path: str) -> R: ...

    @abstractmethod
    async def _list(self) -> AsyncIterable[R]: ...

    @abstractmethod
    async def _stop(self, path: str) -> "AsyncOperation": ...

    @abstractmethod
    async def _delete(self, path: str) -> "AsyncOperation": ...

    def _path(self, session_id: str) -> str:
        return self._path_of(names.service_name(session_id))

    def _path_of(self, resource_id: str) -> str:
        return f"{self._settings.parent}/{self.mode}s/{resource_id}"

    def _condition(self, resource: R) -> Condition:
        terminal = resource.terminal_condition
        match terminal.state:
            case run_v2.Condition.State.CONDITION_SUCCEEDED:
                return Condition(Health.READY)
            case run_v2.Condition.State.CONDITION_FAILED:
                return Condition(Health.FAILED, terminal.message)
            case _:
                return Condition(Health.STARTING, terminal.message)

    async def _settled(self, resource_id: str) -> R:
        """The resource, once ready or not on its way to that. Its operation is lost, so its condition is asked for."""
        deadline, pause_s = time.monotonic() + READY_TIMEOUT_S, 0.1
        while time.monotonic() < deadline:
            resource = await self._get(self._path_of(resource_id))
            health = self._condition(resource).health
            if health is Health.READY or (health is not Health.STARTING and not resource.reconciling):
                return resource
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)
        raise ProviderUnavailable(f"Cloud Run {self.mode} {resource_id} was not ready after {READY_TIMEOUT_S:g} s")

    async def _finished(self, call: Any) -> R:
        """The resource as the operation leaves it that the call begins."""
        resource: R = await finished(await call, READY_TIMEOUT_S)
        return resource

    async def _end(self, call: Any) -> None:
        """What is gone already has ended."""
        try:
            await self._finished(call)
        except self._absent:
            return
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Run", exc) from exc
