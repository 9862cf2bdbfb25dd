"""Finding the official emulator: the order of places, and silence where there is none."""

import socket
from pathlib import Path

import pytest

from infra.emulators import firestore_official
from infra.emulators.firestore_official import OfficialEmulator, OfficialEmulatorError, find_official


def executable(path: Path, text: str = "#!/bin/sh\nexit 0\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine with nothing on it."""
    monkeypatch.setattr(firestore_official, "_SDK_ROOTS", ())
    monkeypatch.setattr(firestore_official, "_packaged_java", lambda: None)
    return {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_nothing_is_found_where_nothing_is(nowhere: dict[str, str]) -> None:
    assert find_official(nowhere) is None


def test_one_that_runs_already_is_used_as_it_is(nowhere: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        found = find_official(nowhere | {"FIRESTORE_EMULATOR_HOST": address})
    assert found == OfficialEmulator(address=address)
    assert find_official(nowhere | {"FIRESTORE_EMULATOR_HOST": address}) is None  # it has ended


def test_the_sdk_comes_before_the_cache_and_the_cache_gives_its_newest(nowhere: dict[str, str], tmp_path: Path) -> None:
    java = executable(tmp_path / "bin" / "java")
    cache = tmp_path / "cache" / "firebase" / "emulators"
    old, new = (cache / f"cloud-firestore-emulator-v1.{minor}.0.jar" for minor in (9, 19))
    executable(old)
    executable(new)
    assert find_official(nowhere) == OfficialEmulator(jar=new, java=java)
    executable(tmp_path / "bin" / "gcloud")
    sdk = executable(tmp_path / "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
    assert find_official(nowhere) == OfficialEmulator(jar=sdk, java=java)


def test_the_jar_is_found_where_gcloud_says_it_is(nowhere: dict[str, str], tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "java")
    executable(tmp_path / "bin" / "gcloud", f"#!/bin/sh\necho {tmp_path / 'elsewhere'}\n")
    jar = executable(tmp_path / "elsewhere/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
    found = find_official(nowhere)
    assert found is not None
    assert found.jar == jar


def test_a_java_that_does_not_run_is_no_java(nowhere: dict[str, str], tmp_path: Path) -> None:
    executable(tmp_path / "cache" / "firebase" / "emulators" / "cloud-firestore-emulator-v1.19.0.jar")
    executable(tmp_path / "bin" / "java", "#!/bin/sh\nexit 1\n")
    assert find_official(nowhere) is None
    home = executable(tmp_path / "jdk" / "bin" / "java")
    found = find_official(nowhere | {"JAVA_HOME": str(tmp_path / "jdk")})
    assert found is not None
    assert found.java == home


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    official = OfficialEmulator(jar=tmp_path / "none.jar", java=executable(tmp_path / "java"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(OfficialEmulatorError, match=str(port)):
            async with official.run(port=port, log_path=tmp_path / "log"):
                pass


async def test_a_start_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    java = executable(tmp_path / "java", "#!/bin/sh\necho class not found >&2\nexit 1\n")
    official = OfficialEmulator(jar=tmp_path / "none.jar", java=java)
    with pytest.raises(OfficialEmulatorError, match="class not found"):
        async with official.run(log_path=tmp_path / "log"):
            pass
