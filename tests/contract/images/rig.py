"""The agent's folder as images have it, put together here, and a container in which it is the image's entry point."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox import bwrap
from infra.workspace import assemble

PROGRAMS = Path("/opt/onmemos/bin")
_STANDARD_LIBRARY = Path(os.__file__).parent


def relocatable_python(folder: Path) -> Path:
    """This machine's Python in the form that python-build-standalone's have."""
    base = Path(sys.base_prefix)
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    shutil.copy(Path(getattr(sys, "_base_executable", sys.executable)).resolve(), folder / "bin" / name)
    (folder / "lib" / name).symlink_to(_STANDARD_LIBRARY)
    for library in base.glob("lib/libpython*.so.1.0"):
        shutil.copy(library, folder / "lib" / library.name)
    return folder


@dataclass(frozen=True, slots=True)
class Root:
    """`agent` is what images have at /opt/onmemos; `workspace` and `sockets` are the session's."""

    agent: Path
    workspace: Path
    sockets: Path

    def command(self, *words: str, env: Mapping[str, str], as_root: bool = False) -> list[str]:
        """In a container with processes of its own, where what the words start is pid 1 and has no other variables."""
        options = [
            *(("--cap-add", "ALL") if as_root else ("--unshare-user", "--uid", "1000", "--gid", "1000")),
            "--unshare-pid", "--unshare-ipc", "--unshare-net", "--as-pid-1", "--die-with-parent", "--clearenv",
            *(word for name, value in env.items() for word in ("--setenv", name, value)),
            *self._system(),
            # Else bubblewrap makes them closed to all but root.
            *(word for folder in ("/opt", "/run") for word in ("--perms", "0755", "--dir", folder)),
            "--ro-bind", str(self.agent), "/opt/onmemos",
            "--bind", str(self.workspace), "/workspace",
            "--bind", str(self.sockets), "/run/onmemos",
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--remount-ro", "/",
        ]  # fmt: skip
        return [str(bwrap.find().path), *options, "--", *words]

    def _system(self) -> list[str]:
        """The C library and a shell, as every image has them."""
        words = ["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
        for name in ("bin", "sbin", "lib", "lib64"):
            path = Path("/", name)
            if path.is_symlink():
                words += ["--symlink", str(path.readlink()), f"/{name}"]
            elif path.is_dir():
                words += ["--ro-bind", f"/{name}", f"/{name}"]
        if not Path(sys.base_prefix).is_relative_to("/usr"):
            words += ["--ro-bind", sys.base_prefix, sys.base_prefix]
        return words


def contains() -> bool:
    """Whether this machine lets us have such containers."""
    options = ["--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    return subprocess.run([bwrap.find().path, *options], capture_output=True, check=False).returncode == 0


def assembled(folder: Path) -> Path:
    """As the first stage of agent.Dockerfile does it."""
    target = folder / "onmemos"
    assemble.assemble(target, relocatable_python(folder / "interpreter"))
    return target
