"""What Cloud Run refuses about a service, case by case."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core.exceptions import InvalidArgument, MethodNotImplemented
from google.cloud.run_v2 import types

from infra.emulators.run.service_rules import check_service, check_service_id

FIELD = "CreateServiceRequest.service"
Asked = dict[str, Any]

VALID: Asked = {
    "labels": {"onmemos": "session", "team": ""},
    "annotations": {"onmemos.dev/session": "ws-1"},
    "template": {
        "containers": [
            {
                "image": "us-docker.pkg.dev/onmemos/agent/python:3",
                "env": [{"name": "WORKSPACE_ID", "value": "ws-1"}],
                "ports": [{"name": "http1", "container_port": 8080}],
                "resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "cpu_idle": False},
                "volume_mounts": [{"name": "files", "mount_path": "/bucket"}],
                "startup_probe": {"http_get": {"path": "/health"}},
            }
        ],
        "volumes": [{"name": "files", "gcs": {"bucket": "a-bucket", "mount_options": ["only-dir=ws"]}}],
        "scaling": {"min_instance_count": 1, "max_instance_count": 1},
        "service_account": "runner@onmemos-local.iam.gserviceaccount.com",
        "timeout": {"seconds": 3600},
        "max_instance_request_concurrency": 1000,
    },
}


def check(asked: Asked) -> None:
    check_service(types.Service(asked), "ws-one", FIELD)


def changed(*steps: tuple[str, Any]) -> Asked:
    """VALID with values set at paths; "container." stands for the template's container."""
    asked = copy.deepcopy(VALID)
    for path, value in steps:
        *parents, last = path.split(".")
        place: Any = asked
        for parent in parents:
            place = place["template"]["containers"][0] if parent == "container" else place.setdefault(parent, {})
        place[last] = value
    return asked


def limits(cpu: str, memory: str, **more: Any) -> tuple[str, Any]:
    return ("container.resources", {"limits": {"cpu": cpu, "memory": memory}, **more})


def nfs(server: str, path: str) -> tuple[str, Any]:
    return ("template.volumes", [{"name": "files", "nfs": {"server": server, "path": path}}])


def mounts(*paths: str, name: str = "files") -> tuple[str, Any]:
    return ("container.volume_mounts", [{"name": name, "mount_path": path} for path in paths])


def test_what_the_control_plane_asks_for_is_valid() -> None:
    check(VALID)


