"""What Cloud Run refuses about the volumes of a resource. Pure."""

import re
from collections.abc import Sequence

from google.api_core.exceptions import MethodNotImplemented
from google.cloud.run_v2 import types

from infra.emulators.run.rules import DNS_LABEL, violation

_SERVER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def check_volumes(volumes: Sequence[types.Volume], field: str, *, gen1: bool = False) -> None:
    """`gen1`: they are to be mounted in the first generation execution environment."""
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        path = f"{field}[{index}]"
        if DNS_LABEL.fullmatch(volume.name) is None:
            raise violation(
                f"{path}.name", f"must be a lowercase name of letters, digits and hyphens, got {volume.name!r}"
            )
        if volume.name in seen:
            raise violation(f"{path}.name", f"duplicate volume name {volume.name!r}")
        seen.add(volume.name)
        kind = types.Volume.pb(volume).WhichOneof("volume_type")
        if kind is None:
            raise violation(path, "a volume needs a type such as gcs or empty_dir")
        if kind not in {"gcs", "nfs", "empty_dir"}:
            raise MethodNotImplemented(f"{path}.{kind}: the emulator mounts gcs, nfs and empty_dir volumes")
        if kind == "gcs":
            _check_gcs(volume.gcs, gen1, f"{path}.gcs")
        if kind == "nfs":
            _check_nfs(volume.nfs, gen1, f"{path}.nfs")


def _check_gcs(gcs: types.GCSVolumeSource, gen1: bool, path: str) -> None:
    if _BUCKET.fullmatch(gcs.bucket) is None or ".." in gcs.bucket:
        raise violation(f"{path}.bucket", f"must be the name of a bucket, got {gcs.bucket!r}")
    if gen1:
        # cloud.google.com/run/docs/configuring/services/cloud-storage-volume-mounts#limitations
        raise violation(path, "Cloud Storage volumes need the second generation execution environment")
    for option in gcs.mount_options:
        if option.startswith("-"):
            raise violation(f"{path}.mount_options", f"options come without the leading --, got {option!r}")
        if option.startswith("only-dir=") and ".." in option.removeprefix("only-dir=").split("/"):
            raise violation(f"{path}.mount_options", f"only-dir must stay inside the bucket, got {option!r}")


def _check_nfs(nfs: types.NFSVolumeSource, gen1: bool, path: str) -> None:
    if _SERVER.fullmatch(nfs.server) is None:
        raise violation(f"{path}.server", f"must be a host name or an IP address, got {nfs.server!r}")
    if not nfs.path.startswith("/") or ".." in nfs.path.split("/") or "\0" in nfs.path:
        raise violation(f"{path}.path", f"must be an absolute path that the server exports, got {nfs.path!r}")
    if gen1:
        # cloud.google.com/run/docs/configuring/services/nfs-volume-mounts#limitations
        raise violation(path, "NFS volumes need the second generation execution environment")
