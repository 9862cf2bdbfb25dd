"""What operations answer, as schemas: for the API's document, and for tests that hold shared.answers to it.

Nothing is loaded with them at run time. A caller must bear fields that come later.
"""

from collections.abc import Collection
from math import inf
from typing import Any, ClassVar

from marshmallow import ValidationError, fields

from shared.callers import Scope
from shared.fields import Choice, Flag, Moment, Number, Strict, Value, seen
from shared.job_models import JobState
from shared.models import ProviderName, State


class Answer(Strict):
    """Every field is always there, but for those in `sometimes`."""

    sometimes: ClassVar[Collection[str]] = ()

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.required = field_name not in self.sometimes


class String(Value[str]):
    """Any text: what a command wrote may hold anything."""

    def __init__(self, about: str, **options: Any) -> None:
        super().__init__(about=about, **options)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", **self._described()}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError(f"got {seen(value)}, wanted a string")
        return value


class Strings(Value[dict[str, Any]]):
    """An object of strings, but for the fields of `others`."""

    def __init__(self, others: dict[str, Value[Any]] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._others = others or {}

    def json_schema(self) -> dict[str, Any]:
        others = {name: other.json_schema() for name, other in self._others.items()}
        known = {"properties": others, "required": sorted(others)} if others else {}
        return {"type": "object", **known, "additionalProperties": {"type": "string"}, **self._described()}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not self._others.keys() <= value.keys():
            raise ValidationError(f"got {seen(value)}, wanted an object with {', '.join(self._others) or 'strings'}")
        for name, item in value.items():
            if name in self._others:
                self._others[name].deserialize(item)
            elif not isinstance(item, str):
                raise ValidationError(f"got {seen(item)} for {seen(name)}, wanted a string")
        return value


def _list(of: type[Answer], about: str) -> fields.List[Any]:
    return fields.List(fields.Nested(of), metadata={"description": about})


def _count(about: str, **options: Any) -> Number:
    return Number(0, inf, whole=True, about=about, **options)


class MachineAnswer(Answer):
    """How large a workspace is."""

    cpu = Number(0, inf, about="virtual processors")
    memory = String("main memory, a quantity such as 2048Mi")


class MountedShareAnswer(Answer):
    """An NFS share that a session has mounted."""

    ip = String("the server's IPv4 address")
    share = String("the share's name")
    mount_path = String("where in the session it is")


class MountsAnswer(Answer):
    """What a session has mounted."""

    bucket = String("the bucket's name")
    mount_path = String("where in the session the bucket is")
    keep = Flag(about="whether the bucket outlives the session")
    filestore = fields.Nested(MountedShareAnswer, allow_none=True)


class SessionAnswer(Answer):
    """A session as it is now."""

    sometimes = frozenset({"error"})

    id = String("what every other call names it by")
    provider = Choice(*ProviderName, about="where it runs")
    namespace = String("the project or team that it is for")
    user = String("the person or program that it is for")
    status = Choice(*State, about="one that says running has just answered")
    url = String("where its workspace answers directly; null: only through the API", allow_none=True)
    websocket = String("the path of its shell")
    ssh = Flag(about="whether it can be reached by SSH")
    details = Strings(
        {"boots": _count("how often its workspace was started; more than 1: it was restarted under the same id")},
        about="what its provider says of it, such as service_name and bucket_name; reason: why it runs there; notice: "
        "what happened to it last",
    )
    created_at = Moment()
    expires_at = Moment(allow_none=True, about="when its time is up; null: its time stands still")
    suspended_at = Moment(allow_none=True, about="since when it is suspended; null: it is not")
    ttl_left_seconds = Number(0, inf, allow_none=True, about="what a suspended one has left; null: see expires_at")
    template = String("what it started from")
    labels = Strings()
    idle_timeout_minutes = _count("how long nothing may happen in it; null: as long as its TTL", allow_none=True)
    long_lived = Flag(about="whether it is for days")
    auto_resume = Flag(about="whether a command resumes it when it is suspended")
    storage = fields.Nested(MountsAnswer)
    error = String("why it failed; only there if it did")


class DeletedSessionAnswer(Answer):
    """A session that is gone for everybody."""

    id = String("the session's id")
    status = Choice(State.DELETING)
    success = Flag()


class SessionPageAnswer(Answer):
    """A page of sessions."""

    sessions = _list(SessionAnswer, "newest first")
    next_page_token = String("page_token of the next page; null: this is the last", allow_none=True)


class WorkspacePageAnswer(Answer):
    """A page of workspaces, which are sessions on Cloud Run."""

    workspaces = _list(SessionAnswer, "newest first")
    next_page_token = String("page_token of the next page; null: this is the last", allow_none=True)


class PlanAnswer(Answer):
    """What a session would be."""

    provider = Choice(*ProviderName, about="where it would run")
    reasons = fields.List(String("a sentence"), metadata={"description": "why there"})
    resources = fields.Nested(MachineAnswer)
    expected_start_seconds = _count("how long it usually takes to start")
    cost_per_hour_usd = Number(0, inf, about="by the list's prices, in US dollars")
    prices_of = String("the month of that list")
    notes = fields.List(String("a sentence"), metadata={"description": "what the price leaves out"})


class ConnectionAnswer(Answer):
    """How to reach a session's workspace without the functions."""

    url = String("where its agent answers HTTP; null: it cannot be reached", allow_none=True)
    websocket = String("where its shell answers WebSockets; null: it cannot be reached", allow_none=True)
    ticket = String("opens both: in the header Authorization: Bearer as often as you like, as ?ticket= once")
    expires_at = Moment(about="when the ticket stops opening anything")
    ssh = Strings(allow_none=True, about="how to reach it by SSH, such as the command; null: not at all")


class ExecutionAnswer(Answer):
    """A command's end."""

    stdout = String("what it wrote there, at most 10 MB")
    stderr = String("what it wrote there, at most 10 MB")
    returncode = Number(-inf, inf, whole=True, about="124: its time was up; 128 + N: signal N ended it")
    success = Flag(about="whether returncode is 0")
    timed_out = Flag()
    truncated = Flag(about="whether there was more output")
    duration_ms = Number(0, inf, about="the command's own time")


class ListedJobAnswer(Answer):
    """A job, without its output."""

    sometimes = frozenset({"command", "argv"})

    id = String("the job's id")
    session_id = String("its session's id")
    state = Choice(*JobState)
    command = String("the line for /bin/sh; this or argv")
    argv = fields.List(String("a word"), metadata={"description": "the program and its arguments; this or command"})
    timeout = Number(0, inf, about="how many seconds each attempt may take")
    retries = _count("how often a failed attempt is made again")
    attempts = _count("how many were begun")
    returncode = Number(-inf, inf, whole=True, allow_none=True, about="of the last attempt; null: none has ended")
    created_at = Moment()
    started_at = Moment(allow_none=True)
    finished_at = Moment(allow_none=True)
    error = String("why it could not run; null: nothing was in its way", allow_none=True)


class JobAnswer(ListedJobAnswer):
    """A job, with the newest of its output."""

    stdout = String("the newest of it")
    stderr = String("the newest of it")
    truncated = Flag(about="whether there was more output")


class JobPageAnswer(Answer):
    """A page of a session's jobs."""

    jobs = _list(ListedJobAnswer, "newest first")
    next_page_token = String("page_token of the next page; null: this is the last", allow_none=True)


class TemplateAnswer(Answer):
    """What a session can start from."""

    name = String("what it is asked for by")
    description = String("what it is for")
    image = String("the container image")
    resources = fields.Nested(MachineAnswer)
    env = Strings()
    available = Flag(about="whether a session can start from it here")
    reason = String("why not; null: it can", allow_none=True)


class TemplatesAnswer(Answer):
    """Every template of the deployment."""

    templates = _list(TemplateAnswer, "those of the deployment among them")


class KeyAnswer(Answer):
    """An API key without its secret, which nobody knows any more."""

    id = String("names it, and opens nothing")
    name = String("what it is called")
    tenant = String("whose it is")
    scopes = fields.List(Choice(*Scope), metadata={"description": "what it may be used for"})
    namespaces = fields.List(
        String("a namespace"), allow_none=True, metadata={"description": "what it opens; null: all of its tenant's"}
    )
    created_at = Moment()
    expires_at = Moment(allow_none=True, about="null: never")
    revoked_at = Moment(allow_none=True, about="null: it is not")


class NewKeyAnswer(KeyAnswer):
    """A key with its secret."""

    key = String("the secret, for the header X-API-Key: it is here and nowhere else")


class RevokedKeyAnswer(KeyAnswer):
    """A key that opens nothing any more."""

    success = Flag()


class KeysAnswer(Answer):
    """The keys that the caller keeps."""

    keys = _list(KeyAnswer, "newest first")


class HealthAnswer(Answer):
    """The control plane answers."""

    status = Choice("healthy")
    providers = fields.List(Choice(*ProviderName), metadata={"description": "where sessions can run here"})


class ErrorAnswer(Answer):
    """Why a call failed."""

    sometimes = frozenset({"errors"})

    detail = String("a sentence: the thing, the value seen, the value wanted")
    code = String("stable: what to tell errors apart by")
    errors = fields.Dict(
        keys=String("a field"), values=fields.List(String("a complaint")),
        metadata={"description": "the complaints about each field of the request"},
    )  # fmt: skip


class GatewayErrorAnswer(Answer):
    """Why a call failed, in the words of API Gateway."""

    code = Number(400, 599, whole=True, about="the status")
    message = String("a sentence")
