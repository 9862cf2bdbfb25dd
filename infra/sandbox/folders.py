"""The host folders of containers: state/<name>/workspace is kept, sockets/<name> lives as long as the container.

A lock on the sockets folder says that a runtime is at work there; who gets it may clean up after one that was killed.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox.cgroups import TAG
from infra.sandbox.spec import WORKSPACE, Mount, SandboxError, SandboxUnavailable, check_socket_path

_SHARED = "run"  # what the container sees of sockets/<name>
_POLL_S = 0.002
_SLOW_POLL_S = 0.05
_SOON_S = 2.0


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one container."""

    state: Path
    sockets: Path

    @property
    def workspace(self) -> Path:
        return self.state / "workspace"

    @property
    def shared(self) -> Path:
        """Shown inside as /run/onmemos; what is in there is the session's, and no path in it may be trusted."""
        return self.sockets / _SHARED

    @property
    def agent_socket(self) -> Path:
        return self.sockets / "agent.sock"

    @property
    def attendant_socket(self) -> Path:
        return self.sockets / "attendant.sock"

    def make(self, mounts: tuple[Mount, ...] = ()) -> None:
        """Create what is missing, with empty sockets.

        Raises SandboxError: a socket path is too long, a mount is where the session put something else.
        """
        check_socket_path(self.attendant_socket)
        self.workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state.chmod(0o700)
        _make_mount_points({WORKSPACE: self.workspace, **{m.target: m.source for m in mounts}})
        delete_tree(self.sockets)
        self.shared.mkdir(mode=0o700, parents=True)
        self.sockets.chmod(0o700)

    async def publish(self, name: str) -> None:
        """Once somebody inside listens, give that socket a name that the session cannot replace; runs until cancelled.

        The session could put a symbolic link to some other socket of this host where its own was. A hard link to the
        very socket, kept outside its view, cannot be redirected.
        """
        loop = asyncio.get_running_loop()
        soon = loop.time() + _SOON_S
        inside, outside = str(self.shared / name), str(self.sockets / name)  # once: paths cost more than the look
        while not _published(inside, outside):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(_POLL_S if loop.time() < soon else _SLOW_POLL_S)


class Root:
    """All containers' folders of one runtime, locked until `close`."""

    def __init__(self, state: Path, sockets: Path) -> None:
        """Raises SandboxUnavailable: another runtime is at work in `sockets`."""
        self._state = state.absolute()
        self._sockets = sockets.absolute()
        for folder in (self._state, self._sockets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._sockets / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(self._lock)
            raise SandboxUnavailable(
                f"{self._sockets}: another runtime works there; close it or use another folder"
            ) from exc
        for stale in self._left_behind():
            delete_tree(stale)

    @property
    def tag(self) -> str:
        """A name for this pair of folders among other runtimes' on this machine."""
        return TAG + hashlib.sha256(bytes(self._sockets)).hexdigest()[:12]

    @property
    def state(self) -> Path:
        return self._state

    def of(self, name: str) -> Folders:
        return Folders(self._state / name, self._sockets / name)

    def close(self) -> None:
        """Release the lock; idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _left_behind(self) -> Iterator[Path]:
        for folder in list(self._sockets.iterdir()):
            if folder.is_dir() and (folder / _SHARED).is_dir():
                yield folder


def _make_mount_points(shown: dict[str, Path]) -> None:
    """Where a mount lies within another one, make its folder there: bubblewrap would follow a session's links."""
    for target in shown:
        around = [(t, s) for t, s in shown.items() if target.startswith(f"{t}/")]
        if not around:
            continue
        outer, source = max(around, key=lambda pair: len(pair[0]))
        place = source
        for part in target.removeprefix(f"{outer}/").split("/"):
            place = place / part
            with contextlib.suppress(FileExistsError):
                place.mkdir(mode=0o755)
            if place.is_symlink() or not place.is_dir():
                raise SandboxError(f"mount {target}: {place.relative_to(source)} in {outer} is not a folder")


def _published(inside: str, outside: str) -> bool:
    with contextlib.suppress(OSError):
        os.link(inside, outside, follow_symlinks=False)
        if stat.S_ISSOCK(Path(outside).lstat().st_mode):
            return True
        Path(outside).unlink()
    return False


def delete_tree(folder: Path) -> None:
    """Delete a folder with anything a session may have put there, following no link; one that is gone is no error."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except PermissionError:  # the session closed a folder to its owner, who is us
        _open_folders(folder)
        shutil.rmtree(folder)


def _open_folders(folder: Path) -> None:
    waiting = [str(folder)]
    while waiting:
        current = waiting.pop()
        os.chmod(current, 0o700)  # noqa: PTH101
        with os.scandir(current) as entries:
            waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
