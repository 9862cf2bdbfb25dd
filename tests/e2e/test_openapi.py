"""Requests made of the OpenAPI document, right and wrong ones, get no 5xx and no answer that it does not describe.

ONMEMOS_TEST_EXAMPLES makes more of them: so many for each operation and kind, where a handful are made otherwise.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from infra.local.stack import Stack
from infra.openapi.document import PARAMETER, document, public
from shared.http import ROUTES

EXAMPLES = int(os.environ.get("ONMEMOS_TEST_EXAMPLES", "4"))
TIMEOUT_S = 90
WAIT_S = 45  # for what is on its way to another state: it is there in a second or two
BRIEF_S = 2
NOT_WAITED_FOR = ("create_session", "create_workspace")
# What rests, carries or ends the session comes after what needs it.
LAST = ("suspend_session", "resume_session", "move_session", "delete_workspace", "delete_session")
ORDER = sorted((route.name for route in public()), key=lambda name: (LAST.index(name) if name in LAST else -1, name))


def described_code(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """An error's code is one of those that the document says of its status."""
    described = case.operation.definition.raw["responses"].get(str(response.status_code), {})
    if "x-codes" in described and response.json()["code"] not in described["x-codes"]:
        raise AssertionError(f"got the code {response.json()['code']}, wanted one of {described['x-codes']}")


CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    described_code,
]


def closed(value: Any) -> Any:
    """The same, with answers that may hold nothing but what it describes."""
    if isinstance(value, dict):
        value = {name: closed(one) for name, one in value.items()}
        if isinstance(value.get("properties"), dict) and value.get("type") == "object":
            value.setdefault("additionalProperties", False)
    return [closed(one) for one in value] if isinstance(value, list) else value


SCHEMA = schemathesis.openapi.from_dict(closed(document()))


@dataclass
class Story:
    """What the requests are about: something of each kind that is there."""

    api: httpx.Client
    key: str
    ids: dict[str, str] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)

    def begin(self) -> None:
        session = self._made("/v1/sessions", {"namespace": "openapi", "user": "schemathesis", "provider": "cloud_run"})
        self.ids = {"session_id": session["id"], "workspace_id": session["id"]}
        self.ids["job_id"] = self._made(f"/v1/sessions/{session['id']}/jobs", {"command": "echo hi"})["id"]
        self.ids["key_id"] = self._made("/v1/keys", {"name": "schemathesis"})["id"]
        self.keys.append(self.ids["key_id"])

    def _made(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.api.post(path, json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def end(self) -> None:
        for key in self.keys:
            self.api.delete(f"/v1/keys/{key}").raise_for_status()
        self.api.delete(f"/v1/sessions/{self.ids['session_id']}")

    def clean(self, name: str, response: Response) -> None:
        """What a request made goes again."""
        if response.status_code != 201 or name == "create_job":
            return
        made = response.json()["id"]
        if name == "create_key":
            self.keys.append(made)
        else:
            self.api.delete(f"/v1/sessions/{made}").raise_for_status()


@pytest.fixture(scope="module")
def story(stack: Stack) -> Iterator[Story]:
    headers = {"X-API-Key": stack.api_key}
    with httpx.Client(base_url=stack.base_url, headers=headers, timeout=TIMEOUT_S) as api:
        story = Story(api, stack.api_key)
        try:
            story.begin()
            yield story
        finally:
            story.end()


def sensible(name: str, case: Case[Any]) -> None:
    """Hold a right request to the rules, too, that the document has only sentences for."""
    case.query.pop("page_token", None)
    body: dict[str, Any] = case.body if isinstance(case.body, dict) else {}
    for field_, prefix in {"env": "A", "labels": "a"}.items():
        if body.get(field_):
            body[field_] = {f"{prefix}{number}": text for number, text in enumerate(body[field_].values())}
    if isinstance(body.get("storage"), dict):
        body["storage"].pop("bucket", None)
    match name:
        case "execute_session" | "create_job":
            if body.get("argv"):
                body.pop("command", None)
            elif not body.get("command"):
                body["command"] = "true"
        case "run_python":
            if case.query.get("code") and body:
                body.pop("code", None)
            elif not body.get("code"):
                case.query.setdefault("code", "pass")
        case "update_session":
            if all(value is None for value in body.values()):
                body["ttl_minutes"] = 60


def hastened(name: str, case: Case[Any]) -> None:
    """No request waits for long; what is no number of seconds stays as it is."""
    longest = {"wait": 0, "timeout": BRIEF_S} if name in NOT_WAITED_FOR else {"wait": WAIT_S, "timeout": BRIEF_S}
    if name in NOT_WAITED_FOR:
        case.query.setdefault("wait", 0)
    for sent in (case.query, case.body):
        if isinstance(sent, dict):
            seconds: dict[str, Any] = sent
            for field_, most in longest.items():
                if isinstance(seconds.get(field_), int | float) and not isinstance(seconds[field_], bool):
                    seconds[field_] = min(seconds[field_], most)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize("name", ORDER)
def test_no_request_gets_an_answer_that_is_not_described(name: str, mode: GenerationMode, story: Story) -> None:
    asked(name, mode, story, {part: story.ids[part] for part in PARAMETER.findall(ROUTES[name].path)})


@pytest.mark.parametrize("name", [name for name in ORDER if "{" in ROUTES[name].path])
def test_neither_does_one_about_something_that_is_not_there(name: str, story: Story) -> None:
    asked(name, GenerationMode.POSITIVE, story, {})


@pytest.mark.parametrize("path", sorted({route.path for route in public()}))
def test_a_browsers_question_is_answered_on_every_path(path: str, story: Story) -> None:
    asking = {"Origin": "https://console.example", "Access-Control-Request-Method": "GET", "X-API-Key": ""}
    answer = story.api.options(path.format(**story.ids), headers=asking)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "access-control-allow-origin" not in answer.headers  # the stack allows none


def asked(name: str, mode: GenerationMode, story: Story, ids: dict[str, str]) -> None:
    operation = SCHEMA.find_operation_by_id(name)

    @given(operation.as_strategy(generation_mode=mode, path_parameters=ids, headers={"X-API-Key": story.key}))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Case[Any]) -> None:
        if mode is GenerationMode.POSITIVE:
            sensible(name, case)
        hastened(name, case)
        response = case.call(base_url=str(story.api.base_url), timeout=TIMEOUT_S)
        try:
            case.validate_response(response, checks=CHECKS)
        finally:
            story.clean(name, response)

    ask()
