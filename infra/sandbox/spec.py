"""What a caller says about a sandboxed container, and what it may ask of one that runs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

GIB = 1 << 30

WORKSPACE = "/workspace"
SOCKETS = "/run/onmemos"
AGENT_SOCKET = f"{SOCKETS}/agent.sock"
ATTENDANT_SOCKET = f"{SOCKETS}/attendant.sock"
EGRESS_SOCKET = f"{SOCKETS}/egress.sock"
INSIDE_ID = 1000  # uid and gid of the session's user inside, as in the cloud images

SUN_PATH_BYTES = 107  # sizeof(sockaddr_un.sun_path) - 1: man 7 unix
MINIMUM_MEMORY_BYTES = 64 << 20  # the agent alone takes about 40 MB
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "proc", "dev", "sys", "run", "tmp", "var")
_ROOMY = {  # the system's folders that others may be mounted in, and what is ours there
    "etc": ("passwd", "group", "hosts", "hostname", "nsswitch.conf", "resolv.conf"),
    "run": ("onmemos",),
    "tmp": (),
}
_OURS = ("/opt/onmemos", "/opt/python")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")  # a DNS label: names become folders and cgroups


class SandboxError(Exception):
    """Something about a sandbox went wrong; the message names the thing, the value seen and the value wanted."""


class SandboxUnavailable(SandboxError):
    """This machine cannot isolate as asked; the message says what is missing and how to get it."""


class SandboxStartFailed(SandboxError):
    """One container could not be started; the message ends with what it printed."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A host folder or file shown inside at the absolute path `target`."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """`cpu` in cores; `processes` counts threads too, as the kernel does; `file_size_bytes` is per file."""

    cpu: float = 1.0
    memory_bytes: int = 2 * GIB
    processes: int = 512
    file_size_bytes: int = 4 * GIB


class Attendance(StrEnum):
    """Whether somebody inside serves exec and dial (see attendance.py), and what the command has as its input.

    Other than that the input is empty; only a container without a `command` of its own needs none (Docker has PLAIN).
    """

    NONE = "none"
    PLAIN = "plain"
    STDIN = "stdin"  # a pipe that `attach` writes to
    TTY = "tty"  # a terminal; what is printed there is standard output


class Sink(Protocol):
    """Takes everything a container prints."""

    def add(self, stream: str, data: bytes) -> None:
        """`stream` is "stdout" or "stderr". Called on the event loop: it must not block."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container. An empty `command` means the image's own: the workspace agent.

    `image` is a reference; only Docker has images, the other kinds show this machine's system read-only. A mount at
    /workspace takes the place of the folder that the container would have there. `log` gets the whole output.
    `hostname` is the name where it is empty; `workdir` is where the command begins, and must be there.
    """

    name: str
    image: str
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    limits: Limits = Limits()
    egress: bool = True
    command: tuple[str, ...] = ()
    hostname: str = ""
    workdir: str = WORKSPACE
    attendance: Attendance = Attendance.NONE
    log: Sink | None = None


class Container(Protocol):
    """A started container."""

    @property
    def name(self) -> str: ...

    @property
    def socket(self) -> Path:
        """The agent's Unix socket on the host; it appears once the agent listens."""

    @property
    def attendant(self) -> Path:
        """The attendant's, where the container is attended."""

    @property
    def facts(self) -> Mapping[str, str]:
        """How it runs: isolation (bubblewrap, gvisor, docker), egress (slirp4netns, pasta, proxy, docker, none), limits
        (cgroup, rlimit, gvisor, docker)."""

    async def wait(self) -> int:
        """Return the exit code once it ended; a death by signal N is 128 + N."""

    async def stop(self, grace_s: float = 5) -> None:
        """TERM its command, and after `grace_s` KILL everything in it; idempotent."""

    def log_tail(self) -> str:
        """The last few kB of what it printed on stdout and stderr."""


class Runtime(Protocol):
    """Starts and removes containers; one runtime at a time owns a pair of folders."""

    @property
    def facts(self) -> Mapping[str, str]:
        """Those of the container that started last; of a trial at first, and none where there was no trial."""

    async def start(self, spec: ContainerSpec) -> Container:
        """Start `spec`; its process is up on return, its agent maybe not yet.

        A name started before keeps its /workspace; one that still runs is refused.
        Raises SandboxStartFailed, SandboxError.
        """

    async def remove(self, name: str) -> None:
        """Stop `name` and delete its folders; one that is gone is not an error."""

    async def close(self) -> None:
        """Stop every container, keeping the workspaces; idempotent."""


def check_name(name: str) -> None:
    """Raise SandboxError for a name that cannot be a folder, a cgroup and a host name."""
    if not _NAME.fullmatch(name):
        raise SandboxError(f"container name {name!r}: wanted lower-case letters, digits and '-', at most 63")


def check_spec(spec: ContainerSpec) -> None:
    """Raise SandboxError for a container that cannot be started as described on any machine."""
    check_name(spec.name)
    for name, value in spec.env.items():
        if not name or "=" in name or "\0" in name + value:
            raise SandboxError(f"environment variable {name!r}: wanted a name without '=' and no NUL bytes")
    for mount in spec.mounts:
        parts = mount.target.split("/")
        if parts[0] or len(parts) < 2 or any(p in ("", ".", "..") for p in parts[1:]) or "\0" in mount.target:
            raise SandboxError(f"mount target {mount.target!r}: wanted an absolute path like /mnt/bucket")
        if _is_the_systems(parts[1:]) or any(f"{mount.target}/".startswith(f"{p}/") for p in _OURS):
            raise SandboxError(f"mount target {mount.target!r}: that folder is the system's")
        if not (mount.source.is_dir() or mount.source.is_file()):
            raise SandboxError(f"mount source {mount.source}: wanted a folder or file that exists")
    limits = spec.limits
    if limits.memory_bytes < MINIMUM_MEMORY_BYTES or limits.processes < 1 or limits.cpu <= 0:
        raise SandboxError(f"limits {limits}: wanted cpu > 0, processes ≥ 1, memory ≥ {MINIMUM_MEMORY_BYTES} bytes")


def _is_the_systems(parts: list[str]) -> bool:
    """Below some of its folders there is room for others: /etc/NAME, /run/NAME, /tmp/NAME."""
    if parts[0] in _ROOMY and len(parts) > 1:
        shown = parts[0] == "etc" and Path("/etc", parts[1]).exists()
        return shown or parts[1] in _ROOMY[parts[0]]
    return parts[0] in _SYSTEM


def check_socket_path(path: Path) -> None:
    """Raise SandboxError for a path that no Unix socket can have."""
    size = len(bytes(path))
    if size > SUN_PATH_BYTES:
        raise SandboxError(
            f"socket path {path} has {size} bytes; a Unix socket's may have {SUN_PATH_BYTES}: choose a shorter"
            " sockets folder"
        )
