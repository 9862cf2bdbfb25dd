"""The kinds of value that requests and files hold. Every complaint says the value seen and the value wanted."""

import json
import re
from collections.abc import Mapping
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load

from shared.models import Resources

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
NAME_WANTED = "1 to 63 letters, digits, '.', '_', '@' or '-', beginning with a letter or digit"
MAX_LABELS = 32  # Google Cloud takes 64 a resource; half are the caller's
MAX_ENV_BYTES = 32_768  # Cloud Run's limit of one variable; here of all: cloud.google.com/run/quotas
# cloud.google.com/resource-manager/docs/labels-overview#requirements
LABEL_KEY = re.compile(r"(?!onmemos|goog)[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED_ENV = re.compile(
    r"PORT|K_.*|X_GOOGLE_.*|CLOUD_RUN_.*|ONMEMOS_.*|WORKSPACE_ID|NAMESPACE|USER|BUCKET_NAME|HOME|GOOGLE_.*"
)
QUANTITY = re.compile(r"(\d+)(Mi|Gi|M|G)?")
UNITS = {"Mi": 1 << 20, "Gi": 1 << 30, "M": 10**6, "G": 10**9, None: 1}


def seen(value: object) -> str:
    """A value as it stood in the request, short enough for a sentence."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Text(fields.Field[str]):
    """A string that matches."""

    def __init__(self, wanted: str, pattern: re.Pattern[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._wanted, self._pattern = wanted, pattern

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str:
        if not isinstance(value, str) or (self._pattern and not self._pattern.fullmatch(value)) or "\0" in value:
            raise ValidationError(f"got {seen(value)}, wanted {self._wanted}")
        return value


class Choice(fields.Field[str]):
    """One of some words."""

    def __init__(self, *words: str, **options: Any) -> None:
        super().__init__(**options)
        self._words = words

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str:
        if value not in self._words:
            raise ValidationError(f"got {seen(value)}, wanted one of {', '.join(self._words)}")
        return str(value)


class Number(fields.Field[float]):
    """A number within bounds; `whole` takes integers alone. Query parameters are text: `text` reads them."""

    def __init__(self, least: float, most: float, *, whole: bool = False, text: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._least, self._most, self._whole, self._text = least, most, whole, text

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> float:
        number = _number_of(value) if self._text else value
        kinds: tuple[type, ...] = (int,) if self._whole else (int, float)
        if not isinstance(number, kinds) or isinstance(number, bool) or not self._least <= number <= self._most:  # type: ignore[operator]
            kind = "an integer" if self._whole else "a number"
            raise ValidationError(f"got {seen(value)}, wanted {kind} from {self._least:g} to {self._most:,g}")
        return number  # type: ignore[return-value]


class Flag(fields.Field[bool]):
    """true or false, nothing that looks like it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError(f"got {seen(value)}, wanted true or false")
        return value


class Pairs(fields.Field[dict[str, str]]):
    """An object of strings; the subclass says which."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValidationError(f"got {seen(value)}, wanted an object of strings")
        for key, item in value.items():
            self._check(key, item)
        return dict(value)

    def _check(self, key: str, item: Any) -> None:
        raise NotImplementedError


class Labels(Pairs):
    """Google Cloud labels."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> dict[str, str]:
        labels = super()._deserialize(value, attr, data, **options)
        if len(labels) > MAX_LABELS:
            raise ValidationError(f"got {len(labels)} labels, wanted at most {MAX_LABELS}")
        return labels

    def _check(self, key: str, item: Any) -> None:
        if not LABEL_KEY.fullmatch(key):
            wanted = "1 to 63 of a-z, 0-9, '_', '-', beginning with a letter; not beginning with onmemos or goog"
            raise ValidationError(f"got the key {seen(key)}, wanted {wanted}")
        if not isinstance(item, str) or not LABEL_VALUE.fullmatch(item):
            raise ValidationError(f"got {seen(item)} for {seen(key)}, wanted up to 63 of a-z, 0-9, '_', '-'")


class Environment(Pairs):
    """Environment variables; with `of_session`, none of those that we or the platform set."""

    def __init__(self, *, of_session: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._of_session = of_session

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> dict[str, str]:
        env = super()._deserialize(value, attr, data, **options)
        size = sum(len(key.encode()) + len(item.encode()) for key, item in env.items())
        if size > MAX_ENV_BYTES:
            raise ValidationError(f"got {size} bytes, wanted at most {MAX_ENV_BYTES} in all")
        return env

    def _check(self, key: str, item: Any) -> None:
        if not isinstance(key, str) or not ENV_NAME.fullmatch(key):  # YAML's keys may be anything
            raise ValidationError(
                f"got the name {seen(key)}, wanted letters, digits and '_', not beginning with a digit"
            )
        if self._of_session and RESERVED_ENV.fullmatch(key):
            raise ValidationError(f"got the name {seen(key)}, wanted one that is not reserved")
        if not isinstance(item, str) or "\0" in item:
            raise ValidationError(f"got {seen(item)} for {seen(key)}, wanted a string without NUL")


class Memory(fields.Field[int]):
    """A Kubernetes quantity, such as 512Mi or 2Gi, in bytes."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> int:
        match = QUANTITY.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValidationError(f"got {seen(value)}, wanted a quantity such as 512Mi or 2Gi")
        return int(match[1]) * UNITS[match[2]]


class Cpu(fields.Field[float]):
    """vCPUs: a number, or the same as text."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> float:
        number = _number_of(value) if isinstance(value, str) else value
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number <= 64:
            raise ValidationError(f"got {seen(value)}, wanted a number of vCPUs, such as 1 or 2")
        return float(number)


class Words(fields.List[Any]):
    """A list without repetition, of one item or more."""

    def __init__(self, item: fields.Field[str], most: int, **options: Any) -> None:
        super().__init__(item, **options)
        self._most = most

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
    """resources: {cpu, memory}."""

    cpu = Cpu(load_default=1.0)
    memory = Memory(load_default=2 << 30)

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


def _number_of(text: Any) -> float | None:
    try:
        return int(text)
    except (TypeError, ValueError):
        pass
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
