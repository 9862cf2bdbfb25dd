"""What a function's process loads and builds, and when: a cold start pays for nothing that its call does not use."""

import subprocess
import sys

import pytest

from shared.offer import deferred

CLIENTS = (
    "aiohttp",
    "google.api_core",
    "google.cloud.firestore_v1",
    "google.cloud.run_v2",
    "google.cloud.storage",
    "google.cloud.tasks_v2",
    "google.cloud.workstations_v1",
    "cryptography",
    "grpc",
    "kubernetes",
    "requests",
)


def test_an_adapter_is_built_when_it_is_first_used_and_not_again() -> None:
    built = []

    def build() -> str:
        built.append("one")
        return "Abc"

    adapter = deferred(build)
    assert built == []
    assert (adapter.upper(), adapter.lower(), adapter.upper()) == ("ABC", "abc", "ABC")
    assert built == ["one"]


def loaded_by(program: str) -> set[str]:
    """The modules of a process that has run this."""
    command = [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Of a process that has loaded all functions and was called by nobody."""
    return loaded_by("import main")


@pytest.mark.parametrize("client", CLIENTS)
def test_no_client_is_loaded_before_the_first_call(loaded: set[str], client: str) -> None:
    assert not {name for name in loaded if name == client or name.startswith(f"{client}.")}


def test_what_every_command_asks_of_cloud_run_loads_no_client_of_it() -> None:
    program = """
import asyncio
from shared.models import Resources
from shared.providers.base import Wanted
from shared.providers.cloud_run import CloudRun
from shared.providers.cloud_run_api import CloudRunSettings
from tests.fakes import a_session
provider = CloudRun(None, None, CloudRunSettings("p", "us-central1"))
provider.check(Wanted("python", Resources()))
provider.access(a_session())
asyncio.run(provider.address(a_session()))
"""
    assert "google.cloud.run_v2" not in loaded_by(program)
