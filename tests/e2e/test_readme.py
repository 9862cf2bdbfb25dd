"""The README tells the truth: its commands run as printed, its Python runs, its make targets and settings exist."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from infra.local.stack import Stack
from shared.template_file import read_templates

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SETTINGS_OF_A_DEPLOYMENT = re.findall(r'"(\w+)"', (ROOT / "shared/config.py").read_text(encoding="utf-8"))
PRINTED_URL, PRINTED_KEY = "http://localhost:8080", "your-api-key"


def here(text: str, stack: Stack) -> str:
    """A printed command, for this stack's address, key and home."""
    for scheme in ("http", "ws"):
        text = text.replace(PRINTED_URL.replace("http", scheme), stack.base_url.replace("http", scheme))
    text = text.replace(PRINTED_KEY, stack.api_key)
    return text.replace(".onmemos/env", str(stack.home / "env"))


@cache
def help_of(command: str) -> str:
    return shell(command)


def shell(script: str, **env: str) -> str:
    done = subprocess.run(
        ["/bin/sh", "-euc", script], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_lines_run_as_printed(stack: Stack) -> None:
    lines = [block for kind, block in BLOCKS if kind == "sh" and "curl" in block]
    create, others = lines[0], [line for block in lines[1:] for line in re.split(r"\n\n", block.strip())]
    session = re.search(r'"id":\s*"(ws-[^"]+)"', shell(here(create, stack).replace("curl ", "curl -sS ")))
    assert session
    answers = [shell(here(line, stack).replace("curl ", "curl -sS "), SESSION=session[1]) for line in others]
    execute, get, listed, delete = answers
    assert re.search(r'"stdout":\s*"Python 3', execute)
    assert re.search(r'"status":\s*"running"', get)
    assert session[1] in listed
    assert re.search(r'"success":\s*true', delete)


PROGRAMS = [block for kind, block in BLOCKS if kind == "python"]
PRINTED = [r"Python 3\.\d+", r"3\n\nHello from /tmp\n\nkept\n\ncounted to 3\n", r"welcome\ntotal \d"]


@pytest.mark.parametrize(
    ("program", "printed"),
    list(zip(PROGRAMS, PRINTED, strict=True)),
)
def test_the_python_runs_as_printed(stack: Stack, program: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", here(program, stack)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert re.match(printed, done.stdout), done.stdout


def test_the_command_line_runs_as_printed(stack: Stack) -> None:
    (block,) = (block for kind, block in BLOCKS if kind == "sh" and "onmemos run" in block)
    onmemos = f'onmemos() {{ {Path(sys.executable).with_name("onmemos")} "$@"; }}\n'
    printed = shell(onmemos + block, ONMEMOS_URL=stack.base_url, ONMEMOS_API_KEY=stack.api_key)
    assert printed.startswith("42\n")
    assert "workstations" in printed
    assert "about 0.167 USD an hour" in printed
    assert re.search(r"^onmemos_[\w-]{43}$", printed, re.MULTILINE)


def test_a_deployments_templates_are_read_as_printed(tmp_path: Path) -> None:
    (block,) = (block for kind, block in BLOCKS if kind == "yaml")
    file = tmp_path / "templates.yaml"
    file.write_text(block)
    (template,) = read_templates(str(file))
    assert (template.name, template.resources.cpu, template.requires) == ("ml", 4.0, ("python3",))


def test_the_stacks_addresses_can_be_sourced(stack: Stack) -> None:
    (block,) = (block for kind, block in BLOCKS if kind == "sh" and "set -a" in block)
    printed = shell(here(block, stack) + "\nenv")
    for name in ("FIRESTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "CLOUD_TASKS_EMULATOR_HOST"):
        assert f"{name}={stack.environment[name]}" in printed


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)", README))))
def test_every_make_target_exists_and_is_in_the_help(target: str) -> None:
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"make {target} " in help_of("make help")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bONMEMOS_[A-Z_]+", README))))
def test_every_setting_exists(name: str) -> None:
    help_text = help_of(f"{sys.executable} -m infra.local up --help")
    assert name in help_text or name in SETTINGS_OF_A_DEPLOYMENT
