"""Field paths: `a.b` and `` `odd name`.c ``, and reading, setting and masking the fields of a document by them."""

import re
from collections.abc import Iterable

from google.api_core import exceptions

from .messages import Document, Message

FieldPath = tuple[str, ...]

_SEGMENT = re.compile(r"[a-zA-Z_][a-zA-Z_0-9]*|`(?:[^`\\]|\\.)+`", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_RESERVED = re.compile(r"__.*__", re.DOTALL)
NAME: FieldPath = ("__name__",)


def parse(text: str) -> FieldPath:
    """Split a field path into its segments. Raises InvalidArgument."""
    if not text:
        raise exceptions.InvalidArgument("Invalid empty property path string.")
    segments: list[str] = []
    position = 0
    while match := _SEGMENT.match(text, position):
        found = match[0]
        segments.append(_ESCAPE.sub(r"\1", found[1:-1]) if found[0] == "`" else found)
        position = match.end()
        if position == len(text):
            return _unreserved(tuple(segments))
        if text[position] != ".":
            break
        position += 1
    raise exceptions.InvalidArgument(
        f'Invalid property path "{text}". Segments are [a-zA-Z_][a-zA-Z_0-9]* or quoted with backticks, joined by dots.'
    )


def _unreserved(path: FieldPath) -> FieldPath:
    if path != NAME:
        for segment in path:
            if _RESERVED.fullmatch(segment):
                raise exceptions.InvalidArgument(f"Invalid reserved name in field path {segment}")
    return path


def lookup(fields: Message, path: FieldPath) -> Message | None:
    """The value at `path` in a map of fields; None: there is none."""
    *parents, last = path
    for segment in parents:
        if segment not in fields:
            return None
        value = fields[segment]
        if value.WhichOneof("value_type") != "map_value":
            return None
        fields = value.map_value.fields
    return fields.get(last)


def ensure(fields: Message, path: FieldPath) -> Message:
    """The value at `path`, made where it is missing; what stands in the way and is no map becomes one."""
    *parents, last = path
    for segment in parents:
        value = fields[segment]
        if value.WhichOneof("value_type") != "map_value":
            value.Clear()
            value.map_value.SetInParent()
        fields = value.map_value.fields
    return fields[last]


def remove(fields: Message, path: FieldPath) -> None:
    """Remove the value at `path`; the maps around it stay."""
    *parents, last = path
    for segment in parents:
        if segment not in fields or fields[segment].WhichOneof("value_type") != "map_value":
            return
        fields = fields[segment].map_value.fields
    fields.pop(last, None)


def project(document: Message, paths: Iterable[FieldPath]) -> Message:
    """A copy of the document that holds only the fields at `paths`; times and name stay."""
    projected = Document(name=document.name)
    for stamp in ("create_time", "update_time"):
        if document.HasField(stamp):
            getattr(projected, stamp).CopyFrom(getattr(document, stamp))
    for path in paths:
        if path != NAME and (value := lookup(document.fields, path)) is not None:
            ensure(projected.fields, path).CopyFrom(value)
    return projected
