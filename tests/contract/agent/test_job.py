"""The runner of jobs as the platform runs it: a process of its own, a folder, signals."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

RUNNER = Path(__file__).parents[3] / "infra" / "workspace" / "agent" / "job.py"
QUICK = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import job; job.WRITTEN_EVERY_S = 0.02; job.GRACE_S = 0.3;"
    " job.DRAIN_S = 0.2; sys.exit(job.main(sys.argv[1:]))"
)


@dataclass
class Folder:
    """A job's folder, and the runner on it."""

    path: Path
    env: dict[str, str] = field(default_factory=dict)

    def start(self, line: str | None = None, **more: Any) -> "subprocess.Popen[bytes]":
        command = {"command": line, "argv": None, "timeout_s": 20, "cwd": str(self.path), "env": {}, **more}
        (self.path / "command.json").write_text(json.dumps(command))
        return self.start_again()

    def start_again(self) -> "subprocess.Popen[bytes]":
        arguments = [sys.executable, "-I", "-S", "-c", QUICK, str(RUNNER.parent), str(self.path)]
        return subprocess.Popen(arguments, env={"PATH": os.environ["PATH"], **self.env}, stderr=subprocess.PIPE)

    def run(self, line: str | None = None, **more: Any) -> int:
        return ended(self.start(line, **more))

    def stream(self, name: str = "stdout", attempt: int = 0) -> bytes:
        return b"".join(part.read_bytes() for part in self.parts(name, attempt))

    def parts(self, name: str = "stdout", attempt: int = 0) -> list[Path]:
        return sorted((self.path / str(attempt)).glob(f"{name}-*.log"))

    def result(self, attempt: int = 0) -> Any:
        return json.loads((self.path / str(attempt) / "result.json").read_text())

    def until(self, output: bytes) -> None:
        """Until that much can be read, while the command runs."""
        deadline = time.monotonic() + 10
        while output not in self.stream():
            assert time.monotonic() < deadline, self.stream()
            time.sleep(0.01)


def ended(process: "subprocess.Popen[bytes]") -> int:
    _, complaints = process.communicate(timeout=20)
    assert complaints == b"", complaints
    return process.returncode


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_exit_code_is_the_commands_and_its_streams_are_told_apart(folder: Folder) -> None:
    assert folder.run("echo out; echo err >&2; exit 7") == 7
    assert (folder.stream(), folder.stream("stderr")) == (b"out\n", b"err\n")
    result = folder.result()
    assert (result["returncode"], result["timed_out"], result["attempt"]) == (7, False, 0)
    assert result["started_at"] <= result["finished_at"]


def test_argv_is_run_without_a_shell_in_the_folder_and_environment_asked_for(folder: Folder) -> None:
    code = "import os; print(os.getcwd(), os.environ['A'], os.environ.get('ONMEMOS_X'), os.environ['CLOUD_RUN_JOB'])"
    folder.env = {"ONMEMOS_X": "ours", "CLOUD_RUN_JOB": "j", "A": "container's"}
    assert folder.run(argv=[sys.executable, "-c", code], env={"A": "job's"}) == 0
    assert folder.stream().decode() == f"{folder.path} job's None j\n"


def test_output_can_be_read_while_the_command_runs(folder: Folder) -> None:
    process = folder.start("echo first; read -r line < gate; echo $line")
    os.mkfifo(folder.path / "gate")
    folder.until(b"first\n")
    (folder.path / "gate").write_text("second\n")
    assert ended(process) == 0
    assert folder.stream() == b"first\nsecond\n"
    assert len(folder.parts()) == 1


def test_a_command_whose_time_is_up_is_ended_with_its_whole_group(folder: Folder) -> None:
    line = "sleep 60 & echo $! > child; trap '' TERM; echo on; wait; sleep 60"
    assert folder.run(line, timeout_s=0.5) == 124
    assert folder.result()["timed_out"] is True
    assert folder.stream() == b"on\n"
    assert not Path(f"/proc/{(folder.path / 'child').read_text().strip()}/cwd").exists()


