"""What Cloud Workstations refuses about clusters, configs and workstations. Pure.

Every check raises google.api_core's InvalidArgument with the path of the field, or MethodNotImplemented for what the
real service accepts and this emulator does not have.
"""

import re
from collections.abc import Iterable, Mapping

from google.api_core.exceptions import InvalidArgument, MethodNotImplemented
from google.cloud.workstations_v1 import types
from google.protobuf import field_mask_pb2

from infra.emulators.workstations import machines
from infra.emulators.workstations.resources import IMMUTABLE, SETTABLE, Resource, directory
from infra.sandbox.spec import INSIDE_ID, WORKSPACE

AGENT_PORT = 8080  # the only one that a sandbox's socket stands for
DISK_SIZES_GB = (10, 50, 100, 200, 500, 1000)  # PersistentDirectory.GceRegionalPersistentDisk.size_gb
SMALL_DISK_TYPES = ("pd-balanced", "pd-ssd")  # of less than 200 GB: ibid.
LEAST_BOOT_DISK_GB = 30
LABELS_LIMIT = 64  # cloud.google.com/resource-manager/docs/creating-managing-labels#requirements
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_BOOST_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


def violation(field: str, complaint: str) -> InvalidArgument:
    return InvalidArgument(f"Violation in {field}: {complaint}.")


def is_port(port: int) -> bool:
    """Whether any workstation can be reached there: WorkstationConfig.allowed_ports."""
    return port in (22, 80) or 1024 <= port <= 65535


def check_cluster(cluster: types.WorkstationCluster, field: str) -> None:
    _check_labels(cluster.labels, f"{field}.labels")
    _check_absent(
        cluster, ("private_cluster_config", "domain_config", "workstation_authorization_url", "workstation_launch_url"),
        field,
    )  # fmt: skip


def check_config(config: types.WorkstationConfig, field: str) -> None:
    _check_labels(config.labels, f"{field}.labels")
    _check_absent(config, ("encryption_key",), field)
    for name in ("idle_timeout", "running_timeout"):
        seconds = getattr(config, name).total_seconds() if name in config else 0
        if seconds < 0:
            raise violation(f"{field}.{name}", f"must be 0 or more seconds, got {seconds:g}")
    if config.max_usable_workstations < 0:
        raise violation(f"{field}.max_usable_workstations", f"must be 0 or more, got {config.max_usable_workstations}")
    _check_host(config.host.gce_instance, f"{field}.host.gce_instance")
    _check_container(config.container, f"{field}.container")
    _check_directories(config, field)
    for index, check in enumerate(config.readiness_checks):
        path = f"{field}.readiness_checks[{index}]"
        if not is_port(check.port):
            raise violation(f"{path}.port", f"must be 22, 80 or between 1024 and 65535, got {check.port}")
        if check.port != AGENT_PORT:
            raise MethodNotImplemented(f"{path}.port: the emulator asks port {AGENT_PORT} only, got {check.port}")
        if check.path and not check.path.startswith("/"):
            raise violation(f"{path}.path", f"must begin with '/', got '{check.path}'")
    for index, ports in enumerate(config.allowed_ports):
        path = f"{field}.allowed_ports[{index}]"
        whole = ports.first >= 1024 or ports.first == ports.last  # a range cannot begin at 22 and go on
        if not (is_port(ports.first) and is_port(ports.last) and ports.first <= ports.last and whole):
            raise violation(path, f"must be 22, 80 or within the range 1024-65535, got {ports.first}-{ports.last}")


def check_workstation(workstation: types.Workstation, field: str) -> None:
    _check_labels(workstation.labels, f"{field}.labels")
    _check_env(workstation.env, f"{field}.env")
    _check_absent(workstation, ("source_workstation", "persistent_directories"), field)


def check_mask(paths: list[str], current: Resource, wanted: Resource, request: str) -> None:
    """`wanted` is `current` with what the request's mask names."""
    if not paths:
        raise violation(f"{request}.update_mask", "required field not present")
    for path in paths:
        valid = field_mask_pb2.FieldMask(paths=[path]).IsValidForDescriptor(type(current).pb().DESCRIPTOR)
        if path != "*" and not valid:
            raise violation(f"{request}.update_mask", f"'{path}' is not a field of the resource")
        if path != "*" and path.split(".", 1)[0] not in SETTABLE[type(current)]:
            raise violation(f"{request}.update_mask", f"'{path}' cannot be updated")
    for name in IMMUTABLE & set(SETTABLE[type(current)]):
        if getattr(wanted, name) != getattr(current, name):
            raise violation(f"{request}.{name}", "the field is immutable")


def _check_absent(resource: Resource, names: Iterable[str], field: str) -> None:
    for name in names:
        if name in resource:
            raise MethodNotImplemented(f"{field}.{name}: the emulator does not have this")


