"""Which names of queues and tasks Cloud Tasks takes."""

import pytest
from google.api_core import exceptions

from infra.emulators.tasks import names

QUEUE = "projects/my-project/locations/us-central1/queues/q"


@pytest.mark.parametrize("project", ["my-project", "example.com:my-project", "p1"])
def test_projects_may_carry_a_domain(project: str) -> None:
    name = f"projects/{project}/locations/europe-west1/queues/a-B-9"
    assert names.queue(name) == name
    assert names.location(f"projects/{project}/locations/europe-west1")


@pytest.mark.parametrize("id_", ["a", "A-b_9", "x" * 500, "-", "_"])
def test_task_ids_have_letters_digits_hyphens_and_underscores(id_: str) -> None:
    name = names.task(f"{QUEUE}/tasks/{id_}")
    assert (name.queue, name.id, str(name)) == (QUEUE, id_, f"{QUEUE}/tasks/{id_}")


@pytest.mark.parametrize("id_", ["", "a b", "ä", "x" * 501, "a/b", "a.b", "a\n", "a:b"])
def test_other_task_ids_are_invalid(id_: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="Task ID"):
        names.task(f"{QUEUE}/tasks/{id_}")


@pytest.mark.parametrize("id_", ["", "a_b", "x" * 101, "a.b", "ä", "q\n"])
def test_other_queue_ids_are_invalid(id_: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="Queue ID"):
        names.queue(f"projects/p/locations/l/queues/{id_}")


@pytest.mark.parametrize(
    "name", ["", "q", "projects/p/queues/q", f"{QUEUE}/", f"/{QUEUE}", "projects//locations/l/queues/q"]
)
def test_what_is_not_a_queues_name_is_invalid(name: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="Queue name must be formatted"):
        names.queue(name)


@pytest.mark.parametrize("name", ["", "t", QUEUE, f"{QUEUE}/tasks"])
def test_what_is_not_a_tasks_name_is_invalid(name: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="Task name must be formatted"):
        names.task(name)


@pytest.mark.parametrize("parent", ["", "projects/p", "projects/p/locations/", QUEUE])
def test_what_is_not_a_locations_name_is_invalid(parent: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="Location name must be formatted"):
        names.location(parent)


def test_a_task_without_a_name_gets_a_random_one() -> None:
    first, second = names.within(QUEUE, ""), names.within(QUEUE, "")
    assert first != second
    assert names.task(str(first)) == first


def test_a_task_must_be_named_within_its_queue() -> None:
    with pytest.raises(exceptions.InvalidArgument, match=r"must be the same as the queue name in the named task"):
        names.within(QUEUE, f"{QUEUE}-other/tasks/t")
