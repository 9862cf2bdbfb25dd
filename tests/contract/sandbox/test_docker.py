"""Docker's command line as we write it, and what we say where no engine answers."""

import asyncio
import itertools
import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from infra.sandbox import docker
from infra.sandbox.attendance import Exited, Output, execute
from infra.sandbox.runtime import open_runtime
from infra.sandbox.spec import Attendance, ContainerSpec, Limits, Mount, SandboxUnavailable
from tests.contract.sandbox.conftest import MIB, until

SPEC = ContainerSpec(
    "one",
    "example/python:3",
    env={"WORKSPACE_ID": "ws-1", "SECRET": "s3cret"},
    mounts=(Mount(Path("/srv/bucket"), "/mnt/bucket"), Mount(Path("/srv/data"), "/data", read_only=True)),
    limits=Limits(cpu=1.5, memory_bytes=512 * MIB, processes=99, file_size_bytes=7 * MIB),
)


def _pairs(arguments: list[str]) -> set[tuple[str, str]]:
    return set(itertools.pairwise(arguments))


def test_limits_mounts_and_isolation_are_on_the_command_line() -> None:
    arguments = docker.run_arguments(SPEC, "tag-one", "tag", Path("/state/one/workspace"))
    assert arguments[0] == "run"
    assert arguments[-1] == "example/python:3"
    assert {
        ("--memory", str(512 * MIB)), ("--memory-swap", str(512 * MIB)), ("--cpus", "1.5"), ("--pids-limit", "99"),
        ("--ulimit", f"fsize={7 * MIB}"), ("--user", "1000:1000"), ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"), ("--volume", "/state/one/workspace:/workspace:rw"),
        ("--volume", "/srv/bucket:/mnt/bucket:rw"), ("--volume", "/srv/data:/data:ro"), ("--network", "tag"),
        ("--publish", "127.0.0.1::8080"), ("--env", "PORT"), ("--env", "SECRET"),
    } <= _pairs(arguments)  # fmt: skip
    assert "--read-only" in arguments
    assert not any("s3cret" in word for word in arguments)


def test_a_closed_network_is_no_network() -> None:
    closed = ContainerSpec("one", "image", egress=False, command=("sleep", "1"))
    arguments = docker.run_arguments(closed, "tag-one", "tag", Path("/w"))
    assert ("--network", "none") in _pairs(arguments)
    assert "--publish" not in arguments
    assert arguments[-3:] == ["image", "sleep", "1"]
    assert docker.agent_environment(closed)["ONMEMOS_AGENT_SOCKET"] == "/run/onmemos/agent.sock"


def test_a_mount_at_the_workspace_replaces_it_and_an_attendant_is_shown() -> None:
    spec = ContainerSpec(
        "one", "image", mounts=(Mount(Path("/srv/disk"), "/workspace"),), attendance=Attendance.STDIN, hostname="pod"
    )
    arguments = docker.run_arguments(spec, "tag-one", "tag", Path("/state/one/workspace"))
    assert ("--volume", "/srv/disk:/workspace:rw") in _pairs(arguments)
    assert not any(word.startswith("/state/one/workspace:") for word in arguments)
    assert any(word.endswith(":/opt/onmemos/launch:ro") for word in arguments)
    assert ("--hostname", "pod") in _pairs(arguments)
    assert "--interactive" in arguments


async def test_without_an_engine_the_error_says_so(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{short_folder}/no-engine")
    with pytest.raises(SandboxUnavailable, match=r"docker command is not installed|no Docker engine answers: .+"):
        await open_runtime("docker", state=short_folder / "state", sockets=short_folder / "s")


ENGINE = """#!{python}
import os, sys, time, socket
arguments = sys.argv[1:]
with open({log!r}, "a") as file:
    print(" ".join(arguments[:3]), file=file)
if arguments[0] == "run":
    server = socket.create_server(("127.0.0.1", 0))
    with open({log!r} + ".port", "w") as file:
        file.write(str(server.getsockname()[1]))
    peer, _ = server.accept()
    peer.sendall(b"agent:" + peer.recv(100))
    peer.close()
    while not os.path.exists({log!r} + ".removed"):
        time.sleep(0.01)
    sys.exit(137)
elif arguments[0] == "port":
    print("127.0.0.1:" + open({log!r} + ".port").read())
elif arguments[:2] == ["rm", "--force"]:
    open({log!r} + ".removed", "w").close()
"""


EXEC_ENGINE = """#!{python}
import os, sys, time
arguments = sys.argv[1:]
if arguments[0] == "run":
    while not os.path.exists({inside!r} + "/removed"):
        time.sleep(0.01)
elif arguments[:2] == ["rm", "--force"]:
    open({inside!r} + "/removed", "w").close()
elif arguments[0] == "exec":
    words = [w.replace("/run/onmemos", {inside!r}).replace("/opt/onmemos/launch", {launch!r}) for w in arguments[3:]]
    os.execv({python!r}, words)
"""


async def test_commands_run_through_the_engines_own_exec(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is a stand-in: what it would run in the container runs here."""
    inside = short_folder / "in"
    inside.mkdir()
    program = short_folder / "bin/docker"
    program.parent.mkdir()
    launch = str(Path(docker.__file__).parent / "inside")
    program.write_text(EXEC_ENGINE.format(python=shutil.which("python3"), inside=str(inside), launch=launch))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    runtime = await open_runtime("docker", state=short_folder / "state", sockets=short_folder / "s")
    container = await runtime.start(ContainerSpec("one", "image", attendance=Attendance.PLAIN))
    for word in ("one", "two"):
        async with asyncio.timeout(10), execute(container.attendant, ["echo", word]) as command:
            assert await command.next() == Output(1, f"{word}\n".encode())
            assert await command.next() == Exited(0)
    attendants = subprocess.run(  # noqa: ASYNC221
        ["pgrep", "-f", f"{launch}/attendant.py {inside}"], capture_output=True, text=True, check=True
    )
    os.kill(int(attendants.stdout), signal.SIGKILL)
    await container.stop(grace_s=0)
    await runtime.close()


async def test_the_agents_port_is_bridged_to_its_socket(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is a stand-in here: its command line is the thing under test's other side."""
    log = str(short_folder / "log")
    program = short_folder / "bin/docker"
    program.parent.mkdir()
    python = shutil.which("python3")
    program.write_text(ENGINE.format(python=python, log=log))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    runtime = await open_runtime("docker", state=short_folder / "state", sockets=short_folder / "s")
    container = await runtime.start(ContainerSpec("one", "image"))
    await until(Path(log + ".port").exists)
    reader, writer = await asyncio.open_unix_connection(str(container.socket))
    writer.write(b"hello")
    assert await asyncio.wait_for(reader.read(), 5) == b"agent:hello"
    writer.close()
    await container.stop(grace_s=0)
    assert await container.wait() in (137, 143)
    await runtime.close()
    said = Path(log).read_text()  # noqa: ASYNC240
    assert "network create --opt" in said
    assert "rm --force onmemos-" in said
    assert said.strip().split("\n")[-1].startswith("network rm onmemos-")
