from pathlib import Path

import pytest

from infra.local.settings import ANY_PORTS, HOME, PORT_VARIABLES, Firestore, Ports, Sandbox, Settings, SettingsError


def test_an_empty_environment_gives_the_contracts_port_and_key() -> None:
    settings = Settings.from_environment({})
    assert (settings.ports.gateway, settings.api_key, settings.home) == (8080, "your-api-key", HOME)
    assert (settings.sandbox, settings.firestore) == (Sandbox.AUTO, Firestore.AUTO)


def test_every_port_is_a_setting() -> None:
    given = {variable: str(9000 + number) for number, variable in enumerate(PORT_VARIABLES.values())}
    assert Settings.from_environment(given).ports == Ports(*range(9000, 9000 + len(given)))
    assert Settings.from_environment(dict.fromkeys(given, "0")).ports == ANY_PORTS


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("ONMEMOS_PORT", "80800", "0 (any that is free) to 65535"),
        ("ONMEMOS_STORAGE_PORT", "http", "0 (any that is free) to 65535"),
        ("ONMEMOS_SANDBOX", "none", "auto, bubblewrap, gvisor, docker"),
        ("ONMEMOS_FIRESTORE", "java", "auto, official, embedded"),
    ],
)
def test_a_bad_setting_is_named_with_what_it_holds_and_what_is_wanted(variable: str, value: str, wanted: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({variable: value})
    assert all(text in str(refused.value) for text in (variable, f"'{value}'", wanted))


def test_a_key_that_an_env_file_cannot_carry_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({"ONMEMOS_API_KEY": "two words"})
    assert "two words" not in str(refused.value)


def test_two_homes_have_two_runtime_folders_that_are_short() -> None:
    first, second = (Settings(home=Path(f"/a/very/long/{'path/' * 20}{name}")) for name in "ab")
    assert first.runtime != second.runtime
    assert len(str(first.runtime / ("s" * 49) / "agent.sock")) <= 107
