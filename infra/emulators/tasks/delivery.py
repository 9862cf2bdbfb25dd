"""One attempt: the HTTP request that Cloud Tasks makes of a task, and what its answer means."""

import asyncio
import email.utils
import logging
import secrets
import ssl
from dataclasses import dataclass
from typing import Any

import httpx
from google.rpc import code_pb2

from infra.emulators.oidc import OidcTokens
from infra.emulators.tasks import names
from infra.emulators.tasks.admission import HttpMethod, Task, seconds
from infra.emulators.tasks.clock import Clock
from infra.emulators.tasks.storage import Failure, StoredTask

log = logging.getLogger(__name__)

# An idle connection is given up before uvicorn (5 s) does so: otherwise a request could meet its closing.
KEEP_IDLE_S = 3.0
DRAINED_BYTES = 1024 * 1024  # a longer answer is not read to its end; its connection is closed instead
MAX_RETRY_AFTER_S = 3600.0  # nothing is published; a target must not park a task for years

# The statuses that have a code of their own; the rest is UNKNOWN.
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_THROTTLING = (429, 503)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: `failure` is None for a 2xx; `retry_after_s` is what the target asked for, or 0."""

    failure: Failure | None
    retry_after_s: float = 0.0


class Delivery:
    """Sends attempts over pooled connections; follows no redirect. Owns its HTTP clients: close it."""

    def __init__(self, tokens: OidcTokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        # A context that trusts nobody: reading the certificates takes 70 ms, and most targets have none.
        self._plain = _client(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self._secure: httpx.AsyncClient | None = None

    async def close(self) -> None:
        await self._plain.aclose()
        if self._secure is not None:
            await self._secure.aclose()

    async def attempt(self, task: StoredTask, message: Any) -> Outcome:
        """Deliver the task (`message` is its Task) and wait for the answer, for its dispatch deadline at most."""
        deadline_s = seconds(message.dispatch_deadline)
        ends_us = (task.attempt_dispatch_us or self._clock.now_us()) + int(deadline_s * 1_000_000)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as deadline:
                alarm = self._clock.call_at(ends_us, lambda: deadline.reschedule(loop.time()))
                try:
                    return await self._send(task, message.http_request)
                finally:
                    alarm.cancel()
        except TimeoutError:
            return self._unanswered(504, f"no answer within the dispatch deadline of {deadline_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            return self._unanswered(503, f"{type(exc).__name__}: {exc}")
        except Exception:  # whatever it is: the task must be tried again, not lost
            log.exception("an attempt broke", extra={"task": task.name})
            return self._unanswered(500, "internal error in the emulator; see its log")

    async def _send(self, task: StoredTask, request: Any) -> Outcome:
        async with self._client(request.url).stream(
            HttpMethod(request.http_method).name,
            request.url,
            headers=headers(task, request, self._tokens),
            content=request.body or None,
        ) as response:
            drained = 0
            async for chunk in response.aiter_raw():
                drained += len(chunk)
                if drained > DRAINED_BYTES:
                    break
        status = response.status_code
        if response.is_success:
            return Outcome(None)
        asked_s = _retry_after_s(response.headers.get("retry-after", ""), self._clock.now_us() / 1_000_000)
        return Outcome(
            self._failure(status, f"HTTP status code {status}", responded=True),
            asked_s if status in _THROTTLING else 0.0,
        )

    def _client(self, url: str) -> httpx.AsyncClient:
        if not url.lower().startswith("https:"):
            return self._plain
        if self._secure is None:
            self._secure = _client(ssl.create_default_context())
        return self._secure

    def _unanswered(self, status: int, reason: str) -> Outcome:
        return Outcome(self._failure(status, reason, responded=False))

    def _failure(self, status: int, reason: str, *, responded: bool) -> Failure:
        code = _CODES.get(status, "UNKNOWN")
        number = code_pb2.Code.Value(code)
        return Failure(
            at_us=self._clock.now_us(),
            responded=responded,
            executed=responded and status < 500,  # the header's definition: 5xx never reached the execution
            previous_response=status,
            code=number,
            message=f"{code}({number}): {reason}",
        )


def _client(context: ssl.SSLContext) -> httpx.AsyncClient:
    """The deadline is kept by the clock, the number of connections by the queues; a proxy is none of ours."""
    return httpx.AsyncClient(
        verify=context,
        timeout=None,  # noqa: S113
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=KEEP_IDLE_S),
        follow_redirects=False,
        trust_env=False,
    )


def headers(task: StoredTask, request: Any, tokens: OidcTokens) -> list[tuple[bytes, bytes]]:
    """The task's own headers and those of the service, which win.

    cloud.google.com/tasks/docs/creating-http-target-tasks#handler; that TaskRetryReason is sent empty, and which
    attempts count as executions, is how the service does it.
    """
    name = names.task(task.name)
    ours = {
        "X-CloudTasks-QueueName": name.queue.rpartition("/")[2],
        "X-CloudTasks-TaskName": name.id,
        "X-CloudTasks-TaskRetryCount": str(task.dispatch_count - 1),
        "X-CloudTasks-TaskExecutionCount": str(task.execution_count),
        "X-CloudTasks-TaskETA": f"{task.schedule_us // 1_000_000}.{task.schedule_us % 1_000_000:06d}",
    }
    if task.previous_response is not None:
        ours["X-CloudTasks-TaskPreviousResponse"] = str(task.previous_response)
        ours["X-CloudTasks-TaskRetryReason"] = ""
    if request.HasField("oidc_token"):
        token = tokens.mint(request.oidc_token.service_account_email, request.oidc_token.audience or request.url)
        ours["Authorization"] = f"Bearer {token}"
    elif request.HasField("oauth_token"):
        # An access token is opaque to everybody but Google: this one opens nothing.
        ours["Authorization"] = f"Bearer ya29.{secrets.token_urlsafe(32)}"
    taken = {name.lower() for name in ours}
    sent = {name: value for name, value in request.headers.items() if name.lower() not in taken} | ours
    return [(name.encode(), value.encode()) for name, value in sent.items()]


def message_of(task: StoredTask) -> Any:
    """The Task as it was accepted."""
    return Task.FromString(task.message)


def _retry_after_s(value: str, now_s: float) -> float:
    """Seconds that a Retry-After header (a number or an HTTP date) asks for; 0 for none or nonsense."""
    if value.isascii() and value.isdigit():
        asked_s = float(value[:10])
    else:
        try:
            asked_s = email.utils.parsedate_to_datetime(value).timestamp() - now_s
        except ValueError:
            return 0.0
    return min(max(asked_s, 0.0), MAX_RETRY_AFTER_S)