def _check_labels(labels: Mapping[str, str], field: str) -> None:
    if len(labels) > LABELS_LIMIT:
        raise violation(field, f"at most {LABELS_LIMIT} labels, got {len(labels)}")
    for key, value in labels.items():
        if _LABEL_KEY.fullmatch(key) is None or _LABEL_VALUE.fullmatch(value) is None:
            raise violation(
                field,
                "keys must begin with a lowercase letter; keys and values hold at most 63 lowercase letters, digits, "
                f"'_' and '-', got '{key}': '{value}'",
            )


def _check_env(env: Mapping[str, str], field: str) -> None:
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise violation(field, f"a variable's name must not be empty or contain '=', no NUL, got '{name[:80]}'")


def _check_host(instance: types.WorkstationConfig.Host.GceInstance, field: str) -> None:
    if len(instance.accelerators) > 0:
        raise MethodNotImplemented(f"{field}.accelerators: the emulator has no GPUs")
    _check_machine(instance.machine_type, instance.boot_disk_size_gb, field)
    seen: set[str] = set()
    for index, boost in enumerate(instance.boost_configs):
        path = f"{field}.boost_configs[{index}]"
        if _BOOST_ID.fullmatch(boost.id) is None or boost.id in seen:
            raise violation(f"{path}.id", f"must be an id that no other has, got '{boost.id}'")
        seen.add(boost.id)
        _check_machine(boost.machine_type, boost.boot_disk_size_gb, path)


def _check_machine(machine_type: str, boot_disk_gb: int, field: str) -> None:
    try:
        machines.size(machine_type or machines.DEFAULT)
    except ValueError as exc:
        raise violation(f"{field}.machine_type", str(exc)) from exc
    if boot_disk_gb and boot_disk_gb < LEAST_BOOT_DISK_GB:
        raise violation(f"{field}.boot_disk_size_gb", f"must be at least {LEAST_BOOT_DISK_GB}, got {boot_disk_gb}")


def _check_container(container: types.WorkstationConfig.Container, field: str) -> None:
    _check_env(container.env, f"{field}.env")
    if container.run_as_user not in (0, INSIDE_ID):
        raise MethodNotImplemented(
            f"{field}.run_as_user: the emulator's containers run as {INSIDE_ID}, got {container.run_as_user}"
        )
    if container.working_dir not in ("", WORKSPACE):
        raise MethodNotImplemented(
            f"{field}.working_dir: the emulator's containers begin in {WORKSPACE}, got '{container.working_dir}'"
        )


def _check_directories(config: types.WorkstationConfig, field: str) -> None:
    if len(config.persistent_directories) > 1:
        raise violation(
            f"{field}.persistent_directories", f"may contain only one entry, got {len(config.persistent_directories)}"
        )
    taken: set[str] = set()
    for index, one in enumerate(config.persistent_directories):
        path = f"{field}.persistent_directories[{index}]"
        _check_disk(one, path)
        if one.mount_path:
            _check_mount_path(one.mount_path, taken, path)
    for index, fresh in enumerate(config.ephemeral_directories):
        path = f"{field}.ephemeral_directories[{index}]"
        _check_mount_path(fresh.mount_path, taken, path)
        if fresh.gce_pd.source_snapshot or fresh.gce_pd.source_image:
            raise MethodNotImplemented(f"{path}.gce_pd: the emulator has no snapshots and images of disks")


def _check_disk(described: types.WorkstationConfig.PersistentDirectory, field: str) -> None:
    kind = "gce_hd" if "gce_hd" in described else "gce_pd"
    disk = directory(described)
    if disk.source_snapshot:
        raise MethodNotImplemented(f"{field}.{kind}.source_snapshot: the emulator has no snapshots of disks")
    if disk.size_gb and disk.size_gb not in DISK_SIZES_GB:
        sizes = ", ".join(str(size) for size in DISK_SIZES_GB)
        raise violation(f"{field}.{kind}.size_gb", f"must be one of {sizes}, got {disk.size_gb}")
    if kind == "gce_pd" and 0 < disk.size_gb < 200 and disk.disk_type not in SMALL_DISK_TYPES:
        raise violation(
            f"{field}.{kind}.disk_type",
            f"must be {' or '.join(SMALL_DISK_TYPES)} for less than 200 GB, got '{disk.disk_type or 'pd-standard'}'",
        )


def _check_mount_path(mount_path: str, taken: set[str], field: str) -> None:
    parts = mount_path.split("/")
    if parts[0] or len(parts) < 2 or {"", ".", ".."} & set(parts[1:]):
        raise violation(f"{field}.mount_path", f"must be an absolute path such as /home, got '{mount_path}'")
    if mount_path in taken:
        raise violation(f"{field}.mount_path", f"two directories are mounted at '{mount_path}'")
    taken.add(mount_path)