@pytest.mark.parametrize(
    "asked",
    [
        changed(limits("2", "8Gi")),
        changed(limits("4", "2Gi")),
        changed(limits("8", "32Gi")),
        changed(limits("1000m", "128Mi")),
        changed(limits("0.5", "1Gi", cpu_idle=True), ("template.max_instance_request_concurrency", 1)),
        changed(limits("80m", "512Mi", cpu_idle=True), ("template.max_instance_request_concurrency", 0)),
        changed(("container.resources", {"cpu_idle": True})),
        changed(("container.ports", [])),
        changed(("container.image", "nginx")),
        changed(("container.image", "localhost:5000/a/b@sha256:" + "0" * 64)),
        changed(("container.env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}])),
        changed(("labels", {"größe": "klein", "名": "字"})),
        changed(("labels", {f"k{n}": "v" for n in range(64)})),
        changed(("template.scaling", {"min_instance_count": 0})),
        changed(("template.revision", "ws-one-first")),
        changed(mounts("/a", "/a/b")),
    ],
)
def test_it_is_accepted(asked: Asked) -> None:
    check(asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, r"service\.template: required field not present"),
        (changed(("template.containers", [])), r"template\.containers: required field not present"),
        (changed(("description", "x" * 513)), r"description: at most 512 characters, got 513"),
        (changed(("container.image", "")), r"containers\[0\]\.image: required"),
        (changed(("container.image", "Not An Image")), "Expected an image path like"),
        (changed(("container.ports", [{"container_port": 1}, {"container_port": 2}])), "should contain 0 or 1 port"),
        (changed(("container.ports", [{"container_port": 70000}])), "between 1 and 65535, got 70000"),
        (changed(("container.ports", [{"name": "tcp", "container_port": 80}])), "must be http1 or h2c"),
    ],
)
def test_a_container_that_is_none_is_refused(asked: Asked, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check(asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (changed(limits("3", "1Gi")), r"Must be 1, 2, 4, 6, 8 or between 0\.08 and 1, got 3"),
        (changed(limits("0.07", "256Mi")), "between 0.08 and 1, got 0.07"),
        (changed(limits("16", "32Gi")), "Invalid value specified for cpu"),
        (changed(limits("many", "1Gi")), "Invalid value specified for cpu: 'many' is not a quantity"),
        (changed(limits("1", "lots")), "Invalid value specified for memory: 'lots' is not a quantity"),
        (changed(limits("1", "5Gi")), "For 1 CPU, memory must be between 128Mi and 4Gi inclusive"),
        (changed(limits("1", "64Mi")), "For 1 CPU, memory must be between 128Mi and 4Gi inclusive"),
        (changed(limits("4", "1Gi")), "For 4 CPU, memory must be between 2Gi and 16Gi inclusive"),
        (
            changed(limits("1", "256Mi"), ("template.execution_environment", "EXECUTION_ENVIRONMENT_GEN2")),
            "memory with gen2 execution environment. For 1 CPU, memory must be between 512Mi and 4Gi inclusive",
        ),
        (
            changed(limits("0.3", "1Gi", cpu_idle=True), ("template.max_instance_request_concurrency", 1)),
            "For 0.3 CPU, memory must be between 128Mi and 512Mi inclusive",
        ),
        (changed(limits("0.5", "512Mi", cpu_idle=True)), "cpu < 1 is not supported with concurrency > 1"),
        (
            changed(limits("0.5", "512Mi"), ("template.max_instance_request_concurrency", 1)),
            "cpu < 1 is not supported with cpu always allocated",
        ),
        (changed(("container.resources", {"limits": {"disk": "1Gi"}})), "only memory, cpu and nvidia.com/gpu"),
    ],
)
def test_resources_that_do_not_go_together_are_refused(asked: Asked, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check(asked)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ([{"name": "PORT", "value": "1"}], "The following reserved env names were provided: PORT"),
        ([{"name": "K_SERVICE"}, {"name": "K_REVISION"}], "provided: K_REVISION, K_SERVICE"),
        ([{"name": ""}], "must not be empty"),
        ([{"name": "A=B"}], "got 'A=B'"),
        ([{"name": "X_GOOGLE_A"}], "begin with X_GOOGLE_"),
        ([{"name": "A", "value": "x" * 32769}], "at most 32768 bytes without NUL, got 32769 bytes"),
        ([{"name": f"A{n}"} for n in range(1001)], "at most 1000 variables, got 1001"),
    ],
)
def test_variables_that_the_system_cannot_set_are_refused(env: list[dict[str, str]], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check(changed(("container.env", env)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"Team": "a"}, "a key is a lowercase letter"),
        ({"1team": "a"}, "a key is a lowercase letter"),
        ({"": "a"}, "a key is a lowercase letter"),
        ({"a" * 64: "a"}, "63 characters at most"),
        ({"team": "Blue"}, "got 'Blue'"),
        ({"team": "a" * 64}, "63 characters at most"),
        ({f"k{n}": "v" for n in range(65)}, "at most 64 labels, got 65"),
        ({"run.googleapis.com/x": "a"}, "run.googleapis.com is reserved"),
        ({"cloud.googleapis.com/location": "a"}, "cloud.googleapis.com is reserved"),
        ({"serving.knative.dev/x": "a"}, "serving.knative.dev is reserved"),
    ],
)
@pytest.mark.parametrize("where", ["labels", "template.labels"])
def test_labels_that_google_cloud_refuses_are_refused(where: str, labels: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check(changed((where, labels)))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (changed(("annotations", {"autoscaling.knative.dev/maxScale": "1"})), "autoscaling.knative.dev is reserved"),
        (changed(("annotations", {"a b": "1"})), "a key is"),
        (changed(("annotations", {"a": "x" * 262144})), "at most 262144 bytes in all, got 262145"),
        (changed(("template.scaling", {"min_instance_count": 2, "max_instance_count": 1})), r"\(1\), got 2"),
        (changed(("template.scaling", {"min_instance_count": -1})), "greater than or equal to 0, got -1"),
        (changed(("scaling", {"min_instance_count": -1})), r"service\.scaling\.min_instance_count"),
        (changed(("template.timeout", {"seconds": 3601})), "between 0 and 3600 seconds, got 3601 seconds"),
        (changed(("template.max_instance_request_concurrency", 1001)), "between 0 and 1000, got 1001"),
        (changed(("template.max_instance_request_concurrency", -1)), "between 0 and 1000, got -1"),
        (changed(("template.service_account", "nobody")), "must be the email of a service account"),
        (changed(("template.revision", "other-1")), "must be prefixed by 'ws-one-'"),
    ],
)
def test_settings_out_of_range_are_refused(asked: Asked, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check(asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (changed(mounts("/a", name="other")), "no volume is named 'other'"),
        (changed(mounts("/a", "/a/")), "duplicate mount path '/a/'"),
        (changed(mounts("a")), "must be an absolute path"),
        (changed(mounts("/a:b")), "without ':'"),
        (changed(mounts("/a/../b")), "must be an absolute path"),
        (changed(mounts("/")), "'/' is reserved"),
        (changed(mounts("/proc/x")), "'/proc/x' is reserved"),
        (changed(("template.volumes", [{"name": "files", "empty_dir": {}}] * 2)), "duplicate volume name 'files'"),
        (changed(("template.volumes", [{"name": "files"}])), "a volume needs a type"),
        (changed(("template.volumes", [{"name": "Files", "empty_dir": {}}])), "must be a lowercase name"),
        (
            changed(("template.volumes", [{"name": "files", "gcs": {"bucket": "../up"}}])),
            "must be the name of a bucket",
        ),
        (
            changed(
                ("template.volumes", [{"name": "files", "gcs": {"bucket": "a-b", "mount_options": ["only-dir=../x"]}}])
            ),
            "only-dir must stay inside",
        ),
        (
            changed(("template.execution_environment", "EXECUTION_ENVIRONMENT_GEN1")),
            "need the second generation execution environment",
        ),
        (changed(nfs("10.0.0.2", "share")), r"volumes\[0\].nfs.path: must be an absolute path"),
        (changed(nfs("10.0.0.2", "")), "must be an absolute path"),
        (changed(nfs("10.0.0.2", "/a/../b")), "must be an absolute path"),
        (changed(nfs("", "/share")), r"volumes\[0\].nfs.server: must be a host name or an IP address"),
        (changed(nfs("../up", "/share")), "must be a host name or an IP address"),
        (
            changed(nfs("10.0.0.2", "/share"), ("template.execution_environment", "EXECUTION_ENVIRONMENT_GEN1")),
            "NFS volumes need the second generation execution environment",
        ),
    ],
)
def test_mounts_that_cannot_be_are_refused(asked: Asked, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check(asked)


@pytest.mark.parametrize("asked", [changed(nfs("10.0.0.2", "/share/a")), changed(nfs("nfs.internal", "/"))])
def test_nfs_exports_are_taken(asked: Asked) -> None:
    check(asked)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ({"period_seconds": 5}, "one of http_get, tcp_socket and grpc is required"),
        ({"tcp_socket": {}, "period_seconds": 241}, "period_seconds: must be between 1 and 240, got 241"),
        ({"tcp_socket": {}, "period_seconds": 2, "timeout_seconds": 3}, "between 1 and 2, got 3"),
        ({"tcp_socket": {}, "period_seconds": 10, "failure_threshold": 25}, "between 1 and 24, got 25"),
        ({"tcp_socket": {}, "initial_delay_seconds": 241}, "between 0 and 240, got 241"),
        ({"http_get": {"path": "health"}}, "must begin with '/'"),
    ],
)
def test_probes_that_cannot_succeed_are_refused(probe: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check(changed(("container.startup_probe", probe)))


def _sidecar() -> Asked:
    asked = changed()
    asked["template"]["containers"].append({"image": "nginx"})
    return asked


@pytest.mark.parametrize(
    "asked",
    [
        _sidecar(),
        changed(("container.startup_probe", {"grpc": {}})),
        changed(("template.volumes", [{"name": "files", "secret": {"secret": "s"}}])),
        changed(("container.env", [{"name": "A", "value_source": {"secret_key_ref": {"secret": "s"}}}])),
        changed(("container.resources", {"limits": {"nvidia.com/gpu": "1"}})),
    ],
)
def test_what_only_the_cloud_has_is_unimplemented_not_wrong(asked: Asked) -> None:
    with pytest.raises(MethodNotImplemented):
        check(asked)


@pytest.mark.parametrize("service_id", ["a", "ws-one", "a" + "b" * 48, "a--b"])
def test_a_service_id_is_accepted(service_id: str) -> None:
    check_service_id(service_id, "CreateServiceRequest.service_id")


@pytest.mark.parametrize("service_id", ["", "A", "1a", "-a", "a-", "a_b", "a.b", "a" + "b" * 49, "ä", "a\n"])
def test_a_service_id_is_refused(service_id: str) -> None:
    check: Callable[[], None] = lambda: check_service_id(service_id, "CreateServiceRequest.service_id")  # noqa: E731
    with pytest.raises(InvalidArgument, match="must be less than 50 characters"):
        check()
