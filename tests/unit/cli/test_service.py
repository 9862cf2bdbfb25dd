"""health, templates, plan and connect."""

import json
from typing import Any

from tests.unit.cli.invoking import SESSION, onmemos
from tests.unit.sdk.scripted import ok

PLAN: dict[str, Any] = {
    "provider": "workstations",
    "reasons": ["it has SSH", "it stays"],
    "expected_start_seconds": 60,
    "cost_per_hour_usd": 0.3671,
    "prices_of": "2026-11",
    "notes": ["the cluster costs also when it is idle"],
}
TEMPLATE: dict[str, Any] = {
    "name": "go",
    "description": "The Go toolchain",
    "image": "onmemos/go",
    "resources": {"cpu": 2.0, "memory": "4Gi"},
    "env": {},
    "available": True,
    "reason": None,
}


def facts(text: str) -> dict[str, str]:
    return {name: value.strip() for name, value in (line.split("  ", 1) for line in text.splitlines())}


def test_health_says_where() -> None:
    called = onmemos("--url", "http://there:1", "health", turns=[ok(status="ok", version="3.1")])
    assert facts(called.stdout) == {"status": "ok", "url": "http://there:1", "version": "3.1"}
    assert json.loads(onmemos("health", "--json", turns=[ok(status="ok")]).stdout) == {"status": "ok"}


def test_a_template_that_cannot_be_used_says_why() -> None:
    missing = {**TEMPLATE, "name": "rust", "available": False, "reason": "cargo is not installed"}
    available, unavailable = onmemos("templates", turns=[ok(templates=[TEMPLATE, missing])]).stdout.splitlines()[1:]
    assert available.split()[:4] == ["go", "yes", "2.0", "4Gi"]
    assert available.endswith("The Go toolchain")
    assert unavailable.split()[:2] == ["rust", "no"]
    assert unavailable.endswith("cargo is not installed")


def test_a_plan_takes_the_options_of_a_creation() -> None:
    called = onmemos("plan", "go", "--ssh", "--cpu", "2", turns=[ok(**PLAN)])
    assert called.requests == [("POST", "/v1/sessions:plan")]
    assert called.bodies[0]["template"] == "go"
    assert (called.bodies[0]["needs_ssh"], called.bodies[0]["resources"]) == (True, {"cpu": 2.0})
    assert facts(called.stdout) == {
        "provider": "workstations",
        "because": "it has SSH; it stays",
        "runs after": "about 60 s",
        "costs": "about 0.367 USD an hour (prices of 2026-11)",
        "note": "the cluster costs also when it is idle",
    }


def test_a_plan_without_a_template_is_for_python() -> None:
    called = onmemos("plan", "--json", turns=[ok(**PLAN)])
    assert called.bodies[0]["template"] == "python"
    assert json.loads(called.stdout) == PLAN


def test_connect_shows_the_ticket() -> None:
    answer = {
        "url": "http://agent",
        "websocket": "ws://agent/v1/shell",
        "ticket": "t.i.c",
        "expires_at": "2999-11-25T10:00:00Z",
        "ssh": None,
    }
    shown = facts(onmemos("connect", SESSION["id"], turns=[ok(**answer)]).stdout)
    assert (shown["url"], shown["ticket"]) == ("http://agent", "t.i.c")
    assert "ssh" not in shown
    shown = facts(onmemos("connect", SESSION["id"], turns=[ok(**{**answer, "ssh": {"host": "h", "port": 22}})]).stdout)
    assert shown["ssh"] == "host=h, port=22"
