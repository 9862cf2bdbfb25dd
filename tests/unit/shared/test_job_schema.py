"""What bodies and queries about jobs may say."""

from typing import Any

import pytest
from marshmallow import ValidationError

from shared.job_models import JobSpec
from shared.job_schema import CreateJob, ListJobs


def complaints(body: Any) -> Any:
    with pytest.raises(ValidationError) as caught:
        CreateJob().load(body)
    return caught.value.messages


def test_a_line_alone_has_an_hour_and_no_second_try() -> None:
    assert CreateJob().load({"command": "make"}) == JobSpec("make", None, 3600.0, {}, 0)


def test_everything_that_can_be_said_is_kept() -> None:
    body = {"argv": ["make", ""], "timeout": 604_800, "env": {"PORT": "1"}, "retries": 10}
    assert CreateJob().load(body) == JobSpec(None, ("make", ""), 604_800.0, {"PORT": "1"}, 10)


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({}, "command", "got neither of command and argv"),
        ({"command": "a", "argv": ["a"]}, "command", "got both of command and argv"),
        ({"command": " "}, "command", "wanted a line"),
        ({"argv": []}, "argv", "wanted at least the program"),
        ({"command": "a", "timeout": 604_801}, "timeout", "wanted a number from 1 to 604,800"),
        ({"command": "a", "timeout": 0.5}, "timeout", "wanted a number from 1"),
        ({"command": "a", "retries": 11}, "retries", "wanted an integer from 0 to 10"),
        ({"command": "a", "cwd": "/x"}, "cwd", "unknown field"),
        ({"command": "a" * 131_072}, "command", "got 131,072 bytes, wanted at most 131,071"),
        ({"argv": ["ä" * 65_536]}, "argv", "got 131,073 bytes"),
    ],
)
def test_what_cannot_be_run_is_named(body: Any, field: str, said: str) -> None:
    assert said in complaints(body)[field][0]


def test_a_command_may_be_as_long_as_linux_takes_it() -> None:
    assert CreateJob().load({"command": "a" * 131_071}).line == "a" * 131_071


def test_a_page_has_fifty_jobs_unless_fewer_or_up_to_a_hundred_are_asked_for() -> None:
    assert ListJobs().load({}) == (50, None)
    assert ListJobs().load({"page_size": "100"}) == (100, None)
    with pytest.raises(ValidationError, match="from 1 to 100"):
        ListJobs().load({"page_size": "101"})
