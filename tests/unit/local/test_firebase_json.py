"""firebase.json: the ports that the stack has, and files that are there."""

import json
from pathlib import Path

import yaml

from infra.local.settings import Ports
from shared.http import ROUTES

ROOT = Path(__file__).parents[3]
FIREBASE = json.loads((ROOT / "firebase.json").read_text())


def test_firebases_emulators_have_the_ports_that_the_stack_has_for_the_same() -> None:
    ports = Ports()
    assert FIREBASE["emulators"]["functions"]["port"] == ports.functions
    assert FIREBASE["emulators"]["firestore"]["port"] == ports.firestore


def test_what_it_names_is_there() -> None:
    (functions,) = FIREBASE["functions"]
    for path in (*FIREBASE["firestore"].values(), functions["source"], f"{functions['configDir']}/.env"):
        assert (ROOT / path).exists()


def test_every_function_is_served_under_its_name_in_the_cloud() -> None:
    endpoints = yaml.safe_load((ROOT / "functions.yaml").read_text())["endpoints"]
    in_cloud = json.loads((ROOT / "terraform/functions.json").read_text())
    assert endpoints.keys() == {f"onmemos-{name.replace('_', '-')}" for name in in_cloud}
    for endpoint in endpoints.values():
        route = ROUTES[endpoint["entryPoint"]]
        assert endpoint["timeoutSeconds"] == route.timeout_s
        assert endpoint["httpsTrigger"] == {"invoker": ["private" if route.access == "task" else "public"]}
