"""up and completion: what concerns this machine alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from sdk.python.cli.here import VARIABLE, find_repository
from sdk.python.cli.root import root
from tests.unit.cli.invoking import onmemos

ROOT = Path(__file__).parents[3]


def started(folder: Path, path: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sdk.python.cli", "up"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One whose `make up` says where it is run."""
    (tmp_path / "infra" / "local" / "deep").mkdir(parents=True)
    (tmp_path / "Makefile").write_text("up:\n\t@echo up in $$PWD; exit 3\n")
    return tmp_path


def test_up_is_make_up_in_the_repository_above(repository: Path) -> None:
    done = started(repository / "infra" / "local" / "deep", os.environ["PATH"])
    assert done.stdout == f"up in {repository.resolve()}\n"
    assert done.returncode == 2  # make's own


def test_up_elsewhere_says_what_is_wanted(tmp_path: Path) -> None:
    done = started(tmp_path, os.environ["PATH"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"onmemos: no OnMemOS repository in {tmp_path.resolve()} or above it: wanted a Makefile beside infra/local\n"
    )


def test_up_without_make_says_so(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    done = started(repository, str(tmp_path_factory.mktemp("empty")))
    assert (done.returncode, done.stderr) == (1, "onmemos: make is not installed\n")


def test_this_repository_is_one() -> None:
    assert find_repository(ROOT / "sdk" / "python") == ROOT


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_that_of_the_shell(shell: str) -> None:
    called = onmemos("completion", shell)
    assert (called.code, called.stderr) == (0, "")
    assert f"{VARIABLE}={shell}_complete" in called.stdout


def test_other_shells_are_misuse() -> None:
    assert onmemos("completion", "tcsh").code == 2


def completed(*words: str, incomplete: str = "") -> list[str]:
    return [
        item.value for item in ShellComplete(root, {}, "onmemos", VARIABLE).get_completions(list(words), incomplete)
    ]


def test_commands_and_options_are_completed() -> None:
    assert completed(incomplete="se") == ["sessions"]
    assert completed("sessions") == ["ls", "get", "create", "extend", "update", "rm"]
    assert completed("run", incomplete="--keep") == ["--keep-bucket", "--keep"]
    assert completed("sessions", "ls", "--status", incomplete="r") == ["running"]


@pytest.mark.parametrize("words", [["exec"], ["run"], ["sessions", "rm"], ["jobs", "get", "ws-1"]])
def test_where_nobody_answers_nothing_is_offered(words: list[str]) -> None:
    assert completed("--url", "http://127.0.0.1:1", *words) == []
    assert completed("--url", "nowhere", *words) == []


def test_nothing_is_printed_into_the_prompt(capfd: pytest.CaptureFixture[str]) -> None:
    completed("--url", "http://127.0.0.1:1", "exec")
    assert capfd.readouterr() == ("", "")
