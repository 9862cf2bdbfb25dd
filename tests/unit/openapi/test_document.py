"""The document is valid, has every public function and nothing else, and says what API Gateway and Terraform need."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator

from infra.openapi.document import PARAMETER, document, public
from infra.openapi.examples import ANSWERS, BODIES
from infra.openapi.refusals import RAISED, refusals
from shared import errors
from shared.http import ROUTES, Access

DOCUMENT = document()
METHODS = {"get", "post", "patch", "delete"}
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
ADDRESS = re.compile(r"\$\{address\.([a-z_]+)\}")


def inside(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from inside(one)


def test_it_is_valid_swagger() -> None:
    assert list(OpenAPIV2SpecValidator(DOCUMENT).iter_errors()) == []
    assert DOCUMENT["swagger"] == "2.0"


def test_every_public_function_is_an_operation_and_every_operation_a_function() -> None:
    calls = {name: (method, path) for name, (method, path, operation) in OPERATIONS.items() if method in METHODS}
    assert calls == {route.name: (route.method.lower(), route.path) for route in public()}
    tasks = {route.name for route in ROUTES.values() if route.access is Access.TASK}
    assert tasks
    assert not tasks & OPERATIONS.keys()


def test_every_path_answers_a_browsers_question_and_no_name_is_there_twice() -> None:
    assert all("options" in methods for methods in DOCUMENT["paths"].values())
    assert len(OPERATIONS) == sum(len(methods) for methods in DOCUMENT["paths"].values())


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_goes_to_its_own_function_and_waits_as_long_as_that_may_take(name: str) -> None:
    method, path, operation = OPERATIONS[name]
    backend = operation["x-google-backend"]
    found = ADDRESS.fullmatch(backend["address"])
    assert found
    function = ROUTES[found[1]]
    assert function.path == path
    assert method == "options" or function.name == name
    assert backend["deadline"] == function.timeout_s
    assert backend["jwt_audience"] == backend["address"]
    assert backend["path_translation"] == "APPEND_PATH_TO_ADDRESS"


def test_terraform_finds_nothing_to_fill_in_but_addresses() -> None:
    text = json.dumps(DOCUMENT)
    assert "%{" not in text
    assert set(re.findall(r"\$\{[^}]*\}?", text)) == {f"${{address.{route.name}}}" for route in public()}


def test_the_gateway_asks_for_no_key_of_googles_and_serves_any_host() -> None:
    assert not {"security", "securityDefinitions", "host", "basePath"} & DOCUMENT.keys()
    assert not any("security" in operation for _, _, operation in OPERATIONS.values())


def test_clients_that_are_made_of_it_send_the_key_wherever_it_is_asked_for() -> None:
    for route in public():
        sent = {one["name"]: one["required"] for one in OPERATIONS[route.name][2]["parameters"] if one["in"] == "header"
                and one.get("required")}  # fmt: skip
        assert sent == ({"X-API-Key": True} if route.access is Access.KEY else {}), route.name


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_a_parameter_of_a_path_is_a_whole_segment(path: str) -> None:
    """Any other is refused: cloud.google.com/endpoints/docs/openapi/openapi-limitations."""
    for segment in path.split("/"):
        assert "{" not in segment or PARAMETER.fullmatch(segment)


def test_nothing_is_said_in_words_that_swagger_has_not_or_clients_stumble_over() -> None:
    for value in inside({"paths": DOCUMENT["paths"], "definitions": DOCUMENT["definitions"]}):
        assert not {"allOf", "anyOf", "oneOf", "nullable"} & value.keys()
        assert "$ref" not in value or len(value) == 1


def test_a_pattern_means_the_same_to_python_and_to_javascript() -> None:
    patterns = {value["pattern"] for value in inside(DOCUMENT) if isinstance(value.get("pattern"), str)}
    assert patterns
    for pattern in patterns:
        assert re.compile(pattern)
        assert not re.search(r"\(\?[^:=!]|\\[AZ]", pattern), pattern


def test_every_definition_is_used_and_says_what_it_is() -> None:
    used = {value["$ref"].rpartition("/")[2] for value in inside(DOCUMENT) if "$ref" in value}
    assert used == DOCUMENT["definitions"].keys()
    assert all(definition["description"] for definition in DOCUMENT["definitions"].values())


def test_every_operation_says_what_can_go_wrong_and_nothing_that_a_caller_cannot_come_by() -> None:
    assert RAISED.keys() == {route.name for route in public()}
    codes = {kind.code for route in public() for kinds in refusals(route).values() for kind in kinds}
    known = {kind.code for kind in _kinds(errors.OnMemOSError)}
    inner = {"conflict", "already_exists", "provisioning_failed"}  # caught, or told as a session's state
    assert known - codes == inner | {"internal", "route_not_found", "method_not_allowed"}


def test_what_goes_wrong_everywhere_is_said_everywhere() -> None:
    for name, (method, _, operation) in OPERATIONS.items():
        if method != "options":
            assert operation["responses"]["500"]["x-codes"] == ["internal"], name
            assert ("401" in operation["responses"]) is (ROUTES[name].access is Access.KEY), name


@pytest.mark.parametrize("schema", [*ANSWERS, *BODIES], ids=lambda schema: schema.__name__)
def test_an_example_is_one_of_its_schema(schema: Any) -> None:
    schema().load({**ANSWERS, **BODIES}[schema])


def test_every_body_and_answer_has_an_example() -> None:
    routes = public()
    assert {route.body for route in routes if route.body} == BODIES.keys()
    assert {route.answer for route in routes} <= ANSWERS.keys()


def _kinds(kind: type[errors.OnMemOSError]) -> Iterator[type[errors.OnMemOSError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)
