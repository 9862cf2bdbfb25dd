"""The agent's environment: what it needs, what it refuses, what it passes on."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from infra.workspace.agent import VERSION
from infra.workspace.agent.errors import SettingsError
from infra.workspace.agent.settings import Settings
from sdk.python.version import __version__

ROOT = Path(__file__).parents[3]
X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"  # RFC 8037, A.2
JWK = {"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": X, "alg": "EdDSA", "use": "sig"}
GOOD = {
    "WORKSPACE_ID": "ws-1",
    "ONMEMOS_AGENT_SOCKET": "/run/agent.sock",
    "ONMEMOS_TICKET_KEYS": json.dumps({"keys": [JWK]}),
}


def test_defaults_are_the_documented_ones() -> None:
    settings = Settings.from_environment(GOOD)
    assert (settings.session_id, settings.socket, settings.port) == ("ws-1", "/run/agent.sock", None)
    assert (settings.workdir, settings.output_limit_bytes) == ("/workspace", 10_000_000)
    assert settings.ticket_keys["k"]["x"] == X


def test_port_serves_where_no_socket_is_named() -> None:
    assert Settings.from_environment(GOOD | {"PORT": "8080"}).port is None
    assert Settings.from_environment(GOOD | {"PORT": "8080", "ONMEMOS_AGENT_SOCKET": ""}).port == 8080


def test_commands_inherit_all_but_the_agents_own() -> None:
    environment = GOOD | {"K_SERVICE": "s", "PORT": "1", "PORTS": "2", "KEY": "3", "ONMEMOS_X": "4"}
    passed = Settings.from_environment(environment).environment
    assert passed == {"WORKSPACE_ID": "ws-1", "PORTS": "2", "KEY": "3"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKSPACE_ID", ""),
        ("ONMEMOS_AGENT_OUTPUT_LIMIT_BYTES", "10MB"),
        ("ONMEMOS_AGENT_OUTPUT_LIMIT_BYTES", "-1"),
        ("ONMEMOS_TICKET_KEYS", ""),
        ("ONMEMOS_TICKET_KEYS", "{"),
        ("ONMEMOS_TICKET_KEYS", "[]"),
        ("ONMEMOS_TICKET_KEYS", '{"keys": []}'),
        ("ONMEMOS_TICKET_KEYS", '{"keys": ["k"]}'),
        ("ONMEMOS_TICKET_KEYS", '{"keys": 5}'),
        ("ONMEMOS_TICKET_KEYS", json.dumps({"keys": [JWK | {"kty": "RSA"}]})),
        ("ONMEMOS_TICKET_KEYS", json.dumps({"keys": [JWK | {"alg": "HS256"}]})),
        ("ONMEMOS_TICKET_KEYS", json.dumps({"keys": [JWK | {"x": X[:-4]}]})),
        ("ONMEMOS_TICKET_KEYS", json.dumps({"keys": [JWK | {"x": 5}]})),
        ("ONMEMOS_TICKET_KEYS", json.dumps({"keys": [JWK | {"kid": ""}]})),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} .*wanted"):
        Settings.from_environment(GOOD | {name: value})


@pytest.mark.parametrize("port", ["", "http", "70000", "٣"])
def test_without_a_socket_a_port_is_wanted(port: str) -> None:
    with pytest.raises(SettingsError, match=r"^PORT .*ONMEMOS_AGENT_SOCKET"):
        Settings.from_environment(GOOD | {"ONMEMOS_AGENT_SOCKET": "", "PORT": port})


def test_the_version_is_the_projects() -> None:
    assert __version__ == VERSION


def test_the_images_packages_are_the_tested_ones() -> None:
    lines = (ROOT / "infra" / "workspace" / "requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: version(name) for name in pinned} == pinned
