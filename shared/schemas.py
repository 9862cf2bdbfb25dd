"""JSON to models: the bodies and queries that operations take, checked before anything is done."""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load, validates_schema

from shared.answers import position
from shared.fields import Choice, Cpu, Environment, Flag, Labels, Memory, Number, Text, seen
from shared.models import AUTO, Command, Position, ProviderName, Resources, SessionFilter, SessionSpec, State

MAX_TTL_MINUTES = 43_200  # 30 days
MAX_WAIT_S = 600
MAX_TIMEOUT_S = 3400  # under Cloud Run's longest request of 3600 s, with room for the answer
MAX_PAGE = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
NAME_WANTED = "1 to 63 letters, digits, '.', '_', '@' or '-', beginning with a letter or digit"


class Strict(Schema):
    """Unknown and missing fields are named, with what is wanted."""

    class Meta:
        unknown = RAISE

    @pre_load
    def _refuse_unknown(self, data: Any, **_: Any) -> Any:
        if not isinstance(data, Mapping):
            raise ValidationError(f"got {seen(data)}, wanted a JSON object")
        known = ", ".join(self.load_fields)
        unknown = {
            name: [f"unknown field, got {seen(data[name])}; wanted one of {known}"]
            for name in data
            if name not in self.load_fields
        }
        missing = {
            name: ["missing; it is required"]
            for name, one in self.load_fields.items()
            if one.required and name not in data
        }
        null = {
            name: ["got null, wanted a value"]
            for name, value in data.items()
            if value is None and name in self.load_fields and not self.load_fields[name].allow_none
        }
        if unknown or missing or null:
            raise ValidationError({**unknown, **missing, **null})
        return data


class ResourcesSchema(Strict):
    """resources: {cpu, memory}."""

    cpu = Cpu(load_default=1.0)
    memory = Memory(load_default=2 << 30)

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> Resources:
        return Resources(cpu=data["cpu"], memory_bytes=data["memory"])


class NetworkSchema(Strict):
    """network: {egress}."""

    egress = Flag(load_default=True)


class CreateSession(Strict):
    """The body of POST /v1/sessions."""

    provider = Choice(AUTO, *ProviderName, load_default=AUTO)
    template = Text("the name of a template", NAME, load_default="python")
    namespace = Text(NAME_WANTED, NAME, required=True)
    user = Text(NAME_WANTED, NAME, required=True)
    ttl_minutes = Number(1, MAX_TTL_MINUTES, whole=True, load_default=60)
    env = Environment(of_session=True, load_default=dict)
    labels = Labels(load_default=dict)
    long_lived = Flag(load_default=False)
    needs_ssh = Flag(load_default=False)
    expected_duration_minutes = Number(1, MAX_TTL_MINUTES, whole=True, load_default=None, allow_none=True)
    resources = fields.Nested(ResourcesSchema, load_default=None)
    network = fields.Nested(NetworkSchema, load_default=lambda: {"egress": True})

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> SessionSpec:
        network = data.pop("network")
        return SessionSpec(**data, egress=network["egress"])


class CreateQuery(Strict):
    """The query of POST /v1/sessions."""

    wait = Number(0, MAX_WAIT_S, text=True, load_default=30.0)


class PageToken(fields.Field[Position]):
    """Where the page before ended."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Position:
        found = position(value)
        if found is None:
            raise ValidationError(f"got {seen(value)}, wanted a next_page_token of an earlier answer")
        return found


class ListQuery(Strict):
    """The query of GET /v1/sessions, as (filter, page size, position)."""

    namespace = Text(NAME_WANTED, NAME, load_default=None)
    user = Text(NAME_WANTED, NAME, load_default=None)
    status = Choice(*(state for state in State if state is not State.DELETING), load_default=None)
    provider = Choice(*ProviderName, load_default=None)
    label = Text("key=value", re.compile(r"[a-z0-9_-]+=[a-z0-9_-]*"), load_default=None)
    page_size = Number(1, MAX_PAGE, whole=True, text=True, load_default=50)
    page_token = PageToken(load_default=None)

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> tuple[SessionFilter, int, Position | None]:
        label = data["label"] and tuple(data["label"].split("=", 1))
        status = data["status"] and State(data["status"])
        provider = data["provider"] and ProviderName(data["provider"])
        where = SessionFilter(data["namespace"], data["user"], status, provider, label)
        return where, int(data["page_size"]), data["page_token"]


class ExecuteCommand(Strict):
    """The body of POST /v1/sessions/{id}/execute."""

    command = Text("a line for /bin/sh, not empty", re.compile(r"(?s).*\S.*"), load_default=None)
    argv = fields.List(Text("a string"), load_default=None)
    timeout = Number(0.001, MAX_TIMEOUT_S, load_default=120)
    stdin = Text("a string", load_default=None)
    cwd = Text("a path", re.compile(r"(?s).+"), load_default=None)
    env = Environment(load_default=dict)

    @validates_schema
    def _one_of_two(self, data: dict[str, Any], **_: Any) -> None:
        if (data["command"] is None) == (data["argv"] is None):
            got = "neither" if data["command"] is None else "both"
            raise ValidationError({"command": [f"got {got} of command and argv, wanted exactly one"]})
        if data["argv"] == []:
            raise ValidationError({"argv": ["got [], wanted at least the program"]})

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> Command:
        argv = None if data["argv"] is None else tuple(data["argv"])
        return Command(data["command"], argv, float(data["timeout"]), data["stdin"], data["cwd"], data["env"])


class Step(Strict):
    """The body of a task: which session, and for expiry which generation."""

    session_id = Text("a session's id", re.compile(r"ws-[a-z0-9-]{1,60}"), required=True)
    generation = Number(1, 2**53, whole=True, load_default=0)
