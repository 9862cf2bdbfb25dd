import os
import subprocess
from pathlib import Path

import pytest

from infra.local.home import HomeTaken, claimed, keep_ticket_key, write_env
from infra.local.settings import Settings
from shared.tickets import Tickets
from shared.wiring import utc_now


def test_one_stack_at_a_time_lives_in_a_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with claimed(settings), pytest.raises(HomeTaken, match=f"process {os.getpid()}"), claimed(settings):
        pass
    with claimed(settings):
        assert settings.runtime.stat().st_mode & 0o777 == 0o700
    assert not settings.runtime.exists()


def test_what_a_killed_stack_left_is_removed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.runtime.mkdir(mode=0o700)
    (settings.runtime / "old").touch()
    settings.env_file.touch()
    with claimed(settings):
        assert list(settings.runtime.iterdir()) == []
        assert not settings.env_file.exists()


def test_a_runtime_folder_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.runtime.mkdir()
    settings.runtime.chmod(0o755)
    try:
        with pytest.raises(HomeTaken, match="is not ours"), claimed(settings):
            pass
    finally:
        settings.runtime.rmdir()


def test_the_ticket_key_is_made_once_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "tickets.pem"
    keep_ticket_key(path)
    first = path.read_text(encoding="utf-8")
    keep_ticket_key(path)
    assert path.read_text(encoding="utf-8") == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert Tickets(first, clock=utc_now).public_keys()


def test_a_shell_and_docker_read_the_same_values_from_the_env_file(tmp_path: Path) -> None:
    environment = {
        "ONMEMOS_IMAGE": "onmemos/workspace-{template}:local",
        "ONMEMOS_FUNCTION_URL": "http://127.0.0.1:8081/{function}",
        "ONMEMOS_API_KEY": "your-api-key",
    }
    path = tmp_path / "env"
    write_env(path, environment)
    as_docker_reads = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())
    command = ["/bin/sh", "-c", "set -a; . ./env; exec env"]
    as_the_shell_reads = subprocess.run(
        command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    ).stdout
    assert as_docker_reads == environment
    assert environment.items() <= dict(line.split("=", 1) for line in as_the_shell_reads.splitlines()).items()
