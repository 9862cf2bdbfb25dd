"""Makes the virtual environment and installs the pinned requirements: `python3 infra/local/bootstrap.py local|dev`.

Runs on nothing but the standard library, and tells an older Python what is wanted. Does nothing, at once, when what it
installed last is what the requirements say. Two at a time wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

PROJECT = Path(__file__).resolve().parents[2]
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
COMMAND = VENV / "bin" / "onmemos"  # what the distribution installs, here from the sources as they are
WANTED = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")

REQUIREMENTS = ("constraints.txt", "requirements.txt", "requirements-local.txt", "requirements-dev.txt")
FILES = {"local": REQUIREMENTS[:3], "dev": REQUIREMENTS}  # each includes the ones before it
TAIL_LINES = 12


def main(arguments: list[str]) -> int:
    kind = arguments[0] if arguments else "local"
    if kind not in FILES:
        return complain(f"bootstrap.py: got '{kind}', wanted one of {', '.join(FILES)}")
    if sys.version_info < WANTED:
        return with_newer_python(arguments)
    if is_current(kind):
        return 0
    with (PROJECT / REQUIREMENTS[0]).open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return 0 if is_current(kind) else install(kind)


def with_newer_python(arguments: list[str]) -> int:
    """Go on with a newer Python if this machine has one."""
    for name in NEWER:
        found = shutil.which(name)
        if found:
            return subprocess.call([found, __file__, *arguments])
    return complain(
        f"this is Python {platform.python_version()} ({sys.executable}); wanted 3.11 or newer. "
        "Install one, and if it is not called python3: make PYTHON=python3.12"
    )


def is_current(kind: str) -> bool:
    """Whether what this kind wants is installed. What `dev` installs holds all that `local` wants."""
    return (
        COMMAND.exists()
        and PYTHON.exists()
        and any(stamp(each).exists() for each in FILES if set(FILES[each]) >= set(FILES[kind]))
    )


def stamp(kind: str) -> Path:
    """A file that is there when exactly these requirements are installed."""
    digest = hashlib.sha256(str(VENV).encode())  # the programs in a virtual environment hold its path
    for name in FILES[kind]:
        digest.update((PROJECT / name).read_bytes())
    return VENV / f".{kind}-{digest.hexdigest()[:16]}"


def install(kind: str) -> int:
    """Make what is missing; the exit code."""
    began = time.monotonic()
    if not works():
        shutil.rmtree(VENV, ignore_errors=True)
        say("making a virtual environment in .venv")
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(VENV)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if made.returncode != 0:
            shutil.rmtree(VENV, ignore_errors=True)
            return no_venv(made.stdout.decode(errors="replace"))
    code = pip("install", "--require-virtualenv", "--progress-bar", "off", "-r", str(PROJECT / FILES[kind][-1]))
    if code != 0:
        return code
    write_command()
    for old in VENV.glob(f".{kind}-*"):
        old.unlink()
    stamp(kind).touch()
    say(f"installed in {time.monotonic() - began:.0f} s")
    return 0


def write_command() -> None:
    """The command line of the repository's own SDK."""
    program = f"import sys; sys.path[0] = {str(PROJECT)!r}; from sdk.python.cli import main; main()"
    words = shlex.join([str(PYTHON), "-c", program])  # a shell's line: a #! line is short and knows no spaces
    COMMAND.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
    COMMAND.chmod(0o755)


def works() -> bool:
    """Whether there is a virtual environment of a Python new enough, with pip in it."""
    check = f"import sys, pip; sys.exit(sys.version_info < {WANTED})"
    return PYTHON.exists() and subprocess.call([str(PYTHON), "-c", check], stderr=subprocess.DEVNULL) == 0


def no_venv(output: str) -> int:
    if "ensurepip" in output:
        version = ".".join(platform.python_version_tuple()[:2])
        return complain(
            f"{sys.executable} cannot make virtual environments: its ensurepip is missing. On Debian and Ubuntu: "
            f"apt install python3-venv (or python{version}-venv); elsewhere: a Python with venv and pip"
        )
    return complain(f"no virtual environment could be made in {VENV}:\n{last_lines(output)}")


def pip(*arguments: str) -> int:
    """Run pip with a line that says what it is at; its output is shown only when it fails."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
        )
        try:
            follow(process, log)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            return 130
        if process.wait() != 0:
            log.seek(0)
            return complain(
                f"pip could not install the requirements (exit code {process.returncode}); wanted: a network that "
                f"reaches PyPI, or a mirror that pip is configured for. Its last lines:\n{last_lines(log.read())}"
            )
    return 0


def follow(process: subprocess.Popen[str], log: TextIO) -> None:
    began, collected, what = time.monotonic(), 0, "asking the package index"
    for line in process.stdout or ():
        log.write(line)
        words = line.split()
        if line.startswith("Collecting "):
            collected += 1
            what = f"package {collected}: {words[1]}"
        elif line.startswith("Installing collected packages"):
            what = f"unpacking {line.count(',') + 1} packages"
        progress(f"installing, {time.monotonic() - began:3.0f} s: {what}")
    progress("")


def progress(text: str) -> None:
    """Replace the line on a terminal; nothing elsewhere."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stdout.write(f"\r\x1b[K{text[:width]}")
        sys.stdout.flush()


def say(text: str) -> None:
    sys.stdout.write(text + os.linesep)
    sys.stdout.flush()


def complain(text: str) -> int:
    sys.stderr.write(text + os.linesep)
    return 1


def last_lines(output: str) -> str:
    return "\n".join(f"  {line}" for line in output.splitlines()[-TAIL_LINES:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
