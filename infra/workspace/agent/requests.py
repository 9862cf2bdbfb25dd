"""Parsing: what a request says, to what is meant, such as a Command. Pure; of a command, all that is wrong is said."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import BadRequest

T = TypeVar("T")

TIMEOUT_S = 120.0
MAX_TIMEOUT_S = 3600.0  # Cloud Run's request limit
MAX_ARGUMENT_BYTES = 131_071  # Linux' MAX_ARG_STRLEN (32 pages) without the closing NUL: execve(2)
SHELL = "/bin/sh"
FIELDS = ("command", "argv", "timeout", "stdin", "cwd", "env")
MAX_ID = 256  # characters
MAX_OFFSET_DIGITS = 18
SHOWN = 80  # characters of a wrong value that a complaint repeats


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `cwd` is relative to the work folder; `env` is laid over the session's environment."""

    argv: tuple[str, ...]
    timeout_s: float = TIMEOUT_S
    stdin: bytes | None = None
    cwd: str | None = None
    env: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Of a tar that is restored: where in it the part begins, and whether it is the last one."""

    restore_id: str
    offset: int
    last: bool


def parse(body: bytes) -> Command:
    """Raises BadRequest. A field that is null counts as absent."""
    document = _object(body)
    errors = {name: [f"unknown field; wanted one of {', '.join(FIELDS)}"] for name in document if name not in FIELDS}
    fields = {name: value for name, value in document.items() if value is not None and name in FIELDS}
    if ("command" in fields) == ("argv" in fields):
        seen = "both" if "argv" in fields else "neither"
        errors["command"] = [f"got {seen} of command and argv; wanted exactly one"]
    parsed: dict[str, Any] = {}
    for name, value in fields.items():
        try:
            parsed[name] = _PARSERS[name](value)
        except ValueError as exc:
            errors.setdefault(name, []).append(str(exc))
    if errors:
        raise BadRequest("; ".join(f"{name}: {complaints[0]}" for name, complaints in errors.items()), errors)
    return Command(
        argv=parsed["argv"] if "argv" in parsed else (SHELL, "-c", parsed["command"]),
        timeout_s=parsed.get("timeout", TIMEOUT_S),
        stdin=parsed.get("stdin"),
        cwd=parsed.get("cwd"),
        env=parsed.get("env"),
    )


def parse_adoption(body: bytes) -> tuple[str, Mapping[str, str]]:
    """The session and its environment. Raises BadRequest."""
    document = _object(body)
    return _field("session_id", _name, document, None), _field("env", _env, document, {})


def parse_lease(body: bytes, default_s: float, most_s: float) -> float:
    """Seconds; an empty body is one without fields. Raises BadRequest."""

    def lease(value: Any) -> float:
        return seconds(value, most_s)

    return _field("lease_s", lease, _object(body or b"{}"), default_s)


def parse_part(query: Mapping[str, str]) -> Part:
    """Raises BadRequest."""
    restore_id, offset, last = query.get("restore", ""), query.get("offset", ""), query.get("last", "false")
    if not 0 < len(restore_id) <= MAX_ID:
        raise BadRequest.field("restore", f"got {shown(restore_id)}; wanted an id of 1 to {MAX_ID} characters")
    if not (offset.isascii() and offset.isdigit() and len(offset) <= MAX_OFFSET_DIGITS):
        raise BadRequest.field("offset", f"got {shown(offset)}; wanted a whole number, 0 or more")
    if last not in ("true", "false"):
        raise BadRequest.field("last", f"got {shown(last)}; wanted true or false")
    return Part(restore_id, int(offset), last == "true")


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise BadRequest(f"the body is not JSON ({exc}); wanted an object") from exc
    if not isinstance(document, dict):
        raise BadRequest(f"the body is {shown(document)}; wanted an object")
    return document


def _field(name: str, parser: Callable[[Any], T], document: Mapping[str, Any], default: Any) -> T:
    try:
        return parser(document.get(name, default))
    except ValueError as exc:
        raise BadRequest.field(name, str(exc)) from exc


def _line(value: Any) -> str:
    text = _word(value)
    if not text.strip():
        raise ValueError(f"got {shown(value)}; wanted a command line")
    return text


def _argv(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"got {shown(value)}; wanted a list of one string or more")
    argv = tuple(map(_word, value))
    if not argv[0]:
        raise ValueError('the first string is ""; wanted the name of a program')
    return argv


def seconds(value: Any, most: float = MAX_TIMEOUT_S) -> float:
    """A timeout. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise ValueError(f"got {shown(value)}; wanted seconds, above 0 and at most {most:.0f}")
    return float(value)


def _stdin(value: Any) -> bytes:
    return _encoded(_text(value))


def _name(value: Any) -> str:
    text = _word(value)
    if not text:
        raise ValueError('got ""; wanted the id of a session')
    return text


def _folder(value: Any) -> str:
    text = _word(value)
    if not text:
        raise ValueError('got ""; wanted the path of a folder')
    return text


def _env(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"got {shown(value)}; wanted an object of strings")
    for name, text in value.items():
        if not _word(name) or "=" in name:
            raise ValueError(f'got the name {shown(name)}; wanted one that is not empty and has no "="')
        _word(text)
    return value


def _word(value: Any) -> str:
    """A string that the kernel can pass to a program."""
    text = _text(value)
    size = len(_encoded(text))
    if size > MAX_ARGUMENT_BYTES:
        raise ValueError(
            f"a string has {size} bytes; the kernel passes at most {MAX_ARGUMENT_BYTES} in one: send more as stdin"
        )
    if "\0" in text:
        raise ValueError("a string has a NUL character; the kernel cannot pass it")
    return text


def unicode(value: Any) -> str:
    """A string that UTF-8 can say. Raises ValueError."""
    text = _text(value)
    _encoded(text)
    return text


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"got {shown(value)}; wanted a string")
    return value


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(f"a string is not Unicode: {exc.reason} at {exc.start}") from exc


def shown(value: Any) -> str:
    """A wrong value as a complaint repeats it."""
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "command": _line,
    "argv": _argv,
    "timeout": seconds,
    "stdin": _stdin,
    "cwd": _folder,
    "env": _env,
}
