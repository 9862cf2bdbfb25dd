"""Resource names of Cloud Run: projects/P/locations/L, services, instances and jobs below it, and what those hold."""

import re
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Self

from google.api_core.exceptions import InvalidArgument

# Ids of projects are 6-30 characters in the cloud; a local project may be shorter. Numbers are project numbers, and a
# prefix "example.com:" marks a domain-scoped project: cloud.google.com/resource-manager/docs/creating-managing-projects
_PROJECT = r"(?:[a-z][a-z0-9.-]*:)?[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?|[0-9]{1,19}"
_ID = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SEGMENTS = {
    "project": _PROJECT,
    "location": _ID,
    "task": r"[a-z](?:[a-z0-9-]{0,78}[a-z0-9])?",  # an execution's id, and -task with the index
}
LOCATION = "projects/{project}/locations/{location}"
WILDCARD = "-"  # in the parent of a list: all of them


@dataclass(frozen=True, slots=True)
class Location:
    project: str
    location: str

    @classmethod
    def parse(cls, name: str, field: str) -> Self:
        """Raises InvalidArgument that names `field`: not of the form, or the wildcard "-" (refused by Cloud Run)."""
        found = _parse(name, LOCATION, field)
        return cls(found["project"], found["location"])

    def service(self, service_id: str) -> "ServiceName":
        return ServiceName(self, service_id)

    def instance(self, instance_id: str) -> "InstanceName":
        return InstanceName(self, instance_id)

    def job(self, job_id: str) -> "JobName":
        return JobName(self, job_id)

    def __str__(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"


@dataclass(frozen=True, slots=True)
class Name:
    """Of a resource that is directly below a location."""

    collection: ClassVar[str]
    parent: Location
    id: str

    @classmethod
    def parse(cls, name: str, field: str) -> Self:
        """Raises InvalidArgument that names `field`."""
        single = cls.collection.removesuffix("s")
        found = _parse(name, f"{LOCATION}/{cls.collection}/{{{single}}}", field)
        return cls(Location(found["project"], found["location"]), found[single])

    def __str__(self) -> str:
        return f"{self.parent}/{self.collection}/{self.id}"


class ServiceName(Name):
    __slots__ = ()
    collection = "services"

    def revision(self, revision_id: str) -> str:
        return f"{self}/revisions/{revision_id}"


class InstanceName(Name):
    __slots__ = ()
    collection = "instances"


class JobName(Name):
    __slots__ = ()
    collection = "jobs"

    def execution(self, execution_id: str) -> str:
        return f"{self}/executions/{execution_id}"


def parse_revision(name: str, field: str) -> tuple[ServiceName, str]:
    """The service and the id of a revision. Raises InvalidArgument that names `field`."""
    found = _parse(name, f"{LOCATION}/services/{{service}}/revisions/{{revision}}", field)
    return Location(found["project"], found["location"]).service(found["service"]), found["revision"]


def parse_execution(name: str, field: str) -> JobName:
    """The job of an execution. Raises InvalidArgument that names `field`."""
    found = _parse(name, f"{LOCATION}/jobs/{{job}}/executions/{{execution}}", field)
    return Location(found["project"], found["location"]).job(found["job"])


def parse_task(name: str, field: str) -> str:
    """The name of a task's execution. Raises InvalidArgument that names `field`."""
    _parse(name, f"{LOCATION}/jobs/{{job}}/executions/{{execution}}/tasks/{{task}}", field)
    return name.split("/tasks/", 1)[0]


def prefix_of_executions(parent: str, field: str) -> str:
    """What names of executions below a job begin with; the job may be "-". Raises InvalidArgument."""
    jobs = parent.removesuffix(f"/jobs/{WILDCARD}")
    if jobs != parent:
        return f"{Location.parse(jobs, field)}/jobs/"
    return f"{JobName.parse(parent, field)}/executions/"


def prefix_of_tasks(parent: str, field: str) -> str:
    """The same for tasks below an execution; it may be "-", and its job too."""
    executions = parent.removesuffix(f"/executions/{WILDCARD}")
    if executions != parent:
        return prefix_of_executions(executions, field)
    parse_execution(parent, field)
    return f"{parent}/tasks/"


@cache
def _pattern(form: str) -> re.Pattern[str]:
    """Of a form such as LOCATION, each {name} of it a group."""
    return re.compile(re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{_SEGMENTS.get(m[1], _ID)})", form))


def _parse(name: str, form: str, field: str) -> dict[str, str]:
    match = _pattern(form).fullmatch(name)
    if match is None:
        raise InvalidArgument(f"Violation in {field}: expected the form '{form}', got '{name}'.")
    return match.groupdict()
