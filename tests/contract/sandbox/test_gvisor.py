"""The same promises by gVisor, where runsc is installed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.sandbox import gvisor
from infra.sandbox.attendance import Exited, Output, Window, execute
from infra.sandbox.spec import Attendance, ContainerSpec, Limits, Mount
from tests.contract.sandbox.conftest import MIB, Lab, Printed, opened, until


@pytest.fixture
async def gvisor_lab(short_folder: Path) -> AsyncIterator[Lab]:
    async with opened(short_folder, kind="gvisor") as lab:
        yield lab


async def test_a_command_runs_in_another_kernel(gvisor_lab: Lab, tmp_path: Path) -> None:
    result = await gvisor_lab.run(
        "id -u; pwd; dmesg | grep -c -i gvisor; echo kept > note; echo x > /mnt/bucket/object; touch /usr/x",
        name="one",
        mounts=(Mount(tmp_path, "/mnt/bucket"),),
    )
    lines = result.output.split("\n")
    assert lines[:2] == ["1000", "/workspace"]
    assert int(lines[2]) >= 1
    assert (tmp_path / "object").read_text() == "x\n"
    assert result.container.facts == {"isolation": "gvisor", "egress": "none", "limits": "cgroup"}
    again = await gvisor_lab.run("cat note; exit 5", name="one")
    assert (again.output, again.code) == ("kept\n", 5)
    await gvisor_lab.runtime.remove("one")
    assert [p.name for p in gvisor_lab.state.iterdir()] == [".runsc"]


async def test_its_socket_is_reached_and_it_stops(gvisor_lab: Lab) -> None:
    serve = (
        "import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('/run/onmemos/agent.sock'); s.listen();"
        " s.accept()[0].sendall(b'hello'); time.sleep(60)"
    )
    container = await gvisor_lab.start(f'exec python3 -c "{serve}"')
    async with asyncio.timeout(10):
        while not container.socket.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_unix_connection(str(container.socket))
        assert await reader.readexactly(5) == b"hello"
        writer.close()
    await container.stop(grace_s=0.2)
    assert await container.wait() in (137, 143)
    assert not list(gvisor_lab.sockets.glob("c-*"))


async def test_a_stop_is_told_to_its_command(gvisor_lab: Lab) -> None:
    container = await gvisor_lab.start(
        "trap 'echo bye; exit 3' TERM; touch up; while :; do sleep 0.05; done", name="one"
    )
    await until((gvisor_lab.state / "one/workspace/up").exists)
    await container.stop(grace_s=10)
    assert (await container.wait(), container.log_tail()) == (3, "bye\n")
    container = await gvisor_lab.start("sleep 60")
    await container.stop(grace_s=10)
    assert await container.wait() == 143


async def test_its_terminals_end_with_their_commands(gvisor_lab: Lab) -> None:
    for script, code, said in (
        ("seq 9000 10999; exit 3", 3, b"10999\r\n"),
        ("setsid sleep 60 & tty", 0, b"/dev/pts/0\r\n"),
    ):
        printed = Printed()
        spec = ContainerSpec(
            "one", "", command=("sh", "-c", script), attendance=Attendance.TTY, egress=False, log=printed
        )
        container = await gvisor_lab.runtime.start(spec)
        assert await container.wait() == code
        assert printed.kept["stdout"].endswith(said)
    container = await gvisor_lab.runtime.start(replace(spec, command=("sleep", "60")))
    async with asyncio.timeout(10):
        async with execute(
            container.attendant, ["sh", "-c", "setsid sleep 60 & tty; exit 5"], terminal=Window(24, 80)
        ) as command:
            assert await command.next() == Output(1, b"/dev/pts/1\r\n")
            assert await command.next() == Exited(5)


async def test_it_gets_out_through_the_proxy_only(gvisor_lab: Lab) -> None:
    script = "curl -s -m 20 --noproxy '' http://127.0.0.1:22/ -x http://127.0.0.1:3128;"
    script += " curl -s -m 1 -x '' http://169.254.169.254/ || echo closed"
    result = await gvisor_lab.run(script, egress=True)
    assert result.output == "127.0.0.1: loopback addresses are closed to sessions\nclosed\n"
    assert result.container.facts["egress"] == "proxy"


async def test_memory_is_bounded(gvisor_lab: Lab) -> None:
    hog = "x = bytearray(600 << 20); x[::4096] = b'x' * len(x[::4096]); print('took it')"
    result = await gvisor_lab.run(f'exec python3 -c "{hog}"', limits=Limits(memory_bytes=128 * MIB))
    assert "took it" not in result.output
    assert result.code != 0
    assert gvisor.OVERHEAD_BYTES < 256 * MIB
