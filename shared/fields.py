"""The kinds of value that requests and files hold. Every complaint says the value seen and the value wanted."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load

from shared.models import Resources

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
NAME_WANTED = "1 to 63 letters, digits, '.', '_', '@' or '-', beginning with a letter or digit"
NO_NUL = re.compile(r"[^\x00]*")
LINE = re.compile(r"[^\x00]*[^\s\x00][^\x00]*")
MAX_CPU = 64
QUANTITY = re.compile(r"(\d+)(Mi|Gi|M|G)?")
V = TypeVar("V")
UNITS = {"Mi": 1 << 20, "Gi": 1 << 30, "M": 10**6, "G": 10**9, None: 1}


def seen(value: object) -> str:
    """A value as it stood in the request, short enough for a sentence."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Value(fields.Field[V], Generic[V]):
    """A kind of value. `about` says what it is for, where its name and kind do not."""

    def __init__(self, *, about: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.about = about

    def json_schema(self) -> dict[str, Any]:
        """What it takes, in OpenAPI's words; `description` says the rest. A pattern is ECMAScript, too."""
        raise NotImplementedError

    def _described(self, wanted: str = "") -> dict[str, str]:
        text = "; ".join(filter(None, (self.about, wanted)))
        return {"description": text} if text else {}


class Text(Value[str]):
    """A string that matches, of `most` characters at most. No text of ours holds NUL."""

    def __init__(
        self, wanted: str, pattern: re.Pattern[str] = NO_NUL, *, most: int | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._wanted, self._pattern, self._most = wanted, pattern, most

    def json_schema(self) -> dict[str, Any]:
        length = {} if self._most is None else {"maxLength": self._most}
        return {"type": "string", "pattern": whole(self._pattern), **length, **self._described(self._wanted)}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str:
        is_long = isinstance(value, str) and self._most is not None and len(value) > self._most
        if not isinstance(value, str) or is_long or not self._pattern.fullmatch(value) or "\0" in value:
            raise ValidationError(f"got {seen(value)}, wanted {self._wanted}")
        return value


class Choice(Value[str]):
    """One of some words."""

    def __init__(self, *words: str, **options: Any) -> None:
        super().__init__(**options)
        self._words = words

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": [str(word) for word in self._words], **self._described()}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str:
        if value not in self._words:
            raise ValidationError(f"got {seen(value)}, wanted one of {', '.join(self._words)}")
        return str(value)


class Number(Value[float]):
    """A number within bounds; `whole` takes integers alone. Query parameters are text: `text` reads them."""

    def __init__(self, least: float, most: float, *, whole: bool = False, text: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._least, self._most, self._whole, self._text = least, most, whole, text

    def json_schema(self) -> dict[str, Any]:
        bounds = {"minimum": self._least, "maximum": self._most}
        finite = {name: bound for name, bound in bounds.items() if math.isfinite(bound)}
        return {"type": "integer" if self._whole else "number", **finite, **self._described()}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> float:
        number = _number_of(value) if self._text else value
        kinds: tuple[type, ...] = (int,) if self._whole else (int, float)
        if not isinstance(number, kinds) or isinstance(number, bool) or not self._least <= number <= self._most:  # type: ignore[operator]
            kind = "an integer" if self._whole else "a number"
            raise ValidationError(f"got {seen(value)}, wanted {kind} from {self._least:g} to {self._most:,g}")
        return number  # type: ignore[return-value]


class Flag(Value[bool]):
    """true or false, nothing that looks like it."""

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean", **self._described()}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError(f"got {seen(value)}, wanted true or false")
        return value


class Moment(Value[datetime]):
    """RFC 3339, with its offset from UTC."""

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time", **self._described()}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> datetime:
        try:
            at = datetime.fromisoformat(value)
            if at.tzinfo is not None:
                return at.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):  # overflows: a year before 1 or after 9999 in UTC
            pass
        raise ValidationError(f"got {seen(value)}, wanted a time with its offset, such as 2027-01-31T12:00:00Z")


class Memory(Value[int]):
    """A Kubernetes quantity, such as 512Mi or 2Gi, in bytes."""

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": whole(QUANTITY), **self._described("a quantity such as 512Mi or 2Gi")}

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_: Any) -> str:
        return f"{value >> 20}Mi"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> int:
        match = QUANTITY.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValidationError(f"got {seen(value)}, wanted a quantity such as 512Mi or 2Gi")
        return int(match[1]) * UNITS[match[2]]


class Cpu(Value[float]):
    """vCPUs: a number, or the same as text."""

    def json_schema(self) -> dict[str, Any]:
        bounds = {"minimum": 0, "exclusiveMinimum": True, "maximum": MAX_CPU}
        return {"type": "number", **bounds, **self._described("a number, or the same as text")}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> float:
        number = _number_of(value) if isinstance(value, str) else value
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number <= MAX_CPU:
            raise ValidationError(f"got {seen(value)}, wanted a number of vCPUs, such as 1 or 2")
        return float(number)


class Words(fields.List[Any]):
    """A list without repetition, of one item or more."""

    def __init__(self, item: fields.Field[str], most: int, about: str = "", **options: Any) -> None:
        super().__init__(item, **options)
        self.about, self._most = about, most

    def json_schema(self) -> dict[str, Any]:
        return {"minItems": 1, "maxItems": self._most, **({"description": self.about} if self.about else {})}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> list[Any]:
        if not isinstance(value, list) or not 1 <= len(value) <= self._most:
            raise ValidationError(f"got {seen(value)}, wanted a list of 1 to {self._most} strings")
        return list(dict.fromkeys(super()._deserialize(value, attr, data, **options)))


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
    """How large a workspace is to be."""

    cpu = Cpu(load_default=1.0, about="virtual processors")
    memory = Memory(load_default=2 << 30, about="main memory")

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> Resources:
        return Resources(cpu=data["cpu"], memory_bytes=data["memory"])


def flat(messages: Any, prefix: str = "") -> list[tuple[str, list[str]]]:
    """marshmallow's complaints by field: {a: {b: [x]}} becomes (a.b, [x]); what concerns the whole, of the body."""
    if isinstance(messages, dict):
        pairs = []
        for name, inner in messages.items():
            whole = name == "_schema"
            pairs += flat(inner, prefix if whole else f"{prefix}.{name}".lstrip("."))
        return pairs
    return [(prefix or "body", [str(message) for message in messages])]


def whole(pattern: re.Pattern[str]) -> str:
    """What JSON Schema calls a pattern is found anywhere in a text; ours are all of it."""
    return f"^(?:{pattern.pattern})$"


def _number_of(text: Any) -> float | None:
    try:
        return int(text)
    except (TypeError, ValueError):
        pass
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
