"""Nothing stays behind: not after remove, not after close, not after the runtime itself was killed."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from infra.sandbox.runtime import open_runtime
from infra.sandbox.spec import SandboxStartFailed, SandboxUnavailable
from tests.contract.sandbox.conftest import Lab, opened, until

ONE = f"one-{os.getpid()}"  # control groups are looked for by name, and another worker has some too


def _mark(number: int) -> str:
    """A number of seconds to sleep that tells one test's processes from all others."""
    return f"9{os.getpid()}{number}"


def _processes(mark: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(mark.encode() in word for word in words) and int(process.name) != os.getpid():
            found.append(process.name)
    return found


def _sleeping(mark: str) -> list[str]:
    """The commands themselves, without the programs that start them and have them in their arguments."""
    return [pid for pid in _processes(mark) if Path(f"/proc/{pid}/cmdline").read_bytes() == f"sleep\0{mark}\0".encode()]


def _groups(mark: str) -> list[Path]:
    return [Path(folder) / name for folder, names, _ in os.walk("/sys/fs/cgroup") for name in names if mark in name]


def _mounts(mark: str) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if mark in line]


async def test_stop_ends_every_process_and_keeps_the_workspace(lab: Lab) -> None:
    mark = _mark(1)
    script = f"trap '' TERM; (setsid sleep {mark} &) ; touch ready; sleep {mark}; sleep {mark}"
    container = await lab.start(script, name=ONE)
    await until(lambda: (lab.state / f"{ONE}/workspace/ready").exists())
    await container.stop(grace_s=0.1)
    await container.stop()
    assert await container.wait() == 137
    assert _processes(mark) == []
    assert _groups(ONE) == []
    assert sorted(p.name for p in lab.state.iterdir()) == [ONE]
    assert [p.name for p in lab.sockets.iterdir()] == [".lock"]


async def test_a_command_that_obeys_ends_with_its_own_code(lab: Lab) -> None:
    script = "trap 'exit 3' TERM; echo ready > flag; while true; do sleep 0.05; done"
    container = await lab.start(script, name="one")
    await until(lambda: (lab.state / "one/workspace/flag").exists())
    await container.stop(grace_s=5)
    assert await container.wait() == 3


async def test_removing_and_closing_leaves_nothing(short_folder: Path) -> None:
    async with opened(short_folder) as lab:
        await lab.start("sleep 60", name="left-removed")
        await lab.start("sleep 60", name="left-closed")
        await lab.runtime.remove("left-removed")
        await lab.runtime.remove("never-there")
        assert [p.name for p in lab.state.iterdir()] == ["left-closed"]
        await lab.runtime.close()
        await lab.runtime.close()
    assert _groups("left-") == []
    assert _mounts(str(short_folder)) == []
    assert [p.name for p in lab.sockets.iterdir()] == [".lock"]


@pytest.mark.parametrize("egress_kind", ["none", "slirp4netns", "pasta", "proxy"])
async def test_killing_the_runtime_ends_its_containers_and_the_next_one_cleans_up(
    short_folder: Path, egress_kind: str
) -> None:
    mark = _mark(2)
    program = f"""
import asyncio, sys
from pathlib import Path
from infra.sandbox.runtime import open_runtime
from infra.sandbox.spec import ContainerSpec, SandboxUnavailable
async def main():
    folder = Path({str(short_folder)!r})
    try:
        runtime = await open_runtime(
            "bubblewrap", state=folder / "state", sockets=folder / "s", egress_kind={egress_kind!r}
        )
    except SandboxUnavailable as exc:
        print("skip", exc, flush=True)
        return
    await runtime.start(ContainerSpec("one", "", command=("sleep", {mark!r})))
    await runtime.start(ContainerSpec("two", "", command=("sh", "-c", "trap : TERM; sleep {mark}; true")))
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert process.stdout is not None
    said = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    if said.startswith("skip"):
        await process.wait()
        pytest.skip(said)
    await until(lambda: len(_sleeping(mark)) == 2)  # both run, not only start
    helpers = _egress_helpers(process.pid)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await until(lambda: not _processes(mark) and not any(_alive(pid) for pid in helpers))
    runtime = await open_runtime(
        "bubblewrap", state=short_folder / "state", sockets=short_folder / "s", egress_kind="none"
    )
    assert [p.name for p in (short_folder / "s").iterdir()] == [".lock"]
    await runtime.close()
    assert sorted(p.name for p in (short_folder / "state").iterdir()) == ["one", "two"]


def _egress_helpers(pid: int) -> list[int]:
    """slirp4netns and pasta processes below `pid`, by their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            session = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            words = (process / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if session == pid and (b"slirp4netns" in words or b"pasta" in words):
            found.append(int(process.name))
    return found


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


async def test_empty_groups_of_runtimes_that_nobody_opens_again_are_removed(short_folder: Path) -> None:
    async with opened(short_folder / "a") as lab:
        container = await lab.start("sleep 60", name=ONE)
        if container.facts["limits"] != "cgroup":
            pytest.skip("no control groups can be had here")
        parent = _groups(ONE)[0].parent.parent
        for name in ("onmemos-stale", "onmemos-stale/one"):
            (parent / name).mkdir()
        async with opened(short_folder / "b"):
            assert not (parent / "onmemos-stale").exists()
            assert _groups(ONE) != []
        await container.stop(grace_s=0)
        async with opened(short_folder / "c"):  # takes away the first one's parent, which is empty now
            assert (await lab.run("true")).container.facts["limits"] == "cgroup"


async def test_two_runtimes_cannot_share_a_folder(lab: Lab) -> None:
    with pytest.raises(SandboxUnavailable, match="another runtime works there"):
        await open_runtime("bubblewrap", state=lab.state, sockets=lab.sockets)


async def test_a_start_that_fails_leaves_nothing_and_says_why(lab: Lab, tmp_path: Path) -> None:
    """A source that vanished after it was checked is what the isolating program itself complains about."""
    from infra.sandbox.spec import Mount

    class Vanishing(type(tmp_path)):  # type: ignore[misc]
        def is_dir(self) -> bool:
            return True

    try:
        container = await lab.start("true", name=ONE, mounts=(Mount(Vanishing(tmp_path / "gone"), "/mnt/x"),))
    except SandboxStartFailed as exc:
        said = str(exc)
    else:  # for an ordinary user the program mounts by itself, after it said which process it is
        assert await container.wait() != 0
        said = container.log_tail()
    assert "gone" in said
    assert [p.name for p in lab.sockets.iterdir()] == [".lock"]
    assert _groups(ONE) == []
    assert (await lab.run("true", name=ONE)).code == 0


async def test_cancelling_a_start_leaves_nothing(lab: Lab) -> None:
    mark = _mark(3)
    for turns in range(0, 60, 6):
        task = asyncio.create_task(lab.start(f"sleep {mark}", name="one"))
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.sleep(turns / 2000)
        task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(done[0], BaseException):
            await done[0].stop(grace_s=0)
    await lab.runtime.remove("one")
    assert _processes(mark) == []
    assert [p.name for p in lab.sockets.iterdir()] == [".lock"]


async def test_a_socket_path_that_is_too_long_is_named(short_folder: Path) -> None:
    deep = short_folder / ("d" * 80)
    with pytest.raises(SandboxUnavailable, match="a Unix socket's may have 107"):
        await open_runtime("bubblewrap", state=deep, sockets=deep)


async def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="wanted one of auto, bubblewrap, gvisor, docker"):
        await open_runtime("chroot", state=tmp_path, sockets=tmp_path)
