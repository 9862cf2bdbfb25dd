"""Firebase's emulators with the stack beside them, once; only where ONMEMOS_TEST_FIREBASE names the CLI."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.settings import Firestore
from infra.local.stack import Stack
from tests.e2e.conftest import running_stack, settings_in
from tests.firebase.rig import ROOT, Firebase, Wanted, java_home, running_firebase

COMMAND = os.environ.get("ONMEMOS_TEST_FIREBASE", "")


def pytest_configure() -> None:
    """Exit code 2: asked for, but something is missing."""
    if COMMAND:
        try:
            java_home()
        except Wanted as exc:
            pytest.exit(f"test-firebase: {exc}", returncode=2)


@pytest.fixture(scope="session")
def firebase(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firebase]:
    if not COMMAND:
        pytest.skip("ONMEMOS_TEST_FIREBASE is not set: make test-firebase")
    with running_firebase(COMMAND, tmp_path_factory.mktemp("firebase")) as firebase:
        yield firebase


@pytest.fixture(scope="session")
def stack(firebase: Firebase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """As docs/firebase.md says: on Firebase's Firestore, and Firebase's functions know its emulators."""
    environment = {"ONMEMOS_FIRESTORE": Firestore.OFFICIAL, "FIRESTORE_EMULATOR_HOST": firebase.firestore}
    with running_stack(settings_in(tmp_path_factory.mktemp("home"), environment)) as stack:
        tell(firebase.folder, stack.settings.env_file)
        yield stack


def tell(folder: Path, env_file: Path) -> None:
    """Run the line that docs/firebase.md has for it."""
    (line,) = re.findall(r"^sed .*$", (ROOT / "docs/firebase.md").read_text(), re.MULTILINE)
    subprocess.run(line.replace(".onmemos/env", shlex.quote(str(env_file))), shell=True, cwd=folder, check=True)  # noqa: S602
