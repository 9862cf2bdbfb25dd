"""The Python a session has: this program's own base interpreter, moved to a neutral place, with a clean pip.

Nothing that this machine's user installed beside it is shown, so a session looks the same on every machine.
"""

import compileall
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from infra.sandbox.rootfs import Bind, Entry, File, ReadOnly, Symlink, Tmpfs

HOME = "/opt/python"
SHIMS = "/opt/onmemos/bin"
AGENT_PACKAGES = "/opt/onmemos/site-packages"
AGENT_PYTHON = "/opt/onmemos/python/bin/python3"  # where images have it
AGENT_FOLDER = "/opt/onmemos/agent"
LAUNCHER_FOLDER = "/opt/onmemos/launch"

_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
# What the agent imports, and what that imports; names that are not installed are left out.
_AGENT_IMPORTS = (
    "uvicorn", "httptools", "h11", "click", "jwt", "cryptography", "cffi", "_cffi_backend", "pycparser",
    "typing_extensions", "uvloop", "websockets", "wsproto", "starlette", "anyio", "idna", "sniffio",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`executable` and `path` are inside; `path` goes before the system's own; `environment` is for every command."""

    executable: str
    path: tuple[str, ...]
    entries: tuple[Entry, ...]
    environment: tuple[tuple[str, str], ...]


def interpreter() -> Interpreter:
    """How this machine's Python is shown inside; it costs some file reads, so ask once per runtime."""
    base = Path(sys.base_prefix).resolve()
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    is_the_systems = base == Path("/usr") or Path("/usr") in base.parents
    found = (_of_the_system if is_the_systems else _relocated)(base, executable)
    return replace(found, entries=(*found.entries, Symlink(AGENT_PYTHON, found.executable)))


def agent_entries(agent: Path) -> Iterator[Entry]:
    """The agent's code, its packages and the launcher, read-only."""
    yield Bind(str(agent), AGENT_FOLDER, private=True)
    yield Bind(str(Path(__file__).parent / "inside"), LAUNCHER_FOLDER, private=True)
    for name in _AGENT_IMPORTS:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        source = origin.parent if spec.submodule_search_locations else origin
        yield Bind(str(source), f"{AGENT_PACKAGES}/{source.name}", private=True)


def _of_the_system(base: Path, executable: Path) -> Interpreter:
    """It is part of /usr, which is shown anyway: only names that are missing there are added."""
    entries: list[Entry] = []
    run = str(executable)
    for name in ("python", "python3"):
        found = base / "bin" / name
        if not found.exists() or found.resolve() != executable:
            entries.append(_script(f"{SHIMS}/{name}", run))
    if any(folder.is_dir() for folder in _pip_folders(base)):
        command = f"{run} -m pip"
    else:
        entries += _venv_pip("/opt/onmemos/pip")
        command = f"{run} /opt/onmemos/pip/pip"
    entries += [_script(f"{SHIMS}/{name}", command) for name in ("pip", "pip3")]
    return Interpreter(run, (SHIMS,), tuple(entries), ())


def _pip_folders(base: Path) -> tuple[Path, ...]:
    return (base / "lib" / _VERSION / "site-packages" / "pip", base / "lib" / "python3" / "dist-packages" / "pip")


def _relocated(base: Path, executable: Path) -> Interpreter:
    """CPython finds its library relative to its executable, so its parts may stand anywhere."""
    run = f"{HOME}/bin/{_VERSION}"
    site = f"{HOME}/lib/{_VERSION}/site-packages"
    entries: list[Entry] = [
        Bind(str(base / part), f"{HOME}/{part}", private=True)
        for part in ("lib", "include", "share/terminfo")
        if (base / part).is_dir()
    ]
    environment: list[tuple[str, str]] = []
    content = _with_run_path(executable, f"{base}/lib", f"{HOME}/lib")
    if content is not None:
        entries.append(File(run, content, mode=0o555))
    else:
        entries.append(Bind(str(executable), run, private=True))
        entries += _shared_library(base)
        if _has_shared_library():
            environment.append(("LD_LIBRARY_PATH", "/opt/onmemos/lib"))
    entries += [Symlink(f"{HOME}/bin/{name}", _VERSION) for name in ("python", "python3")]
    entries.append(Tmpfs(site, 1 << 20, mode=0o755))
    pip = base / "lib" / _VERSION / "site-packages"
    entries += _pip_binds(pip, site) if (pip / "pip").is_dir() else _venv_pip(site)
    entries.append(ReadOnly(site))
    entries += [_script(f"{HOME}/bin/{name}", f"{run} -m pip") for name in ("pip", "pip3")]
    return Interpreter(run, (f"{HOME}/bin",), tuple(entries), tuple(environment))


def _has_shared_library() -> bool:
    return bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))


def _shared_library(base: Path) -> list[Entry]:
    if not _has_shared_library():
        return []
    return [Bind(str(p), f"/opt/onmemos/lib/{p.name}", private=True) for p in base.glob("lib/libpython*.so*")]


def _with_run_path(executable: Path, old: str, new: str) -> bytes | None:
    """The executable with its library search path replaced in place, as chrpath does; None where that is not possible.

    pyenv's --enable-shared builds name their own lib folder absolutely; commands that clear their environment
    (tox, `env -i`) would lose an LD_LIBRARY_PATH.
    """
    if not _has_shared_library() or len(new) > len(old):
        return None
    content = executable.read_bytes()
    wanted = b"\0" + old.encode() + b"\0"
    if content.count(wanted) != 1:
        return None
    return content.replace(wanted, b"\0" + new.encode().ljust(len(old), b"\0") + b"\0")


def _venv_pip(target: str) -> list[Entry]:
    """The pip of the environment that this program runs in, for a base interpreter that has none."""
    spec = find_spec("pip")
    if spec is None or spec.origin is None:
        return []
    return _pip_binds(Path(spec.origin).parent.parent, target)


def _pip_binds(folder: Path, target: str) -> list[Entry]:
    return [
        Bind(str(part), f"{target}/{part.name}", private=True)
        for part in (folder / "pip", *folder.glob("pip-*.dist-info"))
        if part.is_dir()
    ]


def _script(target: str, command: str) -> File:
    return File(target, f'#!/bin/sh\nexec {command} "$@"\n'.encode(), mode=0o555)


def precompile(folders: tuple[Path, ...]) -> None:
    """Write the .pyc files that a read-only view could never write; a folder we may not write to is left as it is."""
    for folder in folders:
        if os.access(folder, os.W_OK):
            compileall.compile_dir(folder, quiet=2)
