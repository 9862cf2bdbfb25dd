"""Puts /opt/onmemos together: the agent, its packages and a Python of its own, which need nothing else but glibc.

`python assemble.py TARGET --interpreter FOLDER`. FOLDER holds bin/python3.X and lib/python3.X of a build that may be
moved (python-build-standalone's). Needs pip, which does not come along. The same input gives the same files. It ends
with a trial, and fails if the result is larger than LIMIT_BYTES. Standard library alone: it runs in images' builds.
"""

import argparse
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LIMIT_BYTES = 100 << 20  # with some 15 MB of Debian's packages a base image is at most 120 MB over Debian's
GLIBC = ("2_28", "2_17", "2_12", "2_5")  # 2.28: Debian 10, Ubuntu 20.04, RHEL 8, and whatever is newer
LEGACY = ("2014", "2010", "1")  # what wheels for the older ones of these were called before PEP 600
PIP_TIMEOUT_S = 300.0
TRIAL_TIMEOUT_S = 60.0
_PROGRAM = re.compile(r"python3\.(\d+)")
_SHARED_LIBRARY = re.compile(rb"\0libpython3\.\d+\.so\.1\.0\0")  # as the dynamic section names what is needed
# Of the standard library: tests, windows, what installs packages and what compiles extensions.
_LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py", "lib2to3", "ensurepip",
    "pydoc_data", "config-3.*", "site-packages", "dist-packages", "EXTERNALLY-MANAGED", "_tkinter*", "_test*",
    "_ctypes_test*", "_xxtestfuzz*", "xxlimited*", "*.a",
)  # fmt: skip
_TRIAL = (
    "import sys; sys.path[:0] = sys.argv[1:]; "
    "import agent.__main__, agent.server, agent.tickets, agent.websocket, agent.job, hashlib, ssl, zlib"
)


class AssemblyError(Exception):
    """The folder cannot be put together; the message names the thing, the value seen and the value wanted."""


def assemble(target: Path, interpreter: Path) -> int:
    """Its size in bytes. Raises AssemblyError, OSError, subprocess.SubprocessError."""
    target.mkdir(parents=True)
    python = copy_interpreter(interpreter, target / "python")
    install(HERE / "requirements.txt", target / "site-packages", python.name)
    shutil.copytree(HERE / "agent", target / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    copy_programs(HERE / "programs", target / "bin")
    precompile(python, target)
    make_readable(target)
    try_out(python, target)
    size_bytes = size_of(target)
    if size_bytes > LIMIT_BYTES:
        raise AssemblyError(f"{target} has {size_bytes} bytes; wanted at most {LIMIT_BYTES}")
    return size_bytes


def copy_interpreter(source: Path, target: Path) -> Path:
    """bin/python3.X, its standard library, and its shared library where it has one. The program's path."""
    found = [path for path in source.glob("bin/python3.*") if _PROGRAM.fullmatch(path.name)]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "nothing"
        raise AssemblyError(f"{source}/bin has {names} of the name python3.X; wanted one program")
    name = found[0].name
    program = target / "bin" / name
    program.parent.mkdir(parents=True)
    shutil.copy(found[0], program)
    for link in ("python3", "python"):
        (program.parent / link).symlink_to(name)
    shutil.copytree(source / "lib" / name, target / "lib" / name, ignore=_LEFT_OUT, symlinks=False)
    needed = _SHARED_LIBRARY.search(program.read_bytes())
    if needed is not None:
        library = needed.group().strip(b"\0").decode()
        shutil.copy(source / "lib" / library, target / "lib" / library)
    return program


def install(requirements: Path, target: Path, python: str) -> None:
    """The packages that the file names and no others, as wheels for this machine's kind and an old glibc."""
    machine = platform.machine()
    tags = [f"manylinux_{version}_{machine}" for version in GLIBC] + [f"manylinux{year}_{machine}" for year in LEGACY]
    match = _PROGRAM.fullmatch(python)
    assert match is not None  # noqa: S101 - by copy_interpreter
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:",
            "--disable-pip-version-check", "--root-user-action=ignore",
            "--implementation=cp", f"--python-version=3.{match[1]}", *(f"--platform={tag}" for tag in tags),
            f"--target={target}", f"--requirement={requirements}",
        ],
        check=True,
        timeout=PIP_TIMEOUT_S,
    )  # fmt: skip
    shutil.rmtree(target / "bin", ignore_errors=True)  # commands of the packages: nobody here calls them


def copy_programs(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.glob("[!_]*.py"):
        program = target / path.stem
        shutil.copy(path, program)
        program.chmod(0o755)


def precompile(python: Path, target: Path) -> None:
    """Into .pyc files that are valid whatever time the sources bear: layers of images may change it."""
    subprocess.run(
        [
            python, "-IS", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash",
            "-s", target, "-p", "/opt/onmemos", target / "python" / "lib", target / "site-packages", target / "agent",
        ],
        check=True,
        timeout=PIP_TIMEOUT_S,
    )  # fmt: skip


def make_readable(target: Path) -> None:
    """Whatever the umask was; nobody but root may write."""
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def try_out(python: Path, target: Path) -> None:
    """Everything that the agent imports, and what commands expect of a Python."""
    subprocess.run([python, "-IS", "-c", _TRIAL, target, target / "site-packages"], check=True, timeout=TRIAL_TIMEOUT_S)


def size_of(folder: Path) -> int:
    """As a file system counts it, in blocks."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--interpreter", type=Path, required=True)
    options = parser.parse_args()
    try:
        size_bytes = assemble(options.target, options.interpreter)
    except (AssemblyError, OSError, subprocess.SubprocessError) as exc:
        sys.stderr.write(f"assemble: {exc}\n")
        return 1
    sys.stdout.write(f"{options.target}: {size_bytes / (1 << 20):.1f} MiB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
