"""What a container asks of a sandbox: its variables, mounts, limits, network and startup probe."""

from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from google.cloud.run_v2 import types

from infra.emulators.run.container_rules import DEFAULT_PORT, cpu_of, memory_of, plain_path
from infra.emulators.run.keeper import StartFailed, Wanted
from infra.emulators.run.probe import StartupProbe
from infra.emulators.run.resources import id_of
from infra.sandbox.spec import AGENT_SOCKET, ContainerSpec, Limits, Mount


@dataclass(frozen=True, slots=True)
class Folders:
    """On the host: `buckets`/<bucket> is a bucket, `scratch`/<container>/<volume> an empty_dir volume.

    `filestore`/<server>/<path> is what an NFS server exports: made when it is first mounted, and kept for all who do.
    """

    buckets: Path
    filestore: Path
    scratch: Path


class Holder(Protocol):
    """What holds a container: a revision, an instance, a task."""

    containers: MutableSequence[types.Container]
    volumes: MutableSequence[types.Volume]
    vpc_access: types.VpcAccess


def container_spec(name: str, holder: Holder, env: Mapping[str, str], folders: Folders) -> ContainerSpec:
    """The container `name` of `holder`; `env` is the system's part of its variables.

    Makes folders: call it from a thread. Raises StartFailed: no such bucket.
    """
    container = holder.containers[0]
    return ContainerSpec(
        name=name,
        image=container.image,
        env={**{variable.name: variable.value for variable in container.env}, **env},
        mounts=tuple(_mounts(holder, folders, name)),
        limits=Limits(cpu=float(cpu_of(container)), memory_bytes=memory_of(container)),
        egress=holder.vpc_access.egress != types.VpcAccess.VpcEgress.ALL_TRAFFIC,
        command=(*container.command, *container.args),
    )


def wanted_revision(name: str, service_id: str, revision: types.Revision, folders: Folders) -> Wanted:
    """An empty_dir keeps its files when the container is restarted, and until the service is deleted."""
    revision_id = id_of(revision.name)
    env = {
        **_serving(revision),
        "K_SERVICE": service_id,
        "K_REVISION": revision_id,
        "K_CONFIGURATION": service_id,
        "CLOUD_RUN_TIMEOUT_SECONDS": f"{revision.timeout.total_seconds():.0f}",
    }
    return Wanted(revision_id, container_spec(name, revision, env, folders), _probe(revision.containers[0]))


def wanted_instance(name: str, life: str, instance: types.Instance, folders: Folders) -> Wanted:
    """Restarted when it fails, as cloud.google.com/run/docs/configuring/instances/restart-policy has it by default."""
    spec = container_spec(name, instance, _serving(instance), folders)
    return Wanted(life, spec, _probe(instance.containers[0]), may_end=True)


def wanted_task(name: str, task: types.Task, attempt: int, of: int, folders: Folders) -> ContainerSpec:
    """One attempt, counted from 0, of one of `of` tasks."""
    env = {
        "CLOUD_RUN_JOB": task.job,
        "CLOUD_RUN_EXECUTION": task.execution,
        "CLOUD_RUN_TASK_INDEX": str(task.index),
        "CLOUD_RUN_TASK_ATTEMPT": str(attempt),
        "CLOUD_RUN_TASK_COUNT": str(of),
    }
    return container_spec(name, task, env, folders)


def _serving(holder: Holder) -> dict[str, str]:
    """What a container that answers requests is told."""
    container = holder.containers[0]
    port = container.ports[0].container_port if container.ports else DEFAULT_PORT
    return {"PORT": str(port), "ONMEMOS_AGENT_SOCKET": AGENT_SOCKET}


def _mounts(holder: Holder, folders: Folders, name: str) -> list[Mount]:
    volumes = {volume.name: volume for volume in holder.volumes}
    mounts = []
    for mount in holder.containers[0].volume_mounts:
        volume = volumes[mount.name]
        if "gcs" in volume:
            root = folders.buckets / volume.gcs.bucket
            if not root.is_dir():
                raise StartFailed(f"Mounting Cloud Storage failed: bucket '{volume.gcs.bucket}' does not exist.")
            below = Path(_only_dir(volume.gcs), mount.sub_path)
            read_only = volume.gcs.read_only or "ro" in volume.gcs.mount_options
        elif "nfs" in volume:
            root = folders.filestore / volume.nfs.server
            below = Path(plain_path(volume.nfs.path).lstrip("/"), mount.sub_path)
            read_only = volume.nfs.read_only
        else:
            root, below, read_only = folders.scratch / name / volume.name, Path(mount.sub_path), False
        mounts.append(Mount(_inside(root, below), plain_path(mount.mount_path), read_only))
    return mounts


def _only_dir(gcs: types.GCSVolumeSource) -> str:
    """gcsfuse's option for mounting one folder of the bucket."""
    return next((o.removeprefix("only-dir=").strip("/") for o in gcs.mount_options if o.startswith("only-dir=")), "")


def _inside(root: Path, below: Path) -> Path:
    """The folder, made if need be. A container can leave symbolic links in its volume: none leads out of `root`."""
    folder = (root / below).resolve()
    if not folder.is_relative_to(root.resolve()):
        raise StartFailed(f"Mounting failed: '{below}' leads out of the volume.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _probe(container: types.Container) -> StartupProbe:
    """Without one Cloud Run connects once, for up to 240 s (cloud.google.com/run/docs/configuring/healthchecks).

    The delay before a first probe is not waited for, only added to the time that the container has.
    """
    if "startup_probe" not in container:
        return StartupProbe()
    probe = container.startup_probe
    deadline_s = probe.initial_delay_seconds + (probe.period_seconds or 10) * (probe.failure_threshold or 3)
    if "http_get" not in probe:
        return StartupProbe(deadline_s=deadline_s)
    return StartupProbe(
        path=probe.http_get.path or "/",
        headers=tuple((header.name, header.value) for header in probe.http_get.http_headers),
        timeout_s=probe.timeout_seconds or 1,
        deadline_s=deadline_s,
    )
