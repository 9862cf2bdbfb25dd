"""Resource names of Cloud Tasks: projects/P/locations/L/queues/Q/tasks/T, checked as the real service checks them."""

import re
import secrets
from dataclasses import dataclass

from google.api_core import exceptions

_LOCATION = re.compile(r"projects/[A-Za-z0-9.:-]+/locations/[A-Za-z0-9-]+")
_QUEUE = re.compile(_LOCATION.pattern + r"/queues/([^/]*)")
_TASK = re.compile(r"(?P<queue>" + _LOCATION.pattern + r"/queues/[^/]*)/tasks/(?P<id>.*)", re.DOTALL)
_QUEUE_ID = re.compile(r"[A-Za-z0-9-]{1,100}")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")


@dataclass(frozen=True, slots=True)
class TaskName:
    """A task's name in its two parts; `str()` gives the whole."""

    queue: str
    id: str

    def __str__(self) -> str:
        return f"{self.queue}/tasks/{self.id}"


def location(parent: str) -> str:
    """`parent` itself. Raises InvalidArgument: not projects/P/locations/L."""
    if not _LOCATION.fullmatch(parent):
        raise exceptions.InvalidArgument(
            f'Location name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>", not "{parent}".'
        )
    return parent


def queue(name: str) -> str:
    """`name` itself. Raises InvalidArgument: not a queue's name, or its id is not 1 to 100 of [A-Za-z0-9-]."""
    parts = _QUEUE.fullmatch(name)
    if parts is None:
        raise exceptions.InvalidArgument(
            'Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".'
        )
    if not _QUEUE_ID.fullmatch(parts.group(1)):
        raise exceptions.InvalidArgument(
            f'Queue ID "{parts.group(1)}" can contain only letters ([A-Za-z]), numbers ([0-9]), or hyphens (-). '
            "Queue ID must be between 1 and 100 characters."
        )
    return name


def task(name: str) -> TaskName:
    """Split a task's name. Raises InvalidArgument: not a task's name, or its id is not 1 to 500 of [A-Za-z0-9_-]."""
    parts = _TASK.fullmatch(name)
    if parts is None:
        raise exceptions.InvalidArgument(
            'Task name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>'
            '/tasks/<TASK_ID>".'
        )
    if not _TASK_ID.fullmatch(parts["id"]):
        raise exceptions.InvalidArgument(
            f'Task ID "{parts["id"]}" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or '
            "underscores (_). Task ID must between 1 and 500 characters."
        )
    return TaskName(queue(parts["queue"]), parts["id"])


def within(parent: str, wanted: str) -> TaskName:
    """The name of a task to be created in queue `parent`: `wanted`, or a random one where it is empty.

    Raises InvalidArgument: `wanted` is no task's name, or names another queue.
    """
    if not wanted:
        return TaskName(parent, str(secrets.randbelow(9 * 10**18) + 10**18))
    name = task(wanted)
    if name.queue != parent:
        raise exceptions.InvalidArgument(
            f"The queue name from request ('{parent}') must be the same as the queue name in the named task "
            f"('{name.queue}')."
        )
    return name
