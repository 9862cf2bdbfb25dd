"""keys: the secret alone on stdout, the rest on stderr."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.cli.invoking import onmemos
from tests.unit.sdk.scripted import ok, refusal

KEY = {
    "id": "k1",
    "name": "ci",
    "tenant": "t",
    "scopes": ["sessions"],
    "namespaces": None,
    "created_at": "2026-11-25T10:00:00Z",
    "expires_at": None,
    "revoked_at": None,
}


def test_the_secret_can_be_captured() -> None:
    called = onmemos("keys", "create", "ci", turns=[ok(**KEY, key="secret")])
    assert (called.code, called.stdout) == (0, "secret\n")
    assert called.stderr == "k1: ci, sessions, for ever. The secret is not shown again.\n"
    assert called.bodies == [{"name": "ci"}]


def test_options_of_create_are_sent() -> None:
    words = "--scope admin --scope sessions --namespace a --namespace b --expires-at 2027-01-31 --tenant t"
    called = onmemos("keys", "create", "ci", *words.split(), "--json", turns=[ok(**KEY, key="secret")])
    assert called.bodies == [
        {
            "name": "ci",
            "scopes": ["admin", "sessions"],
            "namespaces": ["a", "b"],
            "expires_at": "2027-01-31T00:00:00+00:00",
            "tenant": "t",
        }
    ]
    assert json.loads(called.stdout) == {**KEY, "key": "secret"}


def test_expiry_counts_from_now() -> None:
    before = datetime.now(UTC)
    (body,) = onmemos("keys", "create", "ci", "--expires-in", "30d", turns=[ok(**KEY, key="s")]).bodies
    late = datetime.fromisoformat(body["expires_at"]) - before
    assert timedelta(days=30, seconds=-1) <= late <= timedelta(days=30, minutes=1)


def test_the_list_says_what_state_keys_are_in() -> None:
    keys = [
        KEY,
        {**KEY, "id": "k2", "revoked_at": "2026-11-25T10:00:00Z"},
        {**KEY, "id": "k3", "expires_at": "2020-11-25T10:00:00Z", "namespaces": ["a", "b"]},
    ]
    called = onmemos("keys", "ls", turns=[ok(keys=keys)])
    rows = [line.split()[:3] for line in called.stdout.splitlines()]
    assert rows == [["ID", "NAME", "STATE"], ["k1", "ci", "active"], ["k2", "ci", "revoked"], ["k3", "ci", "expired"]]
    assert "a, b" in called.stdout
    assert json.loads(onmemos("keys", "list", "--json", turns=[ok(keys=keys)]).stdout) == keys


def test_revoke_prints_the_id() -> None:
    called = onmemos("keys", "revoke", "k1", turns=[ok(id="k1", revoked_at="2026-11-25T10:00:00Z", success=True)])
    assert (called.code, called.stdout) == (0, "k1\n")
    assert called.requests == [("DELETE", "/v1/keys/k1")]


def test_a_key_without_the_scope_is_told_so() -> None:
    called = onmemos("keys", "ls", turns=[refusal(403, "keys: wanted a key with the admin scope", code="forbidden")])
    assert (called.code, called.stderr) == (1, "onmemos: keys: wanted a key with the admin scope (403 forbidden)\n")


@pytest.mark.parametrize(
    "words",
    [
        ["create"],
        ["create", "ci", "--scope", "all"],
        ["create", "ci", "--expires-in", "1d", "--expires-at", "2027-01-31"],
        ["create", "ci", "--expires-at", "tomorrow"],
        ["create", "ci", "--expires-in", "999999999w"],
        ["revoke"],
    ],
)
def test_misuse_is_2_and_nothing_is_sent(words: list[str]) -> None:
    called = onmemos("keys", *words)
    assert (called.code, called.stdout, called.requests) == (2, "", [])
