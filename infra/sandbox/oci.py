"""The same list of entries as an OCI bundle: a root folder with the files and links, and a config.json with the mounts.

The format: github.com/opencontainers/runtime-spec, config.md and config-linux.md.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.sandbox.rootfs import Bind, Directory, Entry, File, ReadOnly, Symlink, Tmpfs
from infra.sandbox.spec import INSIDE_ID, WORKSPACE

_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "user")


def write_bundle(
    bundle: Path,
    entries: Iterable[Entry],
    *,
    argv: Sequence[str],
    environment: Mapping[str, str],
    hostname: str,
    host_id: int,
    workdir: str = WORKSPACE,
) -> None:
    """Write the bundle into an empty folder; on the host, the session's user is `host_id`."""
    root = bundle / "rootfs"
    root.mkdir(parents=True)
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
    ]
    covered: list[str] = []
    for entry in entries:
        inside = _on_disk(root, covered, entry.target)
        mount = _mount(entry)
        if mount is not None:
            mounts.append(mount)
            covered.append(entry.target)
            if inside is not None:
                _mount_point(inside, entry)
        elif inside is not None:
            _write(inside, entry)
    for folder in ("proc", "dev"):
        (root / folder).mkdir(exist_ok=True)
    config = {
        "ociVersion": "1.0.0",
        "hostname": hostname,
        "root": {"path": "rootfs", "readonly": True},
        "mounts": mounts,
        "process": {
            "user": {"uid": INSIDE_ID, "gid": INSIDE_ID},
            "args": list(argv),
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": workdir,
            "noNewPrivileges": True,
            "capabilities": {},
        },
        "linux": {
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
            # gVisor's file server works as 0; the session's user is somebody without any right on the host.
            "uidMappings": [_mapped(0, 0), _mapped(INSIDE_ID, host_id)],
            "gidMappings": [_mapped(0, 0), _mapped(INSIDE_ID, host_id)],
        },
    }
    (bundle / "config.json").write_text(json.dumps(config))


def _mapped(inside: int, outside: int) -> dict[str, int]:
    return {"containerID": inside, "hostID": outside, "size": 1}


def _on_disk(root: Path, covered: list[str], target: str) -> Path | None:
    """Where `target` is prepared in the root folder; None below a mount, where it must exist already."""
    if any(target.startswith(f"{outer}/") for outer in covered):
        return None
    path = root / target.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _mount(entry: Entry) -> dict[str, Any] | None:
    match entry:
        case Bind(source=source, target=target, read_only=read_only):
            options = ["rbind", "nosuid", "nodev", "ro" if read_only else "rw"]
            return {"destination": target, "type": "bind", "source": str(Path(source).resolve()), "options": options}
        case Tmpfs(target=target, size_bytes=size, mode=mode):
            options = ["nosuid", "nodev", f"size={size}", f"mode={mode:o}"]
            return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
        case _:
            return None


def _mount_point(path: Path, entry: Entry) -> None:
    if isinstance(entry, Bind) and not Path(entry.source).is_dir():
        path.touch()
    else:
        path.mkdir(exist_ok=True)


def _write(path: Path, entry: Entry) -> None:
    match entry:
        case File(content=content, mode=mode):
            path.write_bytes(content)
            path.chmod(mode)
        case Symlink(to=to):
            path.symlink_to(to)
        case Directory():
            path.mkdir(exist_ok=True)
        case ReadOnly() | Bind() | Tmpfs():
            pass
