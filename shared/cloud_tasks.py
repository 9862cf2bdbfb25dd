"""The Tasks on Cloud Tasks.

A step's task is named after the session, so enqueuing twice is one task. Cloud Tasks delivers at least once and keeps a
name blocked for a day after it ran.
"""

import json
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions
from google.api_core.retry import if_exception_type
from google.api_core.retry_async import AsyncRetry
from google.cloud import tasks_v2

from shared import names
from shared.cloud import unavailable
from shared.models import Session
from shared.tasks import next_hop

TIMEOUT_S = 10.0
BLIPS = if_exception_type(exceptions.ServiceUnavailable)
# Tasks have names, so a call that is repeated does nothing twice; a caller of the API waits for this.
CALL: dict[str, Any] = {"timeout": TIMEOUT_S, "retry": AsyncRetry(BLIPS, initial=0.1, maximum=1.0, timeout=5.0)}
# Longer than the step: a service that takes Cloud Run's four minutes to start, or gigabytes of files to carry. At most
# 30 minutes: cloud.google.com/tasks/docs/creating-http-target-tasks
DISPATCH_DEADLINE_S = {"provision": 1800, "expire": 600, "teardown": 600, "suspend": 1800, "move": 1800}
IDLE_STEP_S = 10  # idle timeouts are minutes long

FUNCTIONS = {
    "provision": "provision_session",
    "expire": "expire_session",
    "teardown": "teardown_session",
    "suspend": "stop_session",
    "move": "transfer_session",
}


@dataclass(frozen=True, slots=True)
class CloudTasksSettings:
    """`queue` holds `{step}` (those of FUNCTIONS); `function_url` is names.function_url's.

    `service_account` signs the pushes: the only caller the task functions accept.
    """

    project: str
    location: str
    queue: str
    function_url: str
    service_account: str


class CloudTasks:
    """The Tasks on Cloud Tasks. `client` is opened on the first call and is the caller's to close."""

    def __init__(self, client: Callable[[], tasks_v2.CloudTasksAsyncClient], settings: CloudTasksSettings) -> None:
        self._client = client
        self._settings = settings

    async def provision(self, session: Session, attempt: str = "1") -> None:
        await self._create("provision", session, attempt, {})

    async def expire(self, session: Session, now: datetime, idle_at: datetime | None = None) -> None:
        at = next_hop(session, now)
        if idle_at is not None:
            at = min(at, _rounded_up(idle_at))
        await self._create("expire", session, _expiry_id(session, at), {"generation": session.expiry_generation}, at)

    async def teardown(self, session: Session, attempt: str = "1") -> None:
        await self._create("teardown", session, attempt, {})

    async def suspend(self, session: Session, attempt: str = "1") -> None:
        await self._create("suspend", session, f"{session.turn}_{attempt}", {"turn": session.turn})

    async def move(self, session: Session, attempt: str = "1") -> None:
        await self._create("move", session, f"{session.turn}_{attempt}", {"turn": session.turn})

    async def forget(self, session: Session, now: datetime) -> None:
        expiry = _expiry_id(session, next_hop(session, now))
        await self.delete(self._name("expire", names.task_name(session.id, "expire", f"{expiry}_{_birth(session)}")))

    async def pending(self) -> AsyncIterator[tuple[str, str]]:
        try:
            for step in FUNCTIONS:
                async for task in await self._client().list_tasks(parent=self._queue(step), **CALL):
                    session_id = names.session_of_task(task.name.rpartition("/")[2])
                    if session_id is not None:
                        yield session_id, task.name
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Tasks", exc) from exc

    async def delete(self, task_name: str) -> None:
        try:
            await self._client().delete_task(name=task_name, **CALL)
        except exceptions.NotFound:
            return
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Tasks", exc) from exc

    async def _create(
        self, step: str, session: Session, generation: str, extra: dict[str, int], at: datetime | None = None
    ) -> None:
        url = names.function_url(self._settings.function_url, FUNCTIONS[step])
        task = tasks_v2.Task(
            name=self._name(step, names.task_name(session.id, step, f"{generation}_{_birth(session)}")),
            http_request=tasks_v2.HttpRequest(
                url=url,
                http_method=tasks_v2.HttpMethod.POST,
                headers={"Content-Type": "application/json"},
                body=json.dumps({"session_id": session.id, **extra}).encode(),
                oidc_token=tasks_v2.OidcToken(service_account_email=self._settings.service_account, audience=url),
            ),
            dispatch_deadline={"seconds": DISPATCH_DEADLINE_S[step]},
        )
        if at is not None:
            task.schedule_time = at
        try:
            await self._client().create_task(parent=self._queue(step), task=task, **CALL)
        except exceptions.AlreadyExists:
            return
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Tasks", exc) from exc

    def _queue(self, step: str) -> str:
        queue = self._settings.queue.format(step=step)
        return f"projects/{self._settings.project}/locations/{self._settings.location}/queues/{queue}"

    def _name(self, step: str, task: str) -> str:
        return f"{self._queue(step)}/tasks/{task}"


def _rounded_up(at: datetime) -> datetime:
    """Two deliveries of one task, moments apart, come to the same next one."""
    return datetime.fromtimestamp(math.ceil(at.timestamp() / IDLE_STEP_S) * IDLE_STEP_S, UTC)


def _birth(session: Session) -> int:
    """Tells a session's tasks from those of one whose creation was taken back, and whose name it may have."""
    return int(session.created_at.timestamp() * 1000)


def _expiry_id(session: Session, at: datetime) -> str:
    return f"{session.expiry_generation}_{int(at.timestamp())}"
