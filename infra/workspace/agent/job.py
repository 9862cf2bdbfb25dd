"""Runs a job's command in a container of its own: `python3 job.py FOLDER`. Standard library alone, no other module.

FOLDER is the job's, in the mounted bucket; command.json in it says what to run. What the command writes goes into parts
there. A mounted bucket shows a file once it is closed and rewrites it whole when it grows: so parts are closed every
few seconds while there is output, and are small. Of a long stream the first part and the newest stay.

The exit code is the command's, so that the platform tries again what failed. TERM ends the command's process group.
"""

import errno
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

PART_BYTES = 1 << 20
PARTS = 64  # of a stream that are kept
WRITTEN_EVERY_S = 2.0
WRITTEN_AT_LEAST_EVERY_S = 10.0  # each writing of a part costs a request and its whole length
AGE_SHARE = 0.01  # of how long the job has run: how long output may wait
GRACE_S = 5.0  # between TERM and KILL; the platform itself leaves 10 s from its TERM
DRAIN_S = 1.0  # for output that is still in the pipes when the command is over
READ_BYTES = 65_536
TIMED_OUT = 124  # as timeout(1)
CANNOT_RUN = 125  # as docker run: no command was started
NOT_EXECUTABLE, NOT_FOUND = 126, 127  # POSIX shell, 2.8.2
SIGNALLED = 128
OURS = ("ONMEMOS_", "K_")
SHELL = "/bin/sh"
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
RESTORED_SIGNALS = [signal.SIGPIPE, signal.SIGTSTP, signal.SIGXFSZ]  # Python and we ignore them; a command must not


class Stream:
    """One stream of the command: read from `pipe`, kept until the next part is due, at most PARTS parts on disk."""

    def __init__(self, name: str, pipe: int, folder: Path) -> None:
        self.pipe = pipe
        self._name, self._folder = name, folder
        self._number = 0
        self._size_bytes = 0  # of the current part
        self._waiting = bytearray()
        self.waiting_since: float | None = None

    def take(self) -> bool:
        """Read what is there; False: the stream has ended."""
        try:
            chunk = os.read(self.pipe, READ_BYTES)
        except BlockingIOError:
            return True
        if chunk and self.waiting_since is None:
            self.waiting_since = time.monotonic()
        self._waiting += chunk
        if self._size_bytes + len(self._waiting) >= PART_BYTES:
            self.write()
        return bool(chunk)

    def write(self) -> None:
        """Put what waits into the current part, and what it has no room for into the next ones."""
        while self._waiting:
            piece = self._waiting[: PART_BYTES - self._size_bytes]
            del self._waiting[: len(piece)]
            try:
                # Appended, never truncated: in a bucket that is a plain folder, too, no reader sees less than before.
                with self._part(self._number).open("ab") as part:
                    part.write(piece)
            except OSError as exc:
                _complain(f"{len(piece)} bytes of {self._name} are lost: {exc}")
            self._size_bytes += len(piece)
            if self._size_bytes >= PART_BYTES:
                self._begin_part()
        self.waiting_since = None

    def _begin_part(self) -> None:
        self._number, self._size_bytes = self._number + 1, 0
        oldest = self._number - PARTS + 1
        if oldest > 0:  # the first part stays
            with suppress(OSError):
                self._part(oldest).unlink()

    def _part(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:06}.log"


