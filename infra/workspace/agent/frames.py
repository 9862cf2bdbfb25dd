"""The frames of the WebSockets /v1/shell and /v1/terminal: JSON text, parsed and built. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .answers import Outcome, text_of
from .errors import BadRequest
from .requests import MAX_TIMEOUT_S, seconds, shown, unicode

T = TypeVar("T")

PONG = '{"type": "pong"}'
TYPES = ("command", "interrupt", "ping")
DEFAULT_SIZE = (24, 80)  # rows and columns of a VT100
MAX_FRAME_BYTES = 1 << 20  # what common clients take unasked, such as Python's websockets
MARGIN_BYTES = 256  # for the frame's own words
MAX_ID = 256  # characters
MAX_SIDE = 65_535  # struct winsize has 16 bits for each: ioctl_tty(2)


class BadFrame(BadRequest):
    """A frame that is not understood. `frame_id` is its own, where it has one."""

    def __init__(self, detail: str, frame_id: str | None = None) -> None:
        super().__init__(detail)
        self.frame_id = frame_id


@dataclass(frozen=True, slots=True)
class Run:
    """A command line for the shell; `id` comes back in its result."""

    line: str
    timeout_s: float = MAX_TIMEOUT_S
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Ctrl-C for the command that runs."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Wants a pong."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal's window, in characters."""

    rows: int
    cols: int


def parse(frame: str | bytes) -> Run | Interrupt | Ping:
    """A client's frame on /v1/shell. Raises BadFrame."""
    document = _object(frame)
    given = _field("id", _id, document)
    kind = document.get("type")
    if kind == "ping":
        return Ping()
    if kind == "interrupt":
        return Interrupt()
    if kind != "command":
        raise BadFrame(f"type: got {shown(kind)}; wanted one of {', '.join(TYPES)}", given)
    line = _field("command", _line, document, given)
    if line is None:
        raise BadFrame("command: there is none; wanted a command line", given)
    timeout_s = _field("timeout", seconds, document, given)
    return Run(line, MAX_TIMEOUT_S if timeout_s is None else timeout_s, given)


def parse_resize(frame: str) -> Size:
    """A client's text frame on /v1/terminal. Raises BadFrame."""
    document = _object(frame)
    if document.get("type") != "resize":
        raise BadFrame(f"type: got {shown(document.get('type'))}; wanted resize")
    return Size(_side("rows", document.get("rows")), _side("cols", document.get("cols")))


def parse_size(query: Mapping[str, str]) -> Size:
    """The size that the URL asks for. Raises BadFrame."""
    sides = []
    for name, default in zip(("rows", "cols"), DEFAULT_SIZE, strict=True):
        value = query.get(name, str(default))
        sides.append(_side(name, int(value) if value.isascii() and value.isdigit() and len(value) < 6 else value))
    return Size(*sides)


def welcome(session_id: str, boot_id: str, shell: str, cwd: str, version: str) -> str:
    """The first frame of a shell."""
    facts = {"session_id": session_id, "boot_id": boot_id, "shell": shell, "cwd": cwd, "version": version}
    return json.dumps({"type": "welcome", **facts})


def result(outcome: Outcome, cwd: str, run_id: str | None) -> str:
    """How a command went; `cwd` is where the shell is after it. What a frame has no room for is cut: `truncated`."""
    facts = {**outcome.facts(), "cwd": cwd, **({} if run_id is None else {"id": run_id})}
    room = MAX_FRAME_BYTES - MARGIN_BYTES - len(json.dumps(facts))
    whole = {"stdout": text_of(outcome.stdout), "stderr": text_of(outcome.stderr)}
    stderr, spent = _fitting(whole["stderr"], room // 2)
    stdout, spent = _fitting(whole["stdout"], room - spent)
    if len(stderr) < len(whole["stderr"]):
        stderr, _ = _fitting(whole["stderr"], room - spent)
    facts["truncated"] = facts["truncated"] or (stdout, stderr) != (whole["stdout"], whole["stderr"])
    frame = {"type": "command_result", "stdout": stdout, "stderr": stderr, **facts}
    return json.dumps(frame, ensure_ascii=False)


def _fitting(text: str, room: int) -> tuple[str, int]:
    """As much of the text's beginning as takes at most `room` bytes in JSON, and how many that takes."""
    size = _size(text)
    while size > room:
        text = text[: min(len(text) - 1, len(text) * room // size)]
        size = _size(text)
    return text, size


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())


def error(exc: BadFrame) -> str:
    """What is wrong with a frame."""
    frame = {"type": "error", "detail": str(exc)}
    if exc.frame_id is not None:
        frame["id"] = exc.frame_id
    return json.dumps(frame)


def status(state: str, detail: str) -> str:
    """What became of the shell."""
    return json.dumps({"type": "status", "status": state, "detail": detail})


def exited(returncode: int) -> str:
    """The last frame of a terminal."""
    return json.dumps({"type": "exit", "returncode": returncode})


def _object(frame: str | bytes) -> dict[str, Any]:
    if not isinstance(frame, str):
        raise BadFrame("the frame is binary; wanted JSON text")
    try:
        document = json.loads(frame)
    except (ValueError, RecursionError) as exc:
        raise BadFrame(f"the frame is not JSON ({exc}); wanted an object") from exc
    if not isinstance(document, dict):
        raise BadFrame(f"the frame is {shown(document)}; wanted an object")
    return document


def _field(name: str, parser: Callable[[Any], T], document: Mapping[str, Any], frame_id: str | None = None) -> T | None:
    """None where it is absent or null."""
    value = document.get(name)
    if value is None:
        return None
    try:
        return parser(value)
    except ValueError as exc:
        raise BadFrame(f"{name}: {exc}", frame_id) from exc


def _id(value: Any) -> str:
    text = unicode(value)
    if len(text) > MAX_ID:
        raise ValueError(f"got {len(text)} characters; wanted at most {MAX_ID}")
    return text


def _line(value: Any) -> str:
    line = unicode(value)
    if not line.strip():
        raise ValueError(f"got {shown(value)}; wanted a command line")
    if "\0" in line:
        raise ValueError("the string has a NUL character; a shell cannot take it")
    return line


def _side(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIDE:
        raise BadFrame(f"{name}: got {shown(value)}; wanted a whole number from 1 to {MAX_SIDE}")
    return value
