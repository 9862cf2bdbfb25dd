"""Which templates this machine can start, by the programs that a session would find."""

import re
from pathlib import Path

import pytest

from infra.local.tools import templates, unavailable
from shared.config import ConfigError
from shared.templates import OURS, Template, Templates


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A PATH's folder with two links to programs that sessions see, and one to a program that they don't."""
    (tmp_path / "node").symlink_to("/usr/bin/env")
    (tmp_path / "npm").symlink_to("/usr/bin/env")
    own = tmp_path / "home" / "go"
    own.parent.mkdir()
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    (tmp_path / "go").symlink_to(own)
    return tmp_path


def test_a_template_whose_program_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    reasons = unavailable(OURS, "bubblewrap", str(tmp_path))
    assert reasons == {
        "nodejs": "node and npm are not installed on this machine; install them, "
        "or use ONMEMOS_SANDBOX=docker, which runs the template's image",
        "go": "go is not installed on this machine; install it, "
        "or use ONMEMOS_SANDBOX=docker, which runs the template's image",
    }


@pytest.mark.parametrize("isolation", ["bubblewrap", "gvisor"])
def test_what_is_linked_from_where_no_session_sees_it_is_missing(folder: Path, isolation: str) -> None:
    assert list(unavailable(OURS, isolation, str(folder))) == ["go"]


def test_with_docker_nothing_is_missing(tmp_path: Path) -> None:
    assert unavailable(OURS, "docker", str(tmp_path)) == {}


def test_python_is_in_every_session(tmp_path: Path) -> None:
    assert unavailable([Template("ml", "", requires=("python3", "pip"))], "bubblewrap", str(tmp_path)) == {}


def test_a_template_of_a_file_takes_the_place_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "templates.yaml"
    file.write_text("templates: {go: {description: tiny}, zig: {description: Zig, requires: [zig]}}")
    found = templates(file)
    assert [template.name for template in found] == ["base", "python", "nodejs", "go", "zig"]
    assert list(unavailable(found, "bubblewrap", str(tmp_path))) == ["nodejs", "zig"]
    assert [template.name for template in Templates(found)] == [template.name for template in found]


def test_a_file_that_is_not_there_is_a_setting_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "none.yaml"))):
        templates(tmp_path / "none.yaml")
