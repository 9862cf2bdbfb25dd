"""The volumes of a Pod as folders of this machine, and where a container sees them."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from infra.emulators.kubernetes.kinds import CONFIG_MAPS, PERSISTENT_VOLUME_CLAIMS, SECRETS, Kind
from infra.emulators.kubernetes.objects import Objects
from infra.emulators.kubernetes.pod_env import ConfigMissing, expanded, field_of, keys_of, resource_of
from infra.emulators.kubernetes.statuses import NotFound
from infra.emulators.run.specs import Folders
from infra.sandbox.spec import Mount

Object = dict[str, Any]
GCS_FUSE: Final = "gcsfuse.csi.storage.gke.io"
_WRITTEN: Final = ("secret", "configMap", "downwardAPI", "projected")  # by the kubelet, and read-only
TokenMaker = Callable[[str, str, list[str], int], str]  # namespace, service account, audiences, seconds


class NotMounted(Exception):
    """What a Pod needs is not there yet; the message and the reason of the event are the kubelet's."""

    def __init__(self, message: str, reason: str = "FailedMount") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Volumes:
    """`volumes`/<PersistentVolume> holds the files of a claim, until the claim goes; what a Pod has for itself is in
    folders.scratch/<uid>, and goes with it."""

    objects: Objects
    folders: Folders
    volumes: Path
    allocatable: Mapping[str, Decimal]
    token: TokenMaker

    def put_up(self, pod: Object) -> dict[str, Path]:
        """The folder of each volume. Blocks. Raises NotMounted."""
        return {volume["name"]: self._folder(pod, volume) for volume in pod["spec"].get("volumes") or ()}

    def take_down(self, uid: str) -> None:
        shutil.rmtree(self.folders.scratch / uid, ignore_errors=True)

    def mounts(
        self, pod: Object, container: Object, put_up: Mapping[str, Path], env: Mapping[str, str]
    ) -> Iterator[Mount]:
        """Raises ConfigMissing: a subPath that leads out of its volume, or to a file that is not there."""
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        for mount in sorted(container.get("volumeMounts") or (), key=lambda one: one["mountPath"].count("/")):
            volume = volumes[mount["name"]]
            root = put_up[mount["name"]]
            written = any(kind in volume for kind in _WRITTEN)
            below = mount.get("subPath") or expanded(mount.get("subPathExpr") or "", env)
            source = _inside(root, below, make=not written)
            read_only = bool(mount.get("readOnly")) or written or _is_read_only(volume)
            yield Mount(source, _place(mount["mountPath"]), read_only)

    def _folder(self, pod: Object, volume: Object) -> Path:
        name, namespace = volume["name"], pod["metadata"]["namespace"]
        own: Path = self.folders.scratch / pod["metadata"]["uid"] / name
        if claim := volume.get("persistentVolumeClaim"):
            return self._claimed(namespace, claim["claimName"])
        if "ephemeral" in volume:
            return self._claimed(namespace, f"{pod['metadata']['name']}-{name}")
        if nfs := volume.get("nfs"):
            return _made(self.folders.filestore / nfs["server"], nfs["path"].strip("/"), name)
        if csi := volume.get("csi"):
            return self._bucket(name, csi)
        if any(kind in volume for kind in _WRITTEN):
            try:
                files = dict(self._files(pod, volume))
            except ConfigMissing as exc:
                raise NotMounted(f'MountVolume.SetUp failed for volume "{name}" : {exc}') from exc
            _write(own, files)
            return own
        if "emptyDir" in volume or set(volume) == {"name"}:
            own.mkdir(parents=True, exist_ok=True)
            return own
        kind = next(key for key in volume if key != "name")
        raise NotMounted(f'MountVolume.SetUp failed for volume "{name}" : volumes of kind {kind} are not served here')

    def _claimed(self, namespace: str, claim_name: str) -> Path:
        try:
            claim = self.objects.get(PERSISTENT_VOLUME_CLAIMS, namespace, claim_name)
        except NotFound as exc:
            raise NotMounted(f'persistentvolumeclaim "{claim_name}" not found') from exc
        volume = claim["spec"].get("volumeName")
        if not volume or claim.get("status", {}).get("phase") != "Bound":
            raise NotMounted(f'persistentvolumeclaim "{claim_name}" is not bound')
        folder: Path = self.volumes / volume
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _bucket(self, name: str, csi: Object) -> Path:
        attributes = csi.get("volumeAttributes") or {}
        if csi["driver"] != GCS_FUSE:
            raise NotMounted(
                f'MountVolume.SetUp failed for volume "{name}" : kubernetes.io/csi: mounter.SetUpAt failed to get CSI '
                f"client: driver name {csi['driver']} not found in the list of registered CSI drivers"
            )
        bucket = attributes.get("bucketName", "")
        root = self.folders.buckets / bucket
        if not bucket or "/" in bucket or bucket.startswith(".") or not root.is_dir():
            raise NotMounted(
                f'MountVolume.SetUp failed for volume "{name}" : rpc error: code = NotFound desc = failed to get GCS '
                f'bucket "{bucket}": storage: bucket doesn\'t exist'
            )
        options = gcs_options(csi)
        below = next((o.removeprefix("only-dir=").strip("/") for o in options if o.startswith("only-dir=")), "")
        folder: Path = _made(root, below, name)
        return folder

    def _files(self, pod: Object, volume: Object) -> Iterator[tuple[str, bytes]]:
        namespace = pod["metadata"]["namespace"]
        if "projected" in volume:
            for source in volume["projected"].get("sources") or ():
                yield from self._projected(pod, source)
        elif secret := volume.get("secret"):
            yield from self._kept(namespace, secret, secret.get("secretName", ""), secret=True)
        elif config := volume.get("configMap"):
            yield from self._kept(namespace, config, config.get("name", ""), secret=False)
        else:
            yield from self._downward(pod, volume["downwardAPI"])

    def _projected(self, pod: Object, source: Object) -> Iterator[tuple[str, bytes]]:
        namespace = pod["metadata"]["namespace"]
        if secret := source.get("secret"):
            yield from self._kept(namespace, secret, secret.get("name", ""), secret=True)
        if config := source.get("configMap"):
            yield from self._kept(namespace, config, config.get("name", ""), secret=False)
        if "downwardAPI" in source:
            yield from self._downward(pod, source["downwardAPI"])
        if wanted := source.get("serviceAccountToken"):
            audiences = [wanted["audience"]] if wanted.get("audience") else []
            account = pod["spec"].get("serviceAccountName") or "default"
            try:
                token = self.token(namespace, account, audiences, int(wanted.get("expirationSeconds") or 3600))
            except NotFound as exc:
                raise ConfigMissing(f"failed to fetch token: {exc}") from exc
            yield wanted["path"], token.encode()

    def _kept(self, namespace: str, source: Object, name: str, *, secret: bool) -> Iterator[tuple[str, bytes]]:
        kind, optional = SECRETS if secret else CONFIG_MAPS, bool(source.get("optional"))
        values = keys_of(self.objects, kind, namespace, name, optional=optional)
        if not source.get("items"):
            yield from values.items()
            return
        for item in source["items"]:
            if item["key"] in values:
                yield item["path"], values[item["key"]]
            elif not optional:
                raise ConfigMissing(f"references non-existent {kind.kind.lower()} key: {item['key']}")

    def _downward(self, pod: Object, source: Object) -> Iterator[tuple[str, bytes]]:
        for item in source.get("items") or ():
            if field := item.get("fieldRef"):
                yield item["path"], field_of(pod, field["fieldPath"]).encode()
            elif resource := item.get("resourceFieldRef"):
                yield item["path"], resource_of(pod, {}, resource, self.allocatable).encode()