def test_term_ends_the_command_and_what_it_says_then_is_kept(folder: Folder) -> None:
    process = folder.start("trap 'echo bye; exit 3' TERM; echo on; while :; do sleep 0.05; done")
    folder.until(b"on\n")
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 3
    assert folder.stream() == b"on\nbye\n"
    assert (folder.result()["returncode"], folder.result()["timed_out"]) == (3, False)


def test_a_command_that_a_signal_ended_has_its_code_as_in_a_shell(folder: Folder) -> None:
    assert folder.run("kill -KILL $$") == 137
    assert folder.result()["returncode"] == 137


def test_each_attempt_has_files_of_its_own(folder: Folder) -> None:
    assert folder.run("echo $CLOUD_RUN_TASK_ATTEMPT; exit 1") == 1
    folder.env = {"CLOUD_RUN_TASK_ATTEMPT": "1"}
    assert ended(folder.start_again()) == 1
    assert [folder.stream(attempt=0), folder.stream(attempt=1)] == [b"\n", b"1\n"]
    assert folder.result(1)["attempt"] == 1


def test_of_a_stream_without_end_the_first_and_the_newest_parts_stay(folder: Folder) -> None:
    assert folder.run(f"head -c {70 << 20} /dev/zero; echo end") == 0
    parts = folder.parts()
    assert len(parts) == 64
    assert [part.name for part in parts[:2]] == ["stdout-000000.log", "stdout-000008.log"]
    assert {part.stat().st_size for part in parts[:-1]} == {1 << 20}
    assert parts[-1].read_bytes() == b"end\n"


def test_a_program_that_is_not_there_or_none_is_said_as_in_a_shell(folder: Folder) -> None:
    assert folder.run(argv=["no-such-program"]) == 127
    assert folder.stream("stderr") == b"no-such-program: No such file or directory\n"
    (folder.path / "data").write_text("x")
    folder.env = {"CLOUD_RUN_TASK_ATTEMPT": "1"}
    assert folder.run(argv=["./data"]) == 126
    assert folder.result(1)["returncode"] == 126


def test_a_folder_that_is_not_there_is_the_one_that_is_named(folder: Folder) -> None:
    assert folder.run("true", cwd=f"{folder.path}/none") == 127
    assert folder.stream("stderr").decode() == f"{folder.path}/none: No such file or directory\n"


def test_a_folder_of_a_programs_name_is_no_program(folder: Folder) -> None:
    (folder.path / "one" / "program").mkdir(parents=True)
    (folder.path / "two").mkdir()
    (folder.path / "two" / "program").symlink_to("/bin/echo")
    assert folder.run(argv=["program", "hi"], env={"PATH": f"{folder.path}/one:{folder.path}/two"}) == 0
    assert folder.stream() == b"hi\n"


def test_a_script_without_an_interpreter_is_the_shells(folder: Folder) -> None:
    script = folder.path / "script"
    script.write_text("echo $1\n")
    script.chmod(0o755)
    assert folder.run(argv=["./script", "hi"]) == 0
    assert folder.stream() == b"hi\n"


def test_a_pipe_that_nobody_reads_ends_its_writer(folder: Folder) -> None:
    assert folder.run("yes | head -n 1") == 0
    assert folder.stream() == b"y\n"


def test_whoever_leaves_the_group_and_holds_the_output_open_does_not_hold_up_the_end(folder: Folder) -> None:
    assert folder.run("setsid sleep 5 & echo on") == 0
    assert folder.stream() == b"on\n"


def test_without_a_command_nothing_is_run_and_that_is_said(folder: Folder) -> None:
    process = folder.start_again()
    _, complaint = process.communicate(timeout=20)
    assert process.returncode == 125
    assert b"holds no command" in complaint


def test_the_runner_needs_nothing_but_the_standard_library(folder: Folder) -> None:
    (folder.path / "command.json").write_text(
        json.dumps({"command": "echo hi", "argv": None, "timeout_s": 5, "cwd": str(folder.path), "env": {}})
    )
    subprocess.run([sys.executable, "-I", "-S", str(RUNNER), str(folder.path)], env={}, timeout=20, check=True)
    assert folder.stream() == b"hi\n"
