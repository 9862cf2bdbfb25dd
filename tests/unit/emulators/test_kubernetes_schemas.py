"""The schemas of built-in kinds are costly to make, and kept between processes as long as they are the same."""

from pathlib import Path

import pytest

from infra.emulators.kubernetes import derived, kinds, model_schemas
from infra.emulators.kubernetes.derived import kept


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, int]:
        self.calls += 1
        return {"call": self.calls}


def test_what_is_kept_is_made_once_for_the_same_sources_and_versions(tmp_path: Path) -> None:
    make, home = Maker(), {"XDG_CACHE_HOME": str(tmp_path)}
    for _ in range(2):
        assert kept("a", [derived], ["x 1"], make, environ=home) == {"call": 1}
    assert kept("a", [derived], ["x 2"], make, environ=home) == {"call": 2}
    assert kept("a", [kinds], ["x 2"], make, environ=home) == {"call": 3}
    assert len(list((tmp_path / "onmemos").iterdir())) == 1  # what was kept before has gone


@pytest.mark.parametrize("left", [b"", b'{"call": '])
def test_a_file_that_was_cut_off_is_made_anew(tmp_path: Path, left: bytes) -> None:
    make, home = Maker(), {"HOME": str(tmp_path)}
    kept("a", [derived], [], make, environ=home)
    (file,) = (tmp_path / ".cache" / "onmemos").iterdir()
    file.write_bytes(left)
    assert kept("a", [derived], [], make, environ=home) == {"call": 2}
    assert kept("a", [derived], [], make, environ=home) == {"call": 2}


def test_without_a_folder_to_keep_it_in_it_is_made_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    make = Maker()
    for environ in ({}, {"XDG_CACHE_HOME": str(tmp_path / "file")}):
        kept("a", [derived], [], make, environ=environ)
    assert make.calls == 2


def test_what_is_kept_of_the_schemas_is_what_the_models_give(tmp_path: Path) -> None:
    made = model_schemas.made()
    home = {"XDG_CACHE_HOME": str(tmp_path)}
    kept("schemas", [model_schemas], [], lambda: made, environ=home)
    assert kept("schemas", [model_schemas], [], Maker(), environ=home) == made
