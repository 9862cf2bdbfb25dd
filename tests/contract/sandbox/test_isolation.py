"""What a container can see and do of the machine it runs on: nothing but what it was given."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from infra.sandbox.spec import Mount, SandboxError
from tests.contract.sandbox.conftest import Lab, until


async def test_a_command_runs_as_an_ordinary_user_in_its_workspace(lab: Lab) -> None:
    result = await lab.run("id -u; id -g; pwd; echo $HOME $GREETING; hostname; whoami", name="who")
    assert result.code == 0
    assert result.output.split("\n") == ["1000", "1000", "/workspace", "/workspace hi", "who", "user", ""]


async def test_its_facts_say_how_it_is_isolated(lab: Lab) -> None:
    result = await lab.run("true")
    assert result.container.facts["isolation"] == "bubblewrap"
    assert result.container.facts["egress"] == "none"
    assert result.container.facts["limits"] in ("cgroup", "rlimit")


async def test_the_exit_code_and_what_was_printed_are_kept(lab: Lab) -> None:
    result = await lab.run("echo out; echo err >&2; exit 7")
    assert (result.code, sorted(result.output.split())) == (7, ["err", "out"])


async def test_no_file_of_the_host_is_visible(lab: Lab) -> None:
    repository = Path(__file__).parents[3]
    paths = f"/root /home /etc/shadow /sys /boot /srv {repository} {lab.state} {lab.sockets} {Path.home()}"
    result = await lab.run(f"for p in {paths}; do test -e $p && echo $p; done; ls /proc/1/root/ >/dev/null; true")
    assert result.output == ""


async def test_the_system_cannot_be_written(lab: Lab) -> None:
    result = await lab.run(
        "for d in / /usr /etc /opt /opt/onmemos /dev /run /usr/bin; do touch $d/x 2>/dev/null && echo $d; done; true"
    )
    assert result.output == ""


async def test_only_its_own_processes_are_visible(lab: Lab) -> None:
    result = await lab.run("ls -d /proc/[0-9]* | wc -l; kill -0 -1 2>&1; test -r /proc/1/environ; true")
    assert int(result.output.split()[0]) <= 6


async def test_no_privilege_is_left(lab: Lab) -> None:
    result = await lab.run("grep -E 'Cap(Eff|Bnd|Prm)|NoNewPrivs|Seccomp:' /proc/self/status | sort")
    facts = dict(line.split(":\t") for line in result.output.strip().split("\n"))
    assert {facts["CapEff"], facts["CapBnd"], facts["CapPrm"]} == {"0" * 16}
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"


@pytest.mark.parametrize(
    "attempt",
    [
        "unshare -U true",
        "unshare -n true",
        "mount -t tmpfs x /tmp",
        "umount /workspace",
        "cp /bin/true /workspace/t && chmod u+s /workspace/t",
        "python3 -c \"import os; os.open('/workspace/s', os.O_CREAT | os.O_WRONLY, 0o4755)\"",
        'python3 -c "import socket; socket.socket(40, socket.SOCK_STREAM)"',  # AF_VSOCK: the machine's own host
        'python3 -c "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"',
        "ip route del prohibit 169.254.0.0/16",
        "hostname other",
        "mknod /workspace/disk b 8 0",
    ],
)
async def test_it_is_refused(lab: Lab, attempt: str) -> None:
    result = await lab.run(f"{attempt} 2>/dev/null && echo it worked; true")
    assert result.output == ""


async def test_it_runs_as_a_host_user_of_its_own_when_root_starts_it(lab: Lab) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    first = await lab.start("echo mine > note; sleep 60", name="first")
    second = await lab.start("echo mine > note; sleep 60", name="second")
    await until(lambda: all((lab.state / c.name / "workspace/note").exists() for c in (first, second)))
    uids = {_host_uid(c.name) for c in (first, second)}
    assert len(uids) == 2
    assert 0 not in uids
    assert (lab.state / "first" / "workspace" / "note").stat().st_uid == 0  # ours on disk, whoever wrote it


def _host_uid(name: str) -> int:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "root/etc/hostname").read_text().strip() == name:
                return process.stat().st_uid
        except OSError:
            continue
    raise AssertionError(f"no process of {name}")


async def test_the_workspace_is_kept_until_it_is_removed(lab: Lab) -> None:
    await lab.run("echo kept > note; mkdir shut; touch shut/x; chmod 0 shut; touch /tmp/gone", name="one")
    again = await lab.run("cat note; ls /tmp", name="one")
    assert again.output == "kept\n"
    await lab.runtime.remove("one")
    await lab.runtime.remove("one")
    assert not (lab.state / "one").exists()
    assert (await lab.run("ls", name="one")).output == ""


async def test_two_sessions_do_not_see_each_other(lab: Lab) -> None:
    first = await lab.start("echo secret > /workspace/note; echo secret > /tmp/note; exec sleep 60", name="first")
    result = await lab.run(
        "cat /tmp/note /workspace/note; ls /workspace /tmp /run/onmemos; ps ax | grep -c 'sleep 6[0]'", name="second"
    )
    assert "secret" not in result.output
    assert result.output.strip().endswith("0")
    await first.stop(grace_s=0)


async def test_mounts_are_writable_inside_unless_they_are_read_only(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "rw/sub").mkdir(parents=True)
    (tmp_path / "rw/sub/object").write_text("old")
    (tmp_path / "ro").mkdir()
    (tmp_path / "ro/object").write_text("fixed")
    mounts = (Mount(tmp_path / "rw", "/mnt/bucket"), Mount(tmp_path / "ro", "/data", read_only=True))
    result = await lab.run(
        "echo new > /mnt/bucket/sub/object; echo more > /mnt/bucket/more; cat /data/object; echo x > /data/object",
        mounts=mounts,
    )
    assert "fixed" in result.output
    assert (tmp_path / "rw/sub/object").read_text() == "new\n"
    assert (tmp_path / "rw/more").stat().st_uid == os.geteuid()
    assert (tmp_path / "ro/object").read_text() == "fixed"


async def test_a_mount_below_the_workspace_does_not_follow_the_sessions_links(lab: Lab, tmp_path: Path) -> None:
    mounts = (Mount(tmp_path, "/workspace/bucket"),)
    assert (await lab.run("echo x > bucket/x", name="one", mounts=mounts)).code == 0
    assert (tmp_path / "x").exists()
    await lab.run("rmdir bucket; ln -s /etc bucket", name="one")
    with pytest.raises(SandboxError, match="bucket in /workspace is not a folder"):
        await lab.run("true", name="one", mounts=mounts)


@pytest.mark.parametrize("target", ["relative", "/usr/share", "/mnt/../etc", "/opt/onmemos/agent", "/", "/run/onmemos"])
async def test_a_mount_cannot_cover_the_system(lab: Lab, tmp_path: Path, target: str) -> None:
    with pytest.raises(SandboxError, match="mount target"):
        await lab.run("true", mounts=(Mount(tmp_path, target),))


@pytest.mark.parametrize("name", ["../up", "Upper", "", "a/b", "-x", "a" * 64])
async def test_a_name_that_is_no_folder_is_refused(lab: Lab, name: str) -> None:
    with pytest.raises(SandboxError, match="container name"):
        await lab.runtime.remove(name)


async def test_a_running_name_cannot_be_started_twice(lab: Lab) -> None:
    await lab.start("sleep 60", name="one")
    with pytest.raises(SandboxError, match="already runs"):
        await lab.start("true", name="one")


async def test_the_agents_socket_is_reached_from_the_host(lab: Lab) -> None:
    serve = (
        "import socket; s = socket.create_server('/run/onmemos/agent.sock', family=socket.AF_UNIX);"
        " s.accept()[0].sendall(b'hello')"
    )
    container = await lab.start(f'exec python3 -c "{serve}"')
    assert await asyncio.wait_for(_read(container.socket), 5) == b"hello"
    assert await container.wait() == 0


async def test_a_session_cannot_point_the_agents_socket_at_another_one(lab: Lab, short_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as victim:
        victim.bind(str(short_folder / "victim"))
        victim.listen()
        container = await lab.start(f"ln -s {short_folder}/victim /run/onmemos/agent.sock; exec sleep 60")
        shared = lab.sockets / container.name / "run/agent.sock"
        await until(shared.is_symlink)
        with pytest.raises(OSError, match=r"No such file|Connection refused"):
            await _read(container.socket)


async def _read(path: Path) -> bytes:
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(str(path))
        except FileNotFoundError:
            if (path.parent / "run/agent.sock").is_symlink():
                raise
            await asyncio.sleep(0.01)
            continue
        try:
            return await reader.read()
        finally:
            writer.close()


async def test_python_pip_and_virtual_environments_work(lab: Lab) -> None:
    result = await lab.run(
        "python -c 'import ssl, sqlite3, ctypes; print(40 + 2)'; env -i $(command -v python3) -c 'print(43)';"
        " pip --version; python3 -m pip --version; git --version;"
        " python -m venv --without-pip v && v/bin/python -c 'import sys; print(sys.prefix)'",
    )
    lines = result.output.split("\n")
    assert result.code == 0, result.output
    assert lines[:2] == ["42", "43"]
    assert lines[2].startswith("pip ")
    assert lines[3].startswith("pip ")
    assert "/workspace/v" in lines
