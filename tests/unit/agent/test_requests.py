"""The JSON of an execute request: what it means, and what is said about one that is wrong."""

import json
from typing import Any

import pytest

from infra.workspace.agent.errors import BadRequest
from infra.workspace.agent.requests import Command, parse


def _parse(**fields: Any) -> Command:
    return parse(json.dumps(fields).encode())


def test_a_command_line_goes_to_the_shell() -> None:
    assert _parse(command="echo hi") == Command(argv=("/bin/sh", "-c", "echo hi"), timeout_s=120.0)


def test_all_options_are_taken() -> None:
    parsed = _parse(argv=["a", ""], timeout=0.5, stdin="é", cwd="x", env={"A": "1"})
    assert parsed == Command(argv=("a", ""), timeout_s=0.5, stdin="é".encode(), cwd="x", env={"A": "1"})


def test_null_is_the_same_as_absent() -> None:
    assert _parse(command="x", argv=None, timeout=None, stdin=None, cwd=None, env=None) == _parse(command="x")


@pytest.mark.parametrize("timeout", [3600, 0.001, 3600.0])
def test_timeouts_within_the_bounds_are_taken(timeout: float) -> None:
    assert _parse(command="x", timeout=timeout).timeout_s == timeout


@pytest.mark.parametrize(
    ("fields", "field", "part"),
    [
        ({}, "command", "neither of command and argv"),
        ({"command": "x", "argv": ["x"]}, "command", "both of command and argv"),
        ({"command": ""}, "command", "command line"),
        ({"command": " \n"}, "command", "command line"),
        ({"command": 5}, "command", "got 5; wanted a string"),
        ({"command": "a\0b"}, "command", "NUL"),
        ({"command": "\ud800"}, "command", "not Unicode"),
        ({"command": "é" * 70_000}, "command", "140000 bytes; the kernel passes at most 131071"),
        ({"argv": []}, "argv", "got []"),
        ({"argv": "ls"}, "argv", "list"),
        ({"argv": ["ls", 1]}, "argv", "got 1"),
        ({"argv": [""]}, "argv", "name of a program"),
        ({"command": "x", "timeout": 0}, "timeout", "got 0; wanted seconds, above 0 and at most 3600"),
        ({"command": "x", "timeout": 3600.5}, "timeout", "3600"),
        ({"command": "x", "timeout": float("nan")}, "timeout", "NaN"),
        ({"command": "x", "timeout": float("inf")}, "timeout", "Infinity"),
        ({"command": "x", "timeout": True}, "timeout", "got true"),
        ({"command": "x", "timeout": "5"}, "timeout", 'got "5"'),
        ({"command": "x", "stdin": ["x"]}, "stdin", "wanted a string"),
        ({"command": "x", "stdin": "\udc80"}, "stdin", "not Unicode"),
        ({"command": "x", "cwd": ""}, "cwd", "path of a folder"),
        ({"command": "x", "cwd": "a\0"}, "cwd", "NUL"),
        ({"command": "x", "env": []}, "env", "object of strings"),
        ({"command": "x", "env": {"A": 1}}, "env", "got 1"),
        ({"command": "x", "env": {"A=B": "1"}}, "env", '"A=B"'),
        ({"command": "x", "env": {"": "1"}}, "env", "not empty"),
        ({"command": "x", "shell": "bash"}, "shell", "unknown field; wanted one of command, argv"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_seen_and_wanted(fields: dict[str, Any], field: str, part: str) -> None:
    with pytest.raises(BadRequest, match=field) as caught:
        _parse(**fields)
    assert part in caught.value.errors[field][0]
    assert part in str(caught.value)


def test_a_complaint_does_not_repeat_a_large_value() -> None:
    with pytest.raises(BadRequest) as caught:
        _parse(command=["x" * 10_000])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xff", b"[1]", b"[" * 100_000, b"9" * 10_000])
def test_what_is_no_json_object_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest, match="the body is"):
        parse(body)
