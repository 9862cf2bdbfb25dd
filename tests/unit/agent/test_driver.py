"""What the shells are given to read: a real shell reads it here from a file; a running one is the contract tests'."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.workspace.agent.driver import BASH, CONTROL, SH, Dialect, quoted, status


@settings(deadline=None)  # another process' time is not ours
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_quoted_text_is_that_text_to_a_shell(text: str) -> None:
    written = subprocess.run(["/bin/sh", "-c", f"printf %s {quoted(text)}"], capture_output=True, check=True)
    assert written.stdout.decode() == text


def test_an_answer_is_a_code_and_a_folder() -> None:
    assert status(b"3 /a b") == (3, "/a b")
    assert status(b"130 ") == (130, "")
    assert status(b"0 /\xff") == (0, "/\N{REPLACEMENT CHARACTER}")
    with pytest.raises(ValueError, match="invalid literal"):
        status(b"forged")


@pytest.mark.parametrize("dialect", [BASH, SH])
def test_each_line_is_answered_and_the_state_lasts(dialect: Dialect, tmp_path: Path) -> None:
    if shutil.which(dialect.argv[0]) is None:
        pytest.skip(f"there is no {dialect.name}")
    lines = ["cd /; a=1", "echo $a; (exit 7)", "if", "echo it's", 'echo "$a" end']
    script = tmp_path / "script"
    answers = tmp_path / "answers"
    script.write_text(dialect.opening + dialect.recovery + "".join(map(dialect.command, lines)))
    run = subprocess.run(
        ["/bin/sh", "-c", f'exec {CONTROL}>"$0"; exec "$@"', answers, *dialect.argv[:-1], script],
        capture_output=True,
        text=True,
        check=False,
    )
    codes = [status(answer) for answer in answers.read_bytes().split(b"\0")[:-1]]
    assert codes == [(0, "/"), (7, "/"), (2, "/"), (2, "/"), (0, "/")]
    assert run.stdout == "1\n1 end\n"
