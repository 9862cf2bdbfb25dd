"""Clusters, configs and workstations as the API shows them: defaults, masks, etags. Pure; messages are copied.

A resource that is stored never changes in place: each function here returns a new one.
"""

import base64
import datetime
import hashlib
import uuid
from typing import Any, TypeVar

from google.cloud.workstations_v1 import types
from google.protobuf import field_mask_pb2

from infra.emulators.workstations import machines

# Proto-plus enums: members are IntEnum, which its annotations do not say.
State: Any = types.Workstation.State
_Reclaim: Any = types.WorkstationConfig.PersistentDirectory.GceRegionalPersistentDisk.ReclaimPolicy

Resource = TypeVar("Resource", types.WorkstationCluster, types.WorkstationConfig, types.Workstation)

DOMAIN = "cloudworkstations.dev"
DEFAULT_IDLE_S = 1200  # these of WorkstationConfig's own documentation
DEFAULT_RUNNING_S = 43200
DEFAULT_BOOT_DISK_GB = 50
DEFAULT_DISK_GB = 200
DEFAULT_MOUNT_PATH = "/home"
DEFAULT_IMAGE = "us-central1-docker.pkg.dev/cloud-workstations-images/predefined/code-oss:latest"

# What a client may set; everything else is the server's.
SETTABLE: dict[type, tuple[str, ...]] = {
    types.WorkstationCluster: (
        "display_name", "annotations", "labels", "network", "subnetwork", "gateway_config", "tags",
    ),
    types.WorkstationConfig: (
        "display_name", "annotations", "labels", "idle_timeout", "running_timeout", "max_usable_workstations", "host",
        "persistent_directories", "ephemeral_directories", "container", "readiness_checks", "replica_zones",
        "enable_audit_agent", "disable_tcp_connections", "allowed_ports", "grant_workstation_admin_role_on_create",
    ),
    types.Workstation: ("display_name", "annotations", "labels", "env"),
}  # fmt: skip
IMMUTABLE = frozenset({"network", "subnetwork", "tags", "replica_zones"})


def new(name: str, asked: Resource, now: datetime.datetime) -> Resource:
    """The resource as it is once created. `asked` was found valid."""
    made = merged(type(asked)(name=name, uid=str(uuid.uuid4()), create_time=now), asked, ["*"])
    return changed(made, now)


def merged(current: Resource, asked: Resource, paths: list[str]) -> Resource:
    """`current` with the fields of `asked` that `paths` name, all of them for "*"; not valid yet."""
    settable = SETTABLE[type(current)]
    chosen = list(settable) if "*" in paths else [p for p in paths if p.split(".", 1)[0] in settable]
    made = type(current)(current)
    field_mask_pb2.FieldMask(paths=chosen).MergeMessage(
        type(asked).pb(asked), type(made).pb(made), replace_message_field=True, replace_repeated_field=True
    )
    return made


def changed(resource: Resource, now: datetime.datetime) -> Resource:
    """Written at `now`, with the defaults of what is not set, and an etag of its own."""
    made = type(resource)(resource)
    if isinstance(made, types.WorkstationConfig):
        _fill(made)
    made.update_time = now
    made.etag = ""
    digest = hashlib.sha256(type(made).pb(made).SerializeToString(deterministic=True)).digest()
    made.etag = base64.urlsafe_b64encode(digest[:12]).decode()
    return made


def host(workstation_id: str, cluster: types.WorkstationCluster) -> str:
    """Where a workstation is reached, as the cloud names it; the port goes in front: `{port}-{host}`."""
    digest = base64.b32encode(hashlib.sha256(cluster.uid.encode()).digest()).decode().lower()
    return f"{workstation_id}.cluster-{digest[:26]}.{DOMAIN}"


def in_state(workstation: types.Workstation, state: Any, now: datetime.datetime) -> types.Workstation:
    """The workstation in a state that only passes or in which it can stay."""
    made = types.Workstation(workstation)
    made.state = state
    made.reconciling = state in (State.STATE_STARTING, State.STATE_STOPPING)
    return changed(made, now)


def directory(described: types.WorkstationConfig.PersistentDirectory) -> Any:
    """The disk behind a persistent directory: gce_pd or gce_hd."""
    return described.gce_hd if "gce_hd" in described else described.gce_pd


def is_kept(described: types.WorkstationConfig.PersistentDirectory) -> bool:
    """Whether the disk outlives its workstation."""
    return bool(directory(described).reclaim_policy == _Reclaim.RETAIN)


def _fill(config: types.WorkstationConfig) -> None:
    if "idle_timeout" not in config:
        config.idle_timeout = datetime.timedelta(seconds=DEFAULT_IDLE_S)
    if "running_timeout" not in config:
        config.running_timeout = datetime.timedelta(seconds=DEFAULT_RUNNING_S)
    instance = config.host.gce_instance
    instance.machine_type = instance.machine_type or machines.DEFAULT
    instance.boot_disk_size_gb = instance.boot_disk_size_gb or DEFAULT_BOOT_DISK_GB
    for boost in instance.boost_configs:
        boost.machine_type = boost.machine_type or machines.DEFAULT
    config.host.gce_instance = instance
    config.container.image = config.container.image or DEFAULT_IMAGE
    for one in config.persistent_directories:
        one.mount_path = one.mount_path or DEFAULT_MOUNT_PATH
        if "gce_hd" not in one and "gce_pd" not in one:
            one.gce_pd = types.WorkstationConfig.PersistentDirectory.GceRegionalPersistentDisk()
        disk = directory(one)
        disk.size_gb = disk.size_gb or DEFAULT_DISK_GB
        disk.reclaim_policy = disk.reclaim_policy or _Reclaim.DELETE
        if "gce_pd" in one:
            disk.fs_type = disk.fs_type or "ext4"
            disk.disk_type = disk.disk_type or "pd-standard"
