"""What may enter: queues and tasks checked against the service's limits, with its defaults filled in.

The messages are those of the real service where they are known. Everything here raises InvalidArgument for what the
real service refuses, and MethodNotImplemented for what only this emulator cannot do.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from google.api_core import exceptions
from google.cloud.tasks_v2 import types
from google.protobuf import field_mask_pb2

from infra.emulators.tasks import names

Queue: Any = types.Queue.pb()
Task: Any = types.Task.pb()
HttpMethod: Any = types.HttpMethod

# cloud.google.com/tasks/docs/quotas, and the API's reference for the rest.
MAX_SCHEDULE_AHEAD_S = 30 * 24 * 3600
MIN_DEADLINE_S, DEFAULT_DEADLINE_S, MAX_DEADLINE_S = 15, 600, 1800
MAX_URL_CHARACTERS = 2083
MAX_HEADER_BYTES = 80 * 1024
# "1 MB" in the quotas; against the service, the stored form of a task may be this long and no longer.
MAX_TASK_BYTES = 1_048_569
MAX_RATE_PER_S, DEFAULT_RATE_PER_S = 500.0, 500.0
MAX_CONCURRENT, DEFAULT_CONCURRENT = 5000, 1000
DEFAULT_ATTEMPTS, DEFAULT_DOUBLINGS = 100, 16
DEFAULT_MIN_BACKOFF_MS, DEFAULT_MAX_BACKOFF_S = 100, 3600
USER_AGENT = "Google-Cloud-Tasks"

_QUEUE_FIELDS = (
    "app_engine_routing_override",
    "http_target",
    "rate_limits",
    "retry_config",
    "stackdriver_logging_config",
)
_OUTPUT_ONLY = ("name", "state", "purge_time")
_BODY_METHODS = (HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00\r\n]*")
_OWN_HEADERS = ("host", "content-length", "user-agent", "transfer-encoding", "connection")
_OWN_PREFIXES = ("x-google-", "x-appengine-", "x-cloudtasks-")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def queue(wanted: Any, current: Any | None = None, paths: Sequence[str] = ()) -> Any:
    """The queue to store: `wanted`, or `current` with the fields in `paths` (none = all) taken from `wanted`."""
    stored = Queue(name=names.queue(wanted.name), state=types.Queue.State.RUNNING)
    if current is not None:
        stored.CopyFrom(current)
    paths = [path for path in paths if path.partition(".")[0] not in _OUTPUT_ONLY] if paths else _QUEUE_FIELDS
    for path in paths:
        if not field_mask_pb2.FieldMask(paths=[path]).IsValidForDescriptor(Queue.DESCRIPTOR):
            raise exceptions.InvalidArgument(f'Invalid field in update_mask: "{path}".')
        _take(path, wanted, stored)
    if stored.HasField("http_target") or stored.HasField("app_engine_routing_override"):
        raise exceptions.MethodNotImplemented(
            "Queue.http_target and Queue.app_engine_routing_override are not emulated; set the target on the task."
        )
    _rate_limits(stored.rate_limits)
    # A zero is "unspecified", except where the mask names this very field.
    retry_config(stored.retry_config, default_doublings=current is None or "retry_config" in paths)
    ratio = stored.stackdriver_logging_config.sampling_ratio
    if not 0.0 <= ratio <= 1.0:
        raise exceptions.InvalidArgument(f"Queue.sampling_ratio must be between 0.0 and 1.0, not {ratio}.")
    return stored


def task(wanted: Any, name: names.TaskName, now_us: int) -> Any:
    """The task to store under `name`; its output-only fields start anew."""
    if wanted.HasField("app_engine_http_request"):
        raise exceptions.MethodNotImplemented("App Engine tasks are not emulated; use Task.http_request.")
    if not wanted.HasField("http_request"):
        raise exceptions.InvalidArgument("Task.http_request is required.")
    stored = Task(name=str(name), http_request=wanted.http_request)
    _http_request(stored.http_request)
    stored.create_time.FromSeconds(now_us // 1_000_000)
    stored.schedule_time.FromMicroseconds(_schedule_us(wanted, now_us))
    stored.dispatch_deadline.FromMilliseconds(_deadline_ms(wanted))
    if wanted.HasField("retry_config"):
        stored.retry_config.CopyFrom(wanted.retry_config)
        retry_config(stored.retry_config)
    if stored.ByteSize() > MAX_TASK_BYTES:
        raise exceptions.InvalidArgument(
            f"Task size too large: {stored.ByteSize()} bytes, at most {MAX_TASK_BYTES} are allowed."
        )
    return stored


def retry_config(config: Any, *, default_doublings: bool = True) -> None:
    """Fill and check a RetryConfig in place."""
    config.max_attempts = config.max_attempts or DEFAULT_ATTEMPTS
    if not config.HasField("min_backoff"):
        config.min_backoff.FromMilliseconds(DEFAULT_MIN_BACKOFF_MS)
    if not config.HasField("max_backoff"):
        config.max_backoff.FromSeconds(DEFAULT_MAX_BACKOFF_S)
    if default_doublings:
        config.max_doublings = config.max_doublings or DEFAULT_DOUBLINGS
    if config.max_attempts < -1:
        raise exceptions.InvalidArgument(f"RetryConfig.max_attempts must be >= -1, not {config.max_attempts}.")
    if config.max_doublings < 0:
        raise exceptions.InvalidArgument(f"RetryConfig.max_doublings must be >= 0, not {config.max_doublings}.")
    for field in ("max_retry_duration", "min_backoff", "max_backoff"):
        if seconds(getattr(config, field)) < 0:
            raise exceptions.InvalidArgument(f"RetryConfig.{field} must not be negative.")
    if seconds(config.min_backoff) > seconds(config.max_backoff):
        raise exceptions.InvalidArgument("RetryConfig.min_backoff must not be greater than max_backoff.")


def seconds(duration: Any) -> float:
    """A protobuf Duration in seconds."""
    return float(duration.seconds) + float(duration.nanos) / 1e9


def _take(path: str, source: Any, target: Any) -> None:
    """Make the field at `path` of `target` as it is in `source`, unset or zero too (as FieldMask does not)."""
    name, _, rest = path.partition(".")
    if rest:
        _take(rest, getattr(source, name), getattr(target, name))
    elif source.DESCRIPTOR.fields_by_name[name].message_type is None:
        setattr(target, name, getattr(source, name))
    elif source.HasField(name):
        getattr(target, name).CopyFrom(getattr(source, name))
    else:
        target.ClearField(name)


def _rate_limits(limits: Any) -> None:
    rate = limits.max_dispatches_per_second
    if not 0 <= rate <= MAX_RATE_PER_S:
        raise exceptions.InvalidArgument(
            f"RateLimits.max_dispatches_per_second must be between 0 and {MAX_RATE_PER_S:g}, not {rate:g}."
        )
    concurrent = limits.max_concurrent_dispatches
    if not 0 <= concurrent <= MAX_CONCURRENT:
        raise exceptions.InvalidArgument(
            f"RateLimits.max_concurrent_dispatches must be between 0 and {MAX_CONCURRENT}, not {concurrent}."
        )
    limits.max_dispatches_per_second = rate or DEFAULT_RATE_PER_S
    limits.max_concurrent_dispatches = concurrent or DEFAULT_CONCURRENT
    # Output only. The service's formula is not published; it answers 100 for 500/s and 10 for 1/s.
    limits.max_burst_size = min(100, max(10, math.ceil(limits.max_dispatches_per_second)))


def _http_request(request: Any) -> None:
    if not request.url:
        raise exceptions.InvalidArgument("HttpRequest.url is required.")
    if not request.url.lower().startswith(("http://", "https://")):
        raise exceptions.InvalidArgument("HttpTarget.url must start with 'http://' or 'https://'.")
    if len(request.url) > MAX_URL_CHARACTERS:
        raise exceptions.InvalidArgument(
            f"HttpRequest.url has {len(request.url)} characters, at most {MAX_URL_CHARACTERS} are allowed."
        )
    request.http_method = request.http_method or HttpMethod.POST
    if request.http_method not in list(HttpMethod):
        raise exceptions.InvalidArgument(f"HttpRequest.http_method {request.http_method} is unknown.")
    if request.body and request.http_method not in _BODY_METHODS:
        raise exceptions.InvalidArgument("HTTP method must be POST, PUT, or PATCH to set HttpRequest.body.")
    _headers(request.headers)
    authorization = request.WhichOneof("authorization_header")
    if authorization:
        email = getattr(request, authorization).service_account_email
        if not _EMAIL.fullmatch(email):
            raise exceptions.InvalidArgument(
                f'HttpRequest.{authorization}.service_account_email must be a service account\'s email, not "{email}".'
            )


def _headers(headers: Any) -> None:
    size = sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
    if size >= MAX_HEADER_BYTES:
        raise exceptions.InvalidArgument(
            f"HttpRequest.headers have {size} bytes, less than {MAX_HEADER_BYTES} are allowed."
        )
    for name, value in list(headers.items()):
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise exceptions.InvalidArgument(f"HttpRequest.headers: {name!r} is not a legal HTTP header.")
        if name.lower() in _OWN_HEADERS or name.lower().startswith(_OWN_PREFIXES):
            del headers[name]  # "ignored or replaced", says the reference
    headers["User-Agent"] = USER_AGENT


def _schedule_us(wanted: Any, now_us: int) -> int:
    if not wanted.HasField("schedule_time"):
        return now_us
    schedule_us = int(wanted.schedule_time.seconds) * 1_000_000 + int(wanted.schedule_time.nanos) // 1000
    if schedule_us > now_us + MAX_SCHEDULE_AHEAD_S * 1_000_000:
        raise exceptions.InvalidArgument(
            "Task.scheduleTime is too far in the future: at most 30 days (2592000s) are allowed."
        )
    return max(schedule_us, now_us)


def _deadline_ms(wanted: Any) -> int:
    if not wanted.HasField("dispatch_deadline"):
        return DEFAULT_DEADLINE_S * 1000
    deadline_s = seconds(wanted.dispatch_deadline)
    if not MIN_DEADLINE_S <= deadline_s <= MAX_DEADLINE_S:
        raise exceptions.InvalidArgument(
            f"Task.dispatchDeadline must be between [{MIN_DEADLINE_S}s, {MAX_DEADLINE_S // 60}m], not {deadline_s:g}s."
        )
    return int(deadline_s * 1000)
