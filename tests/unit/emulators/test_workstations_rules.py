"""What Cloud Workstations' emulator refuses, with the path of the field; and the tokens that it checks."""

import datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from google.api_core.exceptions import InvalidArgument, MethodNotImplemented
from google.cloud.workstations_v1 import types

from infra.emulators.workstations import resources
from infra.emulators.workstations.tokens import ISSUER, AccessTokens, TokenRefused, WrongWorkstation
from infra.emulators.workstations.validation import check_cluster, check_config, check_mask, check_workstation
from tests.fakes import START, Clock


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"idle_timeout": {"seconds": -1}}, "c.idle_timeout"),
        ({"running_timeout": {"seconds": -1}}, "c.running_timeout"),
        ({"max_usable_workstations": -1}, "c.max_usable_workstations"),
        ({"labels": {"Upper": "x"}}, "c.labels"),
        ({"labels": {"a": "Ü"}}, "c.labels"),
        ({"container": {"env": {"A=B": "x"}}}, "c.container.env"),
        ({"host": {"gce_instance": {"machine_type": "huge"}}}, "c.host.gce_instance.machine_type"),
        ({"host": {"gce_instance": {"boot_disk_size_gb": 10}}}, "c.host.gce_instance.boot_disk_size_gb"),
        ({"host": {"gce_instance": {"boost_configs": [{"id": "B"}]}}}, "c.host.gce_instance.boost_configs[0].id"),
        ({"persistent_directories": [{}, {}]}, "c.persistent_directories"),
        ({"persistent_directories": [{"mount_path": "home"}]}, "c.persistent_directories[0].mount_path"),
        ({"persistent_directories": [{"gce_pd": {"size_gb": 11}}]}, "c.persistent_directories[0].gce_pd.size_gb"),
        ({"persistent_directories": [{"gce_pd": {"size_gb": 10}}]}, "c.persistent_directories[0].gce_pd.disk_type"),
        ({"ephemeral_directories": [{"mount_path": "/a/../b"}]}, "c.ephemeral_directories[0].mount_path"),
        ({"ephemeral_directories": [{"mount_path": "/a"}, {"mount_path": "/a"}]}, "c.ephemeral_directories[1]"),
        ({"readiness_checks": [{"port": 23}]}, "c.readiness_checks[0].port"),
        ({"readiness_checks": [{"port": 8080, "path": "x"}]}, "c.readiness_checks[0].path"),
        ({"allowed_ports": [{"first": 80, "last": 8080}]}, "c.allowed_ports[0]"),
        ({"allowed_ports": [{"first": 443, "last": 443}]}, "c.allowed_ports[0]"),
        ({"allowed_ports": [{"first": 9000, "last": 8000}]}, "c.allowed_ports[0]"),
    ],
)
def test_a_config_that_cannot_be_is_refused_with_the_fields_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        check_config(types.WorkstationConfig(fields), "c")
    assert refusal.value.message.startswith(f"Violation in {path}")


@pytest.mark.parametrize(
    "fields",
    [
        {"encryption_key": {"kms_key": "k"}},
        {"host": {"gce_instance": {"accelerators": [{"count": 1}]}}},
        {"container": {"run_as_user": 7}},
        {"container": {"working_dir": "/x"}},
        {"persistent_directories": [{"gce_pd": {"source_snapshot": "s"}}]},
        {"ephemeral_directories": [{"mount_path": "/a", "gce_pd": {"source_image": "i"}}]},
        {"readiness_checks": [{"port": 3000, "path": "/"}]},
    ],
)
def test_what_the_emulator_does_not_have_is_no_silent_difference(fields: dict[str, Any]) -> None:
    with pytest.raises(MethodNotImplemented):
        check_config(types.WorkstationConfig(fields), "c")


def test_what_is_possible_is_not_refused() -> None:
    check_config(
        types.WorkstationConfig(
            {
                "allowed_ports": [{"first": 22, "last": 22}, {"first": 80, "last": 80}, {"first": 1024, "last": 65535}],
                "readiness_checks": [{"port": 8080}],
                "persistent_directories": [{"gce_hd": {"size_gb": 10}, "mount_path": "/home"}],
                "ephemeral_directories": [{"gce_pd": {}, "mount_path": "/scratch"}],
                "container": {"run_as_user": 1000, "working_dir": "/workspace"},
            }
        ),
        "c",
    )
    check_workstation(types.Workstation({"labels": {"a": ""}, "env": {"A": "x=y"}}), "w")
    check_cluster(types.WorkstationCluster({"network": "n", "subnetwork": "s"}), "k")


def test_a_field_that_is_immutable_is_not_changed_by_a_mask() -> None:
    current = types.WorkstationCluster(network="one", display_name="x")
    asked = types.WorkstationCluster(network="two", display_name="y")
    named: types.WorkstationCluster = resources.merged(current, asked, ["display_name"])
    check_mask(["display_name"], current, named, "r")
    moved: types.WorkstationCluster = resources.merged(current, asked, ["network"])
    with pytest.raises(InvalidArgument, match=r"r\.network"):
        check_mask(["network"], current, moved, "r")


def test_every_change_has_an_etag_of_its_own() -> None:
    made = resources.new("n", types.Workstation(labels={"b": "1", "a": "2"}), START)
    again = resources.changed(made, START)
    assert again.etag == made.etag
    assert resources.changed(made, START + datetime.timedelta(seconds=1)).etag != made.etag
    assert made.uid
    assert made.create_time == made.update_time == START


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path, clock: Clock) -> AccessTokens:
    return AccessTokens(tmp_path / "workstations.key", clock)


def test_a_token_opens_one_workstation_until_it_expires(tokens: AccessTokens, clock: Clock) -> None:
    token = tokens.mint("uid-1", START + datetime.timedelta(hours=1))
    tokens.check(token, "uid-1", 8080)
    with pytest.raises(WrongWorkstation):
        tokens.check(token, "uid-2", 8080)
    clock.advance(hours=1)
    with pytest.raises(TokenRefused, match="expired"):
        tokens.check(token, "uid-1", 8080)


def test_a_token_for_a_port_opens_no_other(tokens: AccessTokens) -> None:
    token = tokens.mint("uid-1", START + datetime.timedelta(hours=1), 8080)
    tokens.check(token, "uid-1", 8080)
    with pytest.raises(WrongWorkstation, match="8080"):
        tokens.check(token, "uid-1", 8081)


def test_a_token_that_somebody_else_signed_is_none(tokens: AccessTokens, tmp_path: Path, clock: Clock) -> None:
    claims = {"iss": ISSUER, "aud": "uid-1", "exp": START.timestamp() + 60}
    forged = jwt.encode(claims, "k" * 32, algorithm="HS256")
    unsigned = jwt.encode(claims, "", algorithm="none")
    for token in (forged, unsigned, "", "a.b.c"):
        with pytest.raises(TokenRefused):
            tokens.check(token, "uid-1", 8080)
    again = AccessTokens(tmp_path / "workstations.key", clock)
    again.check(tokens.mint("uid-1", START + datetime.timedelta(hours=1)), "uid-1", 8080)
    assert (tmp_path / "workstations.key").stat().st_mode & 0o777 == 0o600
