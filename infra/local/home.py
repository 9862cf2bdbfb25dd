"""The stack's home: its folders, its keys, and the lock that lets one stack at a time live there."""

import fcntl
import os
import re
import secrets
import shlex
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from infra.local.settings import Settings

PLAIN = re.compile(r"[\w./:@%+,={}-]*", re.ASCII)  # what a shell leaves as it is in an assignment
ENDING_S = 10.0  # a killed stack's guard takes at most 4 s


class HomeTaken(Exception):
    """Another stack runs there, or the place cannot be used; the message says which."""


@contextmanager
def claimed(settings: Settings) -> Iterator[int]:
    """Hold the home, with its folders made and what a killed stack left removed; the lock's descriptor.

    Whoever inherits the descriptor holds the home too, until it ends. Raises HomeTaken.
    """
    for folder in (settings.home, settings.state, settings.buckets, settings.logs, settings.ticket_key.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.home / "lock").open("a+", encoding="ascii") as lock:
        _lock(lock.fileno(), settings, lock.name)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        settings.env_file.unlink(missing_ok=True)
        _fresh_private_folder(settings.runtime)
        try:
            yield lock.fileno()
        finally:
            settings.env_file.unlink(missing_ok=True)
            shutil.rmtree(settings.runtime, ignore_errors=True)
            lock.truncate(0)


def keep_ticket_key(path: Path) -> None:
    """Make the key that signs tickets, unless there is one: sessions that outlive a restart know its public half."""
    if path.exists():
        return
    from shared.tickets import new_private_key  # after the stack's programs were started: it takes 0.1 s

    _write(path, new_private_key())


def write_env(path: Path, environment: Mapping[str, str]) -> None:
    """NAME=value lines for `set -a; . .onmemos/env` and `docker run --env-file` alike.

    Docker knows no quotes: a value gets them only when a shell cannot do without.
    """
    lines = (
        f"{name}={value if PLAIN.fullmatch(value) else shlex.quote(value)}\n"
        for name, value in sorted(environment.items())
    )
    _write(path, "".join(lines))


def _write(path: Path, text: str) -> None:
    """At once and for nobody else's eyes: a reader sees the whole file or none."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _lock(descriptor: int, settings: Settings, name: str) -> None:
    """Take the lock. When its holder is dead, the rest of that stack is just being ended: wait for it."""
    deadline = time.monotonic() + ENDING_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = Path(name).read_text(encoding="ascii").strip()
            if not holder or psutil.pid_exists(int(holder)) or time.monotonic() > deadline:
                process = f" (process {holder})" if holder else ""
                raise HomeTaken(
                    f"a stack runs in {settings.home} already{process}. End it with Ctrl-C there, or set "
                    "ONMEMOS_HOME to another folder and every port (make help lists them) to 0"
                ) from None
            time.sleep(0.05)
        else:
            return


def _fresh_private_folder(path: Path) -> None:
    """An empty folder for us alone, in a place where others may write too."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise HomeTaken(f"{path} is not ours: wanted no such file, or a folder that only we can enter") from None
        shutil.rmtree(path)
        path.mkdir(mode=0o700)
