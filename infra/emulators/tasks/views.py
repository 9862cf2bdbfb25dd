"""What a client sees of the store: tasks in their two views, and lists in pages."""

import base64
import binascii
from typing import Any

from google.api_core import exceptions

from infra.emulators.tasks.admission import Task
from infra.emulators.tasks.delivery import message_of
from infra.emulators.tasks.storage import StoredTask

MAX_QUEUES_PAGE, MAX_TASKS_PAGE = 9800, 1000  # ListQueuesRequest.page_size, ListTasksRequest.page_size
PAGE_BYTES = 2 * 1024 * 1024  # a gRPC client takes 4 MB by default; a page may be shorter than asked for


def view_of(task: StoredTask, view: int) -> Any:
    """The Task that a client sees; BASIC, the default, leaves out the body."""
    message = message_of(task)
    message.view = view or Task.View.BASIC
    if message.view == Task.View.BASIC:
        message.http_request.ClearField("body")
    message.schedule_time.FromMicroseconds(task.schedule_us)
    message.dispatch_count = task.dispatch_count
    message.response_count = task.response_count
    if task.first_dispatch_us is not None:
        message.first_attempt.dispatch_time.FromMicroseconds(task.first_dispatch_us)
    if task.attempt_schedule_us is not None and task.attempt_dispatch_us is not None:
        message.last_attempt.schedule_time.FromMicroseconds(task.attempt_schedule_us)
        message.last_attempt.dispatch_time.FromMicroseconds(task.attempt_dispatch_us)
    if task.attempt_response_us is not None:
        message.last_attempt.response_time.FromMicroseconds(task.attempt_response_us)
        message.last_attempt.response_status.code = task.attempt_code
        message.last_attempt.response_status.message = task.attempt_message
    return message


def page_size(wanted: int, most: int) -> int:
    if wanted < 0:
        raise exceptions.InvalidArgument(f"page_size must not be negative, not {wanted}.")
    return min(wanted or most, most)


def token_of(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def after(token: str) -> str:
    """The name that a page token stands for. Raises InvalidArgument: it is none of ours."""
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise exceptions.InvalidArgument("page_token is invalid.") from exc
