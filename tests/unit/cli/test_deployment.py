"""Which deployment is meant."""

from pathlib import Path

import click
import pytest

from sdk.python.cli.deployment import deployment
from sdk.python.cli.invocation import Invocation, connect
from sdk.python.cli.output import Output

STACK = "ONMEMOS_API_KEY='local key'\nONMEMOS_URL=http://127.0.0.1:4321\nOTHER=1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".onmemos").mkdir()
    (tmp_path / ".onmemos" / "env").write_text(STACK)
    return tmp_path


def test_the_stack_of_this_folder_is_meant_where_nothing_is_given(folder: Path) -> None:
    found = deployment(None, None, 30, folder)
    assert (found.url, found.api_key) == ("http://127.0.0.1:4321", "local key")


def test_a_key_that_is_given_goes_to_no_address_that_a_folder_names(folder: Path) -> None:
    assert deployment(None, "mine", 30, folder).url == "http://localhost:8080"
    assert deployment("https://api.example", None, 30, folder).api_key is None


def test_only_this_machine_can_be_named_by_a_folder(folder: Path) -> None:
    (folder / ".onmemos" / "env").write_text("ONMEMOS_URL=https://elsewhere.example\nONMEMOS_API_KEY=k\n")
    found = deployment(None, None, 30, folder)
    assert (found.url, found.api_key) == ("http://localhost:8080", None)


@pytest.mark.parametrize("text", ["", "'", "ONMEMOS_URL", "ONMEMOS_API_KEY=k", "\0"])
def test_a_file_that_says_nothing_is_none(folder: Path, text: str) -> None:
    (folder / ".onmemos" / "env").write_text(text)
    assert deployment(None, None, 30, folder).url == "http://localhost:8080"


def test_without_a_file_the_usual_address_is_meant(tmp_path: Path) -> None:
    found = deployment("", "", 30, tmp_path)
    assert (found.url, found.api_key) == ("http://localhost:8080", None)


def test_the_key_is_not_in_what_is_printed_of_it() -> None:
    assert "secret" not in repr(deployment("http://x", "secret", 30, Path()))


@pytest.mark.parametrize(("url", "key"), [("nowhere", "k"), ("http://user:secret@x", "k"), ("http://x", "k\n")])
def test_a_url_or_key_that_cannot_be_one_is_misuse(url: str, key: str) -> None:
    invocation = Invocation(deployment(url, key, 30, Path()), Output(as_json=False), connect)
    with pytest.raises(click.UsageError) as caught:
        _ = invocation.client
    assert "secret" not in str(caught.value)


def test_the_client_is_that_of_the_deployment() -> None:
    invocation = Invocation(deployment("http://x:1/", "k", 7, Path()), Output(as_json=False), connect)
    assert invocation.client is invocation.client
    invocation.close()
    invocation.close()
