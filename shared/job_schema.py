"""What requests say about jobs."""

from typing import Any

from marshmallow import ValidationError, fields, post_load, validates_schema

from shared.fields import LINE, Number, Strict, Text
from shared.job_models import JobSpec
from shared.models import Position
from shared.pairs import Environment
from shared.schemas import ARGV, PageToken

MAX_TIMEOUT_S = 604_800  # 168 h: cloud.google.com/run/docs/configuring/task-timeout
MAX_RETRIES = 10  # cloud.google.com/run/docs/configuring/max-retries
MAX_COMMAND_BYTES = 131_071  # Linux' limit of one argument, MAX_ARG_STRLEN: a line for the shell is one
MAX_JOBS_PAGE = 100  # each may have a command that long


class CreateJob(Strict):
    """The body of POST /v1/sessions/{id}/jobs."""

    command = Text("a line for /bin/sh, not empty", LINE, load_default=None, about="this or argv")
    argv = fields.List(Text("a string"), load_default=None, metadata=ARGV)
    timeout = Number(1, MAX_TIMEOUT_S, load_default=3600, about="how many seconds each attempt may take")
    env = Environment(load_default=dict, about="environment variables beside the session's")
    retries = Number(0, MAX_RETRIES, whole=True, load_default=0, about="how often a failed attempt is made again")

    @validates_schema
    def _one_of_two(self, data: dict[str, Any], **_: Any) -> None:
        line, argv = data["command"], data["argv"]
        if (line is None) == (argv is None):
            got = "neither" if line is None else "both"
            raise ValidationError({"command": [f"got {got} of command and argv, wanted exactly one"]})
        if argv == []:
            raise ValidationError({"argv": ["got [], wanted at least the program"]})
        name, words = ("command", [line]) if argv is None else ("argv", argv)
        size = sum(len(word.encode()) + (argv is not None) for word in words)
        if size > MAX_COMMAND_BYTES:
            wanted = f"wanted at most {MAX_COMMAND_BYTES:,}: put a longer script into the bucket and run it from there"
            raise ValidationError({name: [f"got {size:,} bytes, {wanted}"]})

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> JobSpec:
        argv = None if data["argv"] is None else tuple(data["argv"])
        return JobSpec(data["command"], argv, float(data["timeout"]), data["env"], int(data["retries"]))


class ListJobs(Strict):
    """The query of GET /v1/sessions/{id}/jobs, as (page size, position)."""

    page_size = Number(1, MAX_JOBS_PAGE, whole=True, text=True, load_default=50, about="how many at most")
    page_token = PageToken(load_default=None)

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> tuple[int, Position | None]:
        return int(data["page_size"]), data["page_token"]
