"""Resource names, quantities and pages: the small pure parts of the Cloud Run emulator."""

from decimal import Decimal

import pytest
from google.api_core.exceptions import InvalidArgument

from infra.emulators.run.container_names import ContainerNames
from infra.emulators.run.names import (
    InstanceName,
    JobName,
    Location,
    ServiceName,
    parse_execution,
    parse_revision,
    parse_task,
    prefix_of_executions,
    prefix_of_tasks,
)
from infra.emulators.run.paging import page
from infra.emulators.run.quantities import parse_quantity

PARENT = "projects/onmemos-local/locations/us-central1"


@pytest.mark.parametrize("parent", [PARENT, "projects/123456/locations/local", "projects/example.com:p1/locations/eu"])
def test_a_legal_parent_is_accepted_whatever_it_is(parent: str) -> None:
    assert str(Location.parse(parent, "parent")) == parent


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "projects/p",
        "projects//locations/x",
        "projects/P/locations/us-central1",
        "projects/p/locations/-",
        "projects/p/locations/US",
        f"{PARENT}/services/a",
        f"{PARENT}/",
        f"{PARENT}\n",
    ],
)
def test_a_malformed_parent_is_refused_with_the_form_wanted(parent: str) -> None:
    with pytest.raises(InvalidArgument, match=r"Violation in F\.parent: expected the form 'projects/\{project\}"):
        Location.parse(parent, "F.parent")


def test_names_of_services_and_revisions_are_taken_apart() -> None:
    name = ServiceName.parse(f"{PARENT}/services/ws-one", "name")

    assert (name.parent.location, name.id, str(name)) == ("us-central1", "ws-one", f"{PARENT}/services/ws-one")
    assert parse_revision(name.revision("ws-one-00001-abc"), "name") == (name, "ws-one-00001-abc")
    with pytest.raises(InvalidArgument):
        ServiceName.parse(f"{PARENT}/services/WS", "name")
    with pytest.raises(InvalidArgument):
        parse_revision(str(name), "name")


def test_names_of_jobs_executions_and_tasks_are_taken_apart() -> None:
    execution = f"{PARENT}/jobs/one/executions/one-abcde"
    assert parse_execution(execution, "name") == JobName.parse(f"{PARENT}/jobs/one", "name")
    assert parse_task(f"{execution}/tasks/one-abcde-task10", "name") == execution
    for wrong in (execution, f"{execution}/tasks/", f"{PARENT}/jobs/-/executions/-/tasks/x", f"{PARENT}/services/one"):
        with pytest.raises(InvalidArgument, match=r"expected the form '.*/tasks/\{task\}'"):
            parse_task(wrong, "name")


def test_lists_of_executions_and_tasks_take_a_hyphen_for_all() -> None:
    assert prefix_of_executions(f"{PARENT}/jobs/one", "parent") == f"{PARENT}/jobs/one/executions/"
    assert prefix_of_executions(f"{PARENT}/jobs/-", "parent") == f"{PARENT}/jobs/"
    assert prefix_of_tasks(f"{PARENT}/jobs/one/executions/a", "parent") == f"{PARENT}/jobs/one/executions/a/tasks/"
    assert prefix_of_tasks(f"{PARENT}/jobs/one/executions/-", "parent") == f"{PARENT}/jobs/one/executions/"
    assert prefix_of_tasks(f"{PARENT}/jobs/-/executions/-", "parent") == f"{PARENT}/jobs/"
    for wrong in ("projects/p/locations/-/jobs/-", f"{PARENT}/jobs/-/executions/a", PARENT):
        with pytest.raises(InvalidArgument):
            prefix_of_tasks(wrong, "parent")


def test_a_container_name_is_one_resources_only() -> None:
    names, parent = ContainerNames(), Location.parse(PARENT, "parent")
    service, instance = parent.service("ws"), parent.instance("ws")
    assert isinstance(instance, InstanceName)
    names.take(names.free(service), str(service))
    other = names.free(instance)
    assert other.startswith("ws-")
    assert (names.owner("ws"), names.owner(other)) == (str(service), "")
    names.give_back("ws")
    assert names.free(instance) == "ws"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", Decimal(1)),
        ("500m", Decimal("0.5")),
        ("0.08", Decimal("0.08")),
        (".5", Decimal("0.5")),
        ("512Mi", Decimal(512 * 2**20)),
        ("1.5Gi", Decimal(1536 * 2**20)),
        ("2G", Decimal(2 * 10**9)),
        ("1e3", Decimal(1000)),
        ("128974848", Decimal(128974848)),
    ],
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str, value: Decimal) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "-1", "1GB", "1gi", "0x1", "1e", "1" * 40, "1e999999"])
def test_what_is_no_quantity_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"quantity|unit"):
        parse_quantity(text)


def test_pages_cover_everything_once() -> None:
    names = [f"n{index:02d}" for index in range(7)]
    seen: list[str] = []
    token = ""
    while True:
        chosen, token = page(list(reversed(names)), 3, token, "R")
        seen += chosen
        if not token:
            break

    assert seen == names
    assert page([], 0, "", "R") == ([], "")


@pytest.mark.parametrize(("size", "token"), [(-1, ""), (0, "?"), (0, "ÿ"), (0, "_-_-")])
def test_a_page_that_cannot_be_is_refused(size: int, token: str) -> None:
    with pytest.raises(InvalidArgument, match=r"Violation in R\.page_"):
        page(["a"], size, token, "R")
