"""Python code as a file of its own: run here by the very command that a session would run."""

import os
import subprocess
from pathlib import Path

import pytest

from shared.errors import InvalidRequest
from shared.python_file import python_file
from shared.schemas import PythonCode


def run(code: str, folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    command = python_file(PythonCode(code, None), None)
    assert command.argv
    return subprocess.run(
        command.argv, input=command.stdin, cwd=folder, env={**os.environ, "TMPDIR": str(folder), **env},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_what_it_prints_comes_back_and_no_file_is_left(tmp_path: Path) -> None:
    done = run("print('Hello World')", tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("Hello World\n", "", 0)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_shows_the_users_line(tmp_path: Path) -> None:
    done = run("def f():\n    return 1 / 0  # here\n\nf()\n", tmp_path)
    assert done.returncode == 1
    assert "line 2, in f\n    return 1 / 0  # here" in done.stderr
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_a_syntax_error_shows_the_users_line(tmp_path: Path) -> None:
    done = run("x = (1,\nprint 'x'\n", tmp_path)
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr


@pytest.mark.parametrize(("statement", "returncode"), [("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('no')", 1)])
def test_the_exit_code_is_the_codes_own(tmp_path: Path, statement: str, returncode: int) -> None:
    assert run(f"import sys\n{statement}", tmp_path).returncode == returncode


def test_what_lies_about_takes_no_modules_name(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')")
    done = run("import json; print(json.dumps([1]))", tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.stdout, done.returncode) == ("[1]\n", 0)


def test_it_has_no_standard_input_and_runs_where_the_session_is(tmp_path: Path) -> None:
    done = run("import os, sys; print(repr(sys.stdin.read()), os.getcwd(), __name__)", tmp_path)
    assert done.stdout == f"'' {tmp_path} __main__\n"


def test_any_text_is_code(tmp_path: Path) -> None:
    text = "$HOME `id` \"q\" 'é' \\\\ ☃"
    assert run(f"print({text!r})", tmp_path).stdout == f"{text}\n"


@pytest.mark.parametrize("body", [PythonCode("2", None), None])
def test_code_in_both_places_or_in_none_is_refused(body: PythonCode | None) -> None:
    with pytest.raises(InvalidRequest, match=r"code: got it in (both|neither) of the query and the body"):
        python_file(PythonCode("1" if body else None, None), body)


def test_the_time_to_wait_is_the_bodys_the_querys_or_two_minutes() -> None:
    assert python_file(PythonCode(None, 5), PythonCode("1", 7)).timeout_s == 7
    assert python_file(PythonCode(None, 5), PythonCode("1", None)).timeout_s == 5
    assert python_file(PythonCode("1", None), None).timeout_s == 120
