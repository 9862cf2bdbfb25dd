"""What a command sees and what its answer says."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.contract.agent.rig import Agent, Client, running


async def test_an_answer_has_all_its_fields(client: Client) -> None:
    outcome = await client.run("echo out; echo err >&2; exit 3")
    assert outcome.pop("duration_ms") > 0
    assert outcome == {
        "stdout": "out\n",
        "stderr": "err\n",
        "returncode": 3,
        "success": False,
        "timed_out": False,
        "truncated": False,
    }


async def test_success_is_returncode_0(client: Client) -> None:
    outcome = await client.run("true")
    assert (outcome["returncode"], outcome["success"]) == (0, True)


async def test_argv_is_run_without_a_shell(client: Client) -> None:
    assert (await client.run(argv=["printf", "%s|", "$HOME", "a b", ""]))["stdout"] == "$HOME|a b||"


async def test_a_command_leads_its_own_session_and_group(client: Client, agent: Agent) -> None:
    fields = (await client.run("cut -d' ' -f1,4,5,6,7 /proc/$$/stat; true"))["stdout"].split()
    pid, parent, group, session, terminal = map(int, fields)
    assert (parent, group, session, terminal) == (agent.pid, pid, pid, 0)


async def test_signals_are_as_a_shell_would_have_them(client: Client) -> None:
    ignored = await client.run(argv=["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"])
    masks = [int(line.split()[1], 16) for line in ignored["stdout"].splitlines()]
    assert [mask & 0x7FFF_FFFF for mask in masks] == [0, 0]  # 32 and 33 are the C library's own


async def test_a_command_has_no_descriptor_of_the_agent(client: Client) -> None:
    assert (await client.run(argv=["ls", "/proc/self/fd"]))["stdout"].split() == ["0", "1", "2", "3"]


async def test_the_environment_is_the_sessions_without_the_agents_own(tmp_path: Path) -> None:
    extra = {"K_SERVICE": "s", "K_REVISION": "r", "PORT": "1", "KEEP": "é", "ONMEMOSX": "1"}
    with running(tmp_path, extra) as agent:
        async with agent.client() as client:
            outcome = await client.run(argv=["env"], env={"USER": "other", "NEW": "1"})
    names = dict(line.split("=", 1) for line in outcome["stdout"].splitlines())
    names.pop("LC_CTYPE", None)  # UTF-8 where no locale was given: Python's own doing (PEP 538), and welcome
    assert names == {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "WORKSPACE_ID": "ws-test-agent-1",
        "NAMESPACE": "test",
        "USER": "other",
        "BUCKET_NAME": "onmemos-test-developer",
        "KEEP": "é",
        "ONMEMOSX": "1",
        "NEW": "1",
    }


async def test_env_is_only_for_its_own_command(client: Client) -> None:
    await client.run("true", env={"LEFT": "1"})
    assert (await client.run("echo ${LEFT-none}"))["stdout"] == "none\n"


async def test_commands_start_in_the_work_folder(client: Client, agent: Agent) -> None:
    assert (await client.run("pwd"))["stdout"] == f"{agent.folder}\n"


async def test_cwd_is_relative_to_the_work_folder_or_absolute(client: Client, agent: Agent) -> None:
    (agent.folder / "a" / "b").mkdir(parents=True)
    assert (await client.run("pwd", cwd="a/b"))["stdout"] == f"{agent.folder}/a/b\n"
    assert (await client.run("pwd", cwd="/"))["stdout"] == "/\n"
    assert (await client.run("pwd"))["stdout"] == f"{agent.folder}\n"


async def test_a_relative_program_is_looked_for_in_cwd(client: Client, agent: Agent) -> None:
    (agent.folder / "tools").mkdir()
    _script(agent.folder / "tools" / "hello", "#!/bin/sh\necho hello\n")
    assert (await client.run(argv=["./hello"], cwd="tools"))["stdout"] == "hello\n"


@pytest.mark.parametrize("cwd", ["missing", "/etc/passwd", "x" * 5000])
async def test_a_cwd_that_is_no_folder_is_a_bad_request(client: Client, cwd: str) -> None:
    response = await client.post(command="true", cwd=cwd)
    assert response.status_code == 400
    assert response.json()["code"] == "bad_request"
    assert "cwd" in response.json()["errors"]


async def test_stdin_is_passed_and_then_ends(client: Client) -> None:
    assert (await client.run("cat", stdin="é\0x\n"))["stdout"] == "é\0x\n"


async def test_without_stdin_there_is_nothing_to_read(client: Client) -> None:
    assert (await client.run("cat; echo end"))["stdout"] == "end\n"
    assert (await client.run("cat; echo end", stdin=""))["stdout"] == "end\n"


async def test_stdin_larger_than_a_pipe_goes_through(client: Client) -> None:
    text = "0123456789abcdef" * 200_000
    assert (await client.run("cat", stdin=text))["stdout"] == text


@pytest.mark.parametrize("command", ["true", "head -c1", "exec 0<&-; sleep 0.1"])
async def test_stdin_that_nobody_reads_neither_hangs_nor_fails(client: Client, command: str) -> None:
    outcome = await client.run(command, stdin="x" * 5_000_000, timeout=10)
    assert outcome["returncode"] == 0


async def test_a_missing_program_is_127_as_in_a_shell(client: Client) -> None:
    for argv in (["no-such-program"], ["./no-such-program"], ["/etc/passwd/x"]):
        outcome = await client.run(argv=argv)
        assert (outcome["returncode"], outcome["stderr"]) == (127, f"{argv[0]}: not found\n")
    assert (await client.run("no-such-program"))["returncode"] == 127


async def test_a_program_that_cannot_be_executed_is_126(client: Client, agent: Agent) -> None:
    (agent.folder / "plain").write_text("echo no\n")
    (agent.folder / "plain").chmod(0o644)
    for argv, env in ((["./plain"], {}), (["plain"], {"PATH": str(agent.folder)}), (["/etc"], {})):
        outcome = await client.run(argv=argv, env=env)
        assert (outcome["returncode"], outcome["stderr"]) == (126, f"{argv[0]}: Permission denied\n")


async def test_a_script_with_a_missing_interpreter_is_127(client: Client, agent: Agent) -> None:
    _script(agent.folder / "orphaned", "#!/no/such/interpreter\n")
    assert (await client.run(argv=["./orphaned"]))["returncode"] == 127


async def test_a_script_without_an_interpreter_is_run_by_the_shell(client: Client, agent: Agent) -> None:
    _script(agent.folder / "bare", 'echo "got $1"\n')
    assert (await client.run(argv=["./bare", "x y"]))["stdout"] == "got x y\n"


async def test_programs_are_looked_for_in_the_commands_own_path(client: Client, agent: Agent) -> None:
    (agent.folder / "bin").mkdir()
    _script(agent.folder / "bin" / "mine", "#!/bin/sh\necho mine\n")
    assert (await client.run(argv=["mine"], env={"PATH": f"/nowhere:{agent.folder}/bin"}))["stdout"] == "mine\n"


async def test_death_by_signal_n_is_128_plus_n(client: Client) -> None:
    assert (await client.run("kill -KILL $$"))["returncode"] == 137
    assert (await client.run("kill -PIPE $$"))["returncode"] == 141


async def test_a_large_line_runs_and_a_larger_one_is_a_bad_request(client: Client) -> None:
    outcome = await client.run("cat <<END | wc -c\n" + "x" * 131_000 + "\nEND")
    assert outcome["stdout"].strip() == "131001"
    assert (await client.post(command="x" * 131_072)).status_code == 400


async def test_more_arguments_than_the_kernel_passes_are_a_bad_request(client: Client) -> None:
    response = await client.post(argv=["echo", *["x" * 131_000] * 60])
    assert response.status_code == 400
    assert "stdin" in response.json()["detail"]


async def test_output_that_is_not_utf_8_is_replaced(client: Client) -> None:
    outcome = await client.run(r"printf 'a\377\303\250\360\237\230\200b\0\033'")
    assert outcome["stdout"] == "a�è😀b\0\x1b"


async def test_fifty_commands_at_once_do_not_mix(client: Client) -> None:
    async def one(number: int) -> dict[str, Any]:
        return await client.run(f"cat; echo err{number} >&2; sleep 0.2; exit {number}", stdin=f"in{number}")

    outcomes = await asyncio.gather(*map(one, range(50)))
    for number, outcome in enumerate(outcomes):
        assert outcome["stdout"] == f"in{number}"
        assert outcome["stderr"] == f"err{number}\n"
        assert outcome["returncode"] == number


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
