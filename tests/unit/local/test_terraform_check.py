"""`make terraform`, with a program in Terraform's place that says what it was asked."""

from pathlib import Path

import pytest

from infra.terraform_check import FOLDER, check

SAYS = """#!/bin/sh
shift
echo "$@" >> "$ASKED"
echo "$TF_DATA_DIR" > "$ASKED.data"
test "$1" != init || echo stand-in > "$FOLDER/.terraform.lock.hcl"
test "$1" != "$FAILS"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module; `terraform` on PATH writes its arguments to `asked` beside it, and fails at the step $FAILS."""
    program, module = tmp_path / "bin" / "terraform", tmp_path / "module"
    program.parent.mkdir()
    module.mkdir()
    program.write_text(SAYS)
    program.chmod(0o755)
    for name, value in {"ASKED": tmp_path / "asked", "FOLDER": module, "FAILS": "none"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return module


def asked(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder.parent / "asked").read_text().splitlines()]


def test_format_arguments_and_tests_are_checked_in_this_order(folder: Path) -> None:
    assert check(folder, ["-filter=tests/access.tftest.hcl"]) == 0
    assert asked(folder) == ["fmt", "init", "validate", "test"]
    assert "test -filter=tests/access.tftest.hcl" in (folder.parent / "asked").read_text()


def test_what_follows_a_failure_is_not_tried(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAILS", "validate")
    assert check(folder) != 0
    assert asked(folder) == ["fmt", "init", "validate"]
    assert "terraform validate failed" in capsys.readouterr().err


def test_nothing_stays_behind(folder: Path) -> None:
    check(folder)
    assert list(folder.iterdir()) == []
    assert not Path((folder.parent / "asked.data").read_text().strip()).exists()


def test_a_lock_file_of_one_s_own_stays_as_it_is(folder: Path) -> None:
    lock = folder / ".terraform.lock.hcl"
    lock.write_text("mine")
    check(folder)
    assert lock.read_text() == "mine"


def test_without_terraform_it_says_what_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check(FOLDER) == 2
    assert "wanted Terraform 1.9 or newer" in capsys.readouterr().err
