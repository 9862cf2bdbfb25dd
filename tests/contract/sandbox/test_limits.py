"""Limits hold, by control groups and without them; the session's first process survives what its commands do."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from infra.sandbox import cgroups, limits
from infra.sandbox.spec import Limits
from tests.contract.sandbox.conftest import MIB, Lab, opened

OpenLab = Callable[..., Awaitable[Lab]]

HOG = "import sys; x = bytearray({} << 20); print('took it', len(x) and x[::4096].count(0) > 0)"


@pytest.fixture(params=["cgroup", "rlimit"])
async def limited(
    request: pytest.FixtureRequest, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Lab]:
    if request.param == "rlimit":
        monkeypatch.setattr(limits, "open_groups", lambda tag: None)
    async with opened(short_folder) as lab:
        facts = (await lab.run("true")).container.facts
        if facts["limits"] != request.param:
            pytest.skip("no control groups can be had here")
        yield lab


async def test_one_process_cannot_take_more_than_the_memory(limited: Lab) -> None:
    script = f'python3 -c "{HOG.format(200)}"; python3 -c "{HOG.format(20)}"; echo still here'
    result = await limited.run(script, limits=Limits(memory_bytes=128 * MIB))
    assert result.code == 0
    assert result.output.count("took it True") == 1  # a traceback may show the line that would have printed it
    assert result.output.endswith("still here\n")


async def test_many_processes_cannot_take_more_than_the_memory_together(limited: Lab) -> None:
    one = "import time; x = bytearray(50 << 20); time.sleep(20)"
    script = f'for i in 1 2 3 4 5 6; do python3 -c "{one}" & done; wait -n; echo one died'
    result = await limited.run(f"exec bash -c '{script}'", limits=Limits(memory_bytes=160 * MIB))
    assert "one died" in result.output


async def test_files_in_memory_count(limited: Lab) -> None:
    script = "head -c 200000000 /dev/zero > /tmp/big; wc -c < /tmp/big"
    result = await limited.run(script, limits=Limits(memory_bytes=128 * MIB))
    assert int(result.output.split()[-1]) <= 64 * MIB


async def test_a_fork_bomb_is_bounded(limited: Lab) -> None:
    bomb = (
        "import os, time\nn = 0\n"
        "try:\n    while n < 500:\n"
        "        if not os.fork(): time.sleep(30); os._exit(0)\n        n += 1\n"
        "except BlockingIOError:\n    pass\nprint(n)"
    )
    result = await limited.run(f"exec python3 -c '{bomb}'", limits=Limits(processes=40, memory_bytes=512 * MIB))
    assert result.code == 0
    assert 20 <= int(result.output) <= 44


async def test_a_file_cannot_grow_past_its_limit(limited: Lab) -> None:
    script = "head -c 3000000 /dev/zero > big; stat -c %s big; head -c 900000 /dev/zero > small && echo ok"
    result = await limited.run(script, limits=Limits(file_size_bytes=1 * MIB, memory_bytes=512 * MIB))
    assert str(1 * MIB) in result.output.split()
    assert result.output.endswith("ok\n")


async def test_the_processor_share_is_bounded(lab: Lab) -> None:
    spin = "import time\nend = time.monotonic() + 0.6\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    result = await lab.run(f"exec python3 -c '{spin}'", limits=Limits(cpu=0.25, memory_bytes=256 * MIB))
    if result.container.facts["limits"] != "cgroup":
        pytest.skip("needs control groups")
    assert float(result.output) < 0.4


def test_version_1_groups_are_made_below_our_own(tmp_path: Path) -> None:
    mounts = ""
    for number, controller in enumerate(("memory", "pids", "cpu,cpuacct")):
        base = tmp_path / controller / "user/me/tag"
        base.mkdir(parents=True)
        (base / "cgroup.procs").touch()
        mounts += f"{number} 1 0:1 / {tmp_path / controller} rw - cgroup cgroup rw,{controller}\n"
    own = "4:memory:/user/me\n3:pids:/user/me\n2:cpu,cpuacct:/user/me\n0::/\n"
    parents = cgroups.v1_parents("tag", mounts, own)
    assert parents == {
        "memory": tmp_path / "memory/user/me/tag",
        "pids": tmp_path / "pids/user/me/tag",
        "cpu": tmp_path / "cpu,cpuacct/user/me/tag",
    }


@pytest.mark.parametrize("delegated", ["app.slice", "app.slice/term.scope"])
def test_version_2_groups_are_made_where_children_get_controllers(tmp_path: Path, delegated: str) -> None:
    (tmp_path / "app.slice/term.scope").mkdir(parents=True)
    (tmp_path / delegated / "cgroup.subtree_control").write_text("cpu memory pids\n")
    (tmp_path / delegated / "tag").mkdir()
    (tmp_path / delegated / "tag/cgroup.procs").touch()
    mounts = f"30 1 0:26 / {tmp_path} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    parents = cgroups.v2_parents("tag", mounts, "0::/app.slice/term.scope\n")
    assert parents == {"": tmp_path / delegated / "tag"}
    assert (tmp_path / delegated / "tag/cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_version_2_groups_without_delegation_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "session.scope").mkdir()
    (tmp_path / "session.scope/cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    mounts = f"30 1 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n"
    assert cgroups.v2_parents("tag", mounts, "0::/session.scope\n") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cgroup.subtree_control", "session.scope"]