class Attempt:
    """One attempt at the job's command; its files are in `folder`."""

    def __init__(self, command: Mapping[str, Any], folder: Path) -> None:
        self._command, self._folder = command, folder
        self._began = time.monotonic()
        self._started_at = _now()
        self._ending_since: float | None = None
        self._is_killed = False
        self._timed_out = False
        self._pid = 0
        self._code: int | None = None

    def run(self) -> int:
        """To the end, and that written; the exit code."""
        _write(self._folder / "attempt.json", {"started_at": self._started_at})
        self._code = self._start()
        if self._code is None:
            self._watch()
        returncode = TIMED_OUT if self._timed_out else self._code
        result = {
            "returncode": returncode,
            "timed_out": self._timed_out,
            "started_at": self._started_at,
            "finished_at": _now(),
            "attempt": int(self._folder.name),
        }
        _write(self._folder / "result.json", result)
        return returncode or 0

    def end(self, *_: int | FrameType | None) -> None:
        """Ask the command to end; a signal handler. What is left after GRACE_S is killed."""
        if self._ending_since is None:
            self._ending_since = time.monotonic()
            self._signal(signal.SIGTERM)

    def _start(self) -> int | None:
        """None: it runs. Else the exit code of a command that cannot be executed, as in a shell."""
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        self._streams = [Stream("stdout", out, self._folder), Stream("stderr", err, self._folder)]
        for stream in self._streams:
            os.set_blocking(stream.pipe, False)
        try:
            self._pid = _spawn(self._command, out_end, err_end)
        except OSError as exc:
            code = NOT_FOUND if isinstance(exc, FileNotFoundError | NotADirectoryError) else NOT_EXECUTABLE
            what = self._command["cwd"] if exc.filename == self._command["cwd"] else _argv(self._command)[0]
            os.write(err_end, f"{what}: {exc.strerror}\n".encode())
            self._streams[1].take()
            self._streams[1].write()
            return code
        finally:
            os.close(out_end)
            os.close(err_end)
        if self._ending_since is not None:  # TERM came before there was anybody to pass it to
            self._signal(signal.SIGTERM)
        return None

    def _watch(self) -> None:
        """Until the command is over. What it left in its group ends with it, as its container does."""
        timeout_s = float(self._command["timeout_s"])
        wake, wake_end = os.pipe()
        for end in (wake, wake_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.DefaultSelector() as selector:
            selector.register(wake, selectors.EVENT_READ, lambda: bool(os.read(wake, READ_BYTES)))
            for stream in self._streams:
                selector.register(stream.pipe, selectors.EVENT_READ, stream.take)
            self._reap()
            while self._code is None:
                _take(selector, self._next_due(timeout_s))
                self._reap()
                if self._code is None:  # else it was faster than its timeout
                    self._advance(timeout_s)
            self._signal(signal.SIGKILL)
            self._drain(selector)
        signal.set_wakeup_fd(-1)

    def _next_due(self, timeout_s: float) -> float:
        """How long nothing needs to be done."""
        now = time.monotonic()
        if self._ending_since is None:
            due = self._began + timeout_s
        else:
            due = now + GRACE_S if self._is_killed else self._ending_since + GRACE_S
        pause_s = self._pause_s(now)
        waits = [stream.waiting_since + pause_s for stream in self._streams if stream.waiting_since is not None]
        return max(0.0, min(due, *waits, now + 60.0) - now)

    def _advance(self, timeout_s: float) -> None:
        now = time.monotonic()
        if self._ending_since is None and now - self._began >= timeout_s:
            self._timed_out = True
            self.end()
        if self._ending_since is not None and not self._is_killed and now - self._ending_since >= GRACE_S:
            self._is_killed = True
            self._signal(signal.SIGKILL)
        pause_s = self._pause_s(now)
        for stream in self._streams:
            if stream.waiting_since is not None and now - stream.waiting_since >= pause_s:
                stream.write()

    def _pause_s(self, now: float) -> float:
        return min(max(WRITTEN_EVERY_S, (now - self._began) * AGE_SHARE), WRITTEN_AT_LEAST_EVERY_S)

    def _drain(self, selector: selectors.BaseSelector) -> None:
        """The rest of the output. Whoever left the group may hold the pipes open for good."""
        deadline = time.monotonic() + DRAIN_S
        while len(selector.get_map()) > 1 and (left_s := deadline - time.monotonic()) > 0:
            _take(selector, left_s)
        for stream in self._streams:
            stream.write()

    def _reap(self) -> None:
        """Everybody who has ended: as pid 1 this process inherits orphans."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._pid:
                    code = os.waitstatus_to_exitcode(ended[1])
                    self._code = code if code >= 0 else SIGNALLED - code

    def _signal(self, number: int) -> None:
        if self._pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)


def _take(selector: selectors.BaseSelector, timeout_s: float) -> None:
    """Take what is there, or comes in time; who has ended is watched no longer."""
    for key, _ in selector.select(timeout_s):
        if not key.data():
            selector.unregister(key.fd)


def _spawn(command: Mapping[str, Any], stdout: int, stderr: int) -> int:
    """Start the command, the leader of a session and group of its own. Raises OSError."""
    argv, env = _argv(command), environment(os.environ, command["env"])
    os.chdir(command["cwd"])
    program = _found(argv[0], env)
    nothing = os.open(os.devnull, os.O_RDONLY)
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((nothing, stdout, stderr))]
    options: Any = {"file_actions": actions, "setsid": True, "setsigmask": (), "setsigdef": RESTORED_SIGNALS}
    try:
        return os.posix_spawn(program, argv, env, **options)
    except OSError as exc:
        if exc.errno != errno.ENOEXEC:
            raise
        # A script without #! is the shell's: POSIX, 2.9.1.
        return os.posix_spawn(SHELL, [SHELL, program, *argv[1:]], env, **options)
    finally:
        os.close(nothing)


def _argv(command: Mapping[str, Any]) -> list[str]:
    return [SHELL, "-c", command["command"]] if command["argv"] is None else list(command["argv"])


def _found(name: str, env: Mapping[str, str]) -> str:
    """The file that `name` means by the command's own PATH; the name itself if there is none."""
    if "/" in name:
        return name
    paths = (Path(folder or ".", name) for folder in env.get("PATH", DEFAULT_PATH).split(":"))
    found = (str(path.absolute()) for path in paths if os.access(path, os.X_OK) and not path.is_dir())
    return next(found, f"./{name}/not-found")


def environment(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What the command inherits: the container's variables without ours, and what was asked for."""
    return {**{name: value for name, value in own.items() if name != "PORT" and not name.startswith(OURS)}, **given}


def _write(path: Path, facts: Mapping[str, Any]) -> None:
    try:
        path.write_text(json.dumps(facts), encoding="utf-8")
    except OSError as exc:
        _complain(f"{path.name} cannot be written: {exc}")


def _complain(what: str) -> None:
    sys.stderr.write(f"job: {what}\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main(arguments: list[str]) -> int:
    job = Path(arguments[0])
    folder = job / os.environ.get("CLOUD_RUN_TASK_ATTEMPT", "0")
    try:
        command = json.loads((job / "command.json").read_text(encoding="utf-8"))
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as exc:
        _complain(f"{job} holds no command: {exc}")
        return CANNOT_RUN
    attempt = Attempt(command, folder)
    signal.signal(signal.SIGTERM, attempt.end)
    signal.signal(signal.SIGINT, attempt.end)
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # Cloud Run announces the move to another machine with it
    return attempt.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
