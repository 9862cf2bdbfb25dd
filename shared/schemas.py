"""JSON to models: the bodies and queries that operations take, checked before anything is done."""

import re
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError, fields, post_load, validates_schema

from shared.answers import position
from shared.fields import (
    LINE,
    NAME,
    NAME_WANTED,
    Choice,
    Flag,
    Number,
    ResourcesSchema,
    Strict,
    Text,
    Value,
    seen,
)
from shared.models import (
    AUTO,
    Command,
    Position,
    ProviderName,
    SessionFilter,
    SessionSpec,
    State,
    Storage,
)
from shared.pairs import Environment, Labels
from shared.sessions import Changes
from shared.storage_schema import StorageSchema

MAX_TTL_MINUTES = 43_200  # 30 days
MAX_WAIT_S = 600
MAX_TIMEOUT_S = 3400  # under Cloud Run's longest request of 3600 s, with room for the answer
MAX_PAGE = 1000
CONNECT_TIMEOUT_S = 90  # for a session that is still starting
MAX_EXTENSION_MINUTES = 525_600  # a year from now; Cloud Tasks' 30 days are no bound: the expiry's tasks chain
MAX_CODE = 1 << 20  # characters of a Python file
TIMEOUT = "after so many seconds it is ended, with all that it started"
ARGV = {"description": "the program and its arguments, without a shell; this or command", "minItems": 1}


class NetworkSchema(Strict):
    """What a session may reach."""

    egress = Flag(load_default=True, about="whether it reaches the internet")


class CreateWorkspace(Strict):
    """The body of POST /v1/cloudrun/workspaces."""

    template = Text("the name of a template", NAME, load_default="python", about="what it starts from")
    namespace = Text(NAME_WANTED, NAME, required=True, about="the project or team that it is for")
    user = Text(NAME_WANTED, NAME, required=True, about="the person or program that it is for")
    ttl_minutes = Number(1, MAX_TTL_MINUTES, whole=True, load_default=60, about="how long it lives, from now")
    idle_timeout_minutes = Number(
        1, MAX_TTL_MINUTES, whole=True, load_default=None, allow_none=True,
        about="no command, no open connection and no process for so long ends it; null: as long as its TTL lasts",
    )  # fmt: skip
    env = Environment(of_session=True, load_default=dict, about="environment variables of all that runs in it")
    labels = Labels(load_default=dict, about="to find it by, and on what it costs")
    resources = fields.Nested(ResourcesSchema, load_default=None)
    network = fields.Nested(NetworkSchema, load_default=lambda: {"egress": True})
    storage = fields.Nested(StorageSchema, load_default=Storage())

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> SessionSpec:
        network = data.pop("network")
        return SessionSpec(**data, egress=network["egress"])


class CreateSession(CreateWorkspace):
    """The body of POST /v1/sessions."""

    provider = Choice(AUTO, *ProviderName, load_default=AUTO, about="where it runs; auto leaves the choice to us")
    long_lived = Flag(load_default=False, about="whether it is for days: on GKE its work folder is then a disk")
    auto_resume = Flag(load_default=False, about="whether a command resumes it when it is suspended")
    needs_ssh = Flag(load_default=False, about="whether it must be reachable by SSH")
    expected_duration_minutes = Number(
        1, MAX_EXTENSION_MINUTES, whole=True, load_default=None, allow_none=True,
        about="how long its work lasts: for the choice of a provider",
    )  # fmt: skip


class WaitQuery(Strict):
    """The query of the calls that wait for a session to arrive at a state."""

    wait = Number(0, MAX_WAIT_S, text=True, load_default=30.0, about="how many seconds to wait for it; 0: not at all")


class PageToken(Value[Position]):
    """Where the page before ended."""

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", **self._described("next_page_token of the answer before")}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Position:
        found = position(value)
        if found is None:
            raise ValidationError(f"got {seen(value)}, wanted a next_page_token of an earlier answer")
        return found


