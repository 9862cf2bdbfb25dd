"""The same promises by gVisor, where runsc is installed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.sandbox import gvisor
from infra.sandbox.spec import Limits, Mount
from tests.contract.sandbox.conftest import MIB, Lab, opened


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
