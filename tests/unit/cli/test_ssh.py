"""ssh: the platform's own command takes this process' place, and nothing but that."""

from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.unit.cli.invoking import SESSION, onmemos
from tests.unit.sdk.scripted import Turn, ok

ID = SESSION["id"]
COMMAND = "gcloud workstations ssh --project=p --region=r 'ws one'"


class Replaced(Exception):
    """The process runs something else now."""


def connection(command: str | None) -> Turn:
    ssh = None if command is None else {"command": command, "host": "h"}
    return ok(url="http://agent", websocket=None, ticket="t", expires_at="2999-11-25T10:00:00Z", ssh=ssh)


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    seen: list[tuple[str, list[str]]] = []

    def execvp(program: str, words: list[str]) -> NoReturn:
        seen.append((program, words))
        raise Replaced

    monkeypatch.setattr("os.execvp", execvp)
    return seen


def test_it_runs_the_command_of_the_platform(executed: list[Any]) -> None:
    with pytest.raises(Replaced):
        onmemos("ssh", ID, turns=[connection(COMMAND)])
    assert executed == [("gcloud", ["gcloud", "workstations", "ssh", "--project=p", "--region=r", "ws one"])]


def test_it_prints_the_command_instead(executed: list[Any]) -> None:
    called = onmemos("ssh", ID, "--print", turns=[connection(COMMAND)])
    assert (called.code, called.stdout, executed) == (0, f"{COMMAND}\n", [])


@pytest.mark.parametrize("command", ["rm -rf x", "/tmp/gcloud ssh", "", "sh -c gcloud", "gcloud '"])
def test_a_service_cannot_have_this_machine_run_anything_else(command: str, executed: list[Any]) -> None:
    called = onmemos("ssh", ID, turns=[connection(command)])
    assert (called.code, called.stdout, executed) == (1, "", [])
    assert "--print shows it" in called.stderr


def test_a_provider_without_ssh_is_named_and_the_one_that_has_it(executed: list[Any]) -> None:
    called = onmemos("ssh", ID, turns=[connection(None), ok(**SESSION)])
    assert (called.code, executed) == (1, [])
    assert called.stderr == (
        f"onmemos: {ID} is on cloud_run, which has no SSH; workstations has: "
        f"onmemos move {ID} --to workstations, or onmemos shell {ID} here\n"
    )


def test_without_gcloud_it_says_so(tmp_path: Path) -> None:
    called = onmemos("ssh", ID, turns=[connection(COMMAND)], env={"PATH": str(tmp_path)})
    assert called.code == 1
    assert called.stderr.startswith("onmemos: gcloud is not installed")
