from pathlib import Path

from infra.local.pip_settings import CERTIFICATES, CERTIFICATES_FILE, variables


def test_a_pip_without_settings_needs_none() -> None:
    assert variables("") == {}


def test_the_environment_wins_over_the_files() -> None:
    listing = ":env:.index-url='https://mirror.test/simple'\nglobal.index-url='https://other.test/simple'\n"
    assert variables(listing) == {"PIP_INDEX_URL": "https://mirror.test/simple"}


def test_what_a_session_cannot_reach_is_left_out() -> None:
    listing = "global.extra-index-url='file:///srv/simple https://a.test/simple'\nglobal.find-links='/srv/wheels'\n"
    assert variables(listing) == {"PIP_EXTRA_INDEX_URL": "https://a.test/simple"}
    assert variables("global.extra-index-url='file:///srv/simple'") == {}


def test_certificates_of_ones_own_are_taken_along_and_the_systems_are_there_already(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("a bundle", encoding="utf-8")
    assert variables(f"global.cert='{bundle}'") == {"PIP_CERT": CERTIFICATES_FILE, CERTIFICATES: "a bundle"}
    assert variables("global.cert='/etc/ssl/certs/ca-certificates.crt'") == {}
