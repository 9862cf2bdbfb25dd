"""Names of Cloud Workstations' resources, and the machines that they run on."""

import pytest
from google.api_core.exceptions import InvalidArgument

from infra.emulators.workstations import machines, names
from infra.emulators.workstations.names import Level

LOCATION = "projects/p-1/locations/us-central1"
CLUSTER = f"{LOCATION}/workstationClusters/c"
CONFIG = f"{CLUSTER}/workstationConfigs/f"
WORKSTATION = f"{CONFIG}/workstations/w"


@pytest.mark.parametrize(
    ("name", "level"),
    [
        (LOCATION, Level.LOCATION),
        (CLUSTER, Level.CLUSTER),
        (CONFIG, Level.CONFIG),
        (WORKSTATION, Level.WORKSTATION),
        ("projects/123/locations/x", Level.LOCATION),
    ],
)
def test_a_name_is_of_its_own_level_only(name: str, level: Level) -> None:
    assert names.parse(name, level, "name") == name
    for other in set(Level) - {level}:
        with pytest.raises(InvalidArgument, match="Violation in name: expected the form 'projects/"):
            names.parse(name, other, "name")


@pytest.mark.parametrize("name", ["", "projects/p", f"{CLUSTER}/", f"{LOCATION}/workstationClusters/C", f"x{CLUSTER}"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        names.parse(name, Level.CLUSTER, "name")


def test_only_a_lists_parent_may_hold_a_hyphen() -> None:
    everywhere = "projects/p-1/locations/-/workstationClusters/-/workstationConfigs/-"
    assert names.parse_parent(everywhere, Level.CONFIG, "parent") == everywhere
    assert names.is_below(WORKSTATION, everywhere)
    assert names.is_below(WORKSTATION, f"{CLUSTER}/workstationConfigs/-")
    assert not names.is_below(WORKSTATION, f"{CLUSTER}/workstationConfigs/g")
    with pytest.raises(InvalidArgument):
        names.parse(everywhere, Level.CONFIG, "parent")
    with pytest.raises(InvalidArgument):
        names.parse_parent("projects/-/locations/-", Level.LOCATION, "parent")


def test_names_are_put_together_and_taken_apart() -> None:
    assert names.child(CONFIG, Level.WORKSTATION, "w") == WORKSTATION
    assert (names.parent_of(WORKSTATION), names.id_of(WORKSTATION)) == (CONFIG, "w")
    assert names.location_of(WORKSTATION) == LOCATION


@pytest.mark.parametrize("given", ["", "1a", "a-", "A", "a_b", "a" * 64])
def test_an_id_that_no_resource_can_have_is_refused(given: str) -> None:
    with pytest.raises(InvalidArgument, match="Violation in workstation_id"):
        names.check_id(given, "workstation_id")
    names.check_id("a" * 63, "workstation_id")


@pytest.mark.parametrize(
    ("machine", "cpu", "gib"),
    [("e2-standard-4", 4, 16), ("n2-highmem-2", 2, 16), ("c2-highcpu-8", 8, 8), ("e2-small", 2, 2)],
)
def test_a_machine_type_says_how_large_it_is(machine: str, cpu: int, gib: int) -> None:
    assert machines.size(machine) == (cpu, gib << 30)


@pytest.mark.parametrize("machine", ["", "e2", "e2-standard", "e2-standard-0", "z9-standard-4", "e2-standard-4x"])
def test_a_machine_that_there_is_not_is_refused(machine: str) -> None:
    with pytest.raises(ValueError, match="must be a machine type"):
        machines.size(machine)


def test_a_sandbox_gets_no_more_than_this_machine_has() -> None:
    small, large = machines.limits("e2-micro"), machines.limits("n2-highmem-128")
    assert small.memory_bytes == min(1 << 30, large.memory_bytes)
    assert large.cpu < 128
    assert large.memory_bytes < 1024 << 30