def mounts_files_of(pod: Object, kind: Kind, metadata: Object) -> bool:
    """Whether a volume of the Pod shows that Secret or ConfigMap."""
    if pod["metadata"]["namespace"] != metadata["namespace"]:
        return False
    volumes = pod["spec"].get("volumes") or ()
    sources = [*volumes, *(one for volume in volumes for one in (volume.get("projected") or {}).get("sources") or ())]
    field = "secret" if kind is SECRETS else "configMap"
    shown = [source[field] for source in sources if source.get(field)]
    return any(metadata["name"] in (one.get("name"), one.get("secretName")) for one in shown)


def gcs_options(csi: Object) -> list[str]:
    return [option.strip() for option in str((csi.get("volumeAttributes") or {}).get("mountOptions", "")).split(",")]


def _is_read_only(volume: Object) -> bool:
    for kind in ("nfs", "persistentVolumeClaim", "csi"):
        if (volume.get(kind) or {}).get("readOnly"):
            return True
    return "csi" in volume and "ro" in gcs_options(volume["csi"])


def _made(root: Path, below: str, name: str) -> Path:
    try:
        return _inside(root, below, make=True)
    except ConfigMissing as exc:
        raise NotMounted(f'MountVolume.SetUp failed for volume "{name}" : {exc}') from exc


def _inside(root: Path, below: str, *, make: bool) -> Path:
    """A container can leave symbolic links in its volume: none leads out of `root`. Raises ConfigMissing."""
    try:
        place = (root / below).resolve()
        if not place.is_relative_to(root.resolve()):
            raise ConfigMissing(f"failed to prepare subPath: {below} leads out of the volume")
        if make and not place.exists():
            place.mkdir(parents=True)
    except (OSError, RuntimeError) as exc:  # a file where a folder should be, links in a circle
        raise ConfigMissing(f"failed to prepare subPath: {below}: {exc}") from exc
    if not place.exists():
        raise ConfigMissing(f"failed to prepare subPath: {below}: no such file or directory")
    return place


def _place(path: str) -> str:
    """/var/run is a link to /run in every container here, and a mount goes where links lead."""
    plain = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    return plain.removeprefix("/var") if plain.startswith("/var/run/") else plain


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """What is there already is replaced, and what is no longer in `files` goes."""
    for path in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
        if path.is_file() and str(path.relative_to(folder)) not in files:
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()) and path != folder.resolve():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_bytes() != content:
                draft = path.with_name(
                    f".{path.name}.new"
                )  # whoever reads meanwhile sees the whole of one or the other
                draft.write_bytes(content)
                draft.replace(path)