class ListWorkspaces(Strict):
    """The query of GET /v1/cloudrun/workspaces, as (filter, page size, position)."""

    namespace = Text(NAME_WANTED, NAME, load_default=None, about="those of this namespace")
    user = Text(NAME_WANTED, NAME, load_default=None, about="those of this user")
    status = Choice(*(s for s in State if s is not State.DELETING), load_default=None, about="those in this state")
    label = Text("key=value", re.compile(r"[a-z0-9_-]+=[a-z0-9_-]*"), load_default=None, about="those with this label")
    page_size = Number(1, MAX_PAGE, whole=True, text=True, load_default=50, about="how many at most")
    page_token = PageToken(load_default=None)

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> tuple[SessionFilter, int, Position | None]:
        label = data["label"] and tuple(data["label"].split("=", 1))
        status = data["status"] and State(data["status"])
        provider = ProviderName(data["provider"]) if data.get("provider") else None
        where = SessionFilter(data["namespace"], data["user"], status, provider, label)
        return where, int(data["page_size"]), data["page_token"]


class ListQuery(ListWorkspaces):
    """The query of GET /v1/sessions, as (filter, page size, position)."""

    provider = Choice(*ProviderName, load_default=None, about="those on this provider")


class UpdateSession(Strict):
    """The body of PATCH /v1/sessions/{id}."""

    ttl_minutes = Number(1, MAX_EXTENSION_MINUTES, whole=True, load_default=None, about="how long it lives, from now")
    labels = Labels(load_default=None, about="in the place of those before")
    auto_resume = Flag(load_default=None, about="whether a command resumes it when it is suspended")

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> Changes:
        if all(value is None for value in data.values()):
            raise ValidationError("got {}, wanted ttl_minutes, labels or auto_resume")
        return Changes(**data)


class MoveSession(Strict):
    """The body of POST /v1/sessions/{id}/move, as the provider."""

    provider = Choice(*ProviderName, required=True, about="where to carry it")

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> ProviderName:
        return ProviderName(data["provider"])


def _line(**options: Any) -> Text:
    return Text("a line for /bin/sh, not empty", LINE, **options)


class RunShell(Strict):
    """The query of a workspace's execute and runsh."""

    command = _line(required=True)
    timeout = Number(0.001, MAX_TIMEOUT_S, text=True, load_default=120, about=TIMEOUT)

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> Command:
        return Command(data["command"], timeout_s=float(data["timeout"]))


@dataclass(frozen=True, slots=True)
class PythonCode:
    """Some Python to run; None: not said here."""

    code: str | None
    timeout_s: float | None


class RunPython(Strict):
    """The body of runpython; its query holds the same as text."""

    code = Text(f"Python code, not empty, of at most {MAX_CODE:,} characters", LINE, most=MAX_CODE, load_default=None)
    timeout = Number(0.001, MAX_TIMEOUT_S, load_default=None, about=TIMEOUT)

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> PythonCode:
        return PythonCode(data["code"], data["timeout"])


class RunPythonQuery(RunPython):
    """The query of runpython."""

    timeout = Number(0.001, MAX_TIMEOUT_S, text=True, load_default=None, about=TIMEOUT)


class ExecuteCommand(Strict):
    """The body of POST /v1/sessions/{id}/execute."""

    command = _line(load_default=None, about="this or argv")
    argv = fields.List(Text("a string"), load_default=None, metadata=ARGV)
    timeout = Number(0.001, MAX_TIMEOUT_S, load_default=120, about=TIMEOUT)
    stdin = Text("a string", load_default=None, about="what it reads from its standard input")
    cwd = Text("a path", re.compile(r"[^\x00]+"), load_default=None, about="the folder that it starts in")
    env = Environment(load_default=dict, about="environment variables beside the session's")

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
    """The body of a task: which session, for expiry which generation, and which turn for what suspends or moves."""

    session_id = Text("a session's id", re.compile(r"ws-[a-z0-9-]{1,60}"), required=True)
    generation = Number(1, 2**53, whole=True, load_default=0)
    turn = Number(1, 2**53, whole=True, load_default=0)
