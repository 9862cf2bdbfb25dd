"""The distribution as its users get it: a wheel, built from its sources alone, in an environment of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sdk.python.version import __version__

ROOT = Path(__file__).parents[3]
SOURCES = ("pyproject.toml", "README.md", "LICENSE")


def call(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its traces beside the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "sdk", source / "sdk", ignore=shutil.ignore_patterns("__pycache__"))
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", ".", cwd=source)
    (wheel,) = (source / "dist").iterdir()
    return wheel


def interpreter(version: str) -> str | None:
    """A Python of that version on this machine; a name on the PATH may be a shim that leads nowhere."""
    for name in (sys.executable, shutil.which(f"python{version}")):
        if name is None:
            continue
        check = f"import sys, venv; sys.exit('{version}' != '%d.%d' % sys.version_info[:2])"
        if subprocess.run([name, "-c", check], capture_output=True).returncode == 0:
            return name
    return None


@pytest.fixture(scope="module", params=["3.11", "3.12", "3.13"])
def programs(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with nothing but the wheel and what it asks for."""
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} here")
    home = tmp_path_factory.mktemp("home")
    call(found, "-m", "venv", "--without-pip", "venv", cwd=home)
    python = home / "venv" / "bin" / "python"
    call(sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-compile", wheel, cwd=home)
    return python.parent


def test_it_has_the_version_of_the_sources(wheel: Path) -> None:
    assert wheel.name == f"onmemos-{__version__}-py3-none-any.whl"


def test_both_clients_are_imported_and_typed(programs: Path, tmp_path: Path) -> None:
    program = (
        "from importlib.resources import files; from onmemos import AsyncOnMemOSClient, OnMemOSClient, __version__; "
        "OnMemOSClient('http://localhost:1', 'key').close(); typed = files('onmemos') / 'py.typed'; "
        "print(__version__, typed.is_file())"
    )
    assert call(programs / "python", "-I", "-c", program, cwd=tmp_path) == f"{__version__} True\n"


def test_every_module_is_in_it_and_needs_nothing_that_it_does_not_ask_for(programs: Path, tmp_path: Path) -> None:
    modules = sorted(
        ".".join(["onmemos", *path.relative_to(ROOT / "sdk" / "python").with_suffix("").parts])
        for path in (ROOT / "sdk" / "python").rglob("*.py")
        if path.name not in {"__init__.py", "__main__.py"}
    )
    assert "onmemos.cli.root" in modules
    call(programs / "python", "-I", "-c", f"import {', '.join(modules)}", cwd=tmp_path)


def test_the_command_is_installed(programs: Path, tmp_path: Path) -> None:
    onmemos = programs / "onmemos"
    assert call(onmemos, "--version", cwd=tmp_path) == f"onmemos {__version__}\n"
    assert call(onmemos, "--help", cwd=tmp_path).startswith("Usage: onmemos ")
    assert call(onmemos, "completion", "bash", cwd=tmp_path).rstrip().endswith("_onmemos_completion_setup;")
    assert call(programs / "python", "-m", "onmemos.cli", "--version", cwd=tmp_path) == f"onmemos {__version__}\n"
