"""Bodies of built-in kinds against their schemas: unknown fields, wrong types, quantities and base64, as Go decodes."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any, Final

from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.quantities import is_quantity
from infra.emulators.kubernetes.schemas import PREFIX, QUANTITY, Schema, resolved, schema_of
from infra.emulators.kubernetes.statuses import BadRequest

_QUANTITY_RULE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_JSON_TYPES: Final = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
_GO_TYPES: Final = {"string": "string", "integer": "int64", "boolean": "bool", "number": "float64"}
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "number": (int, float),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_INDEX = re.compile(r"\[\d+\]")
_INT_LIMIT = 2**63


@dataclass
class _Reading:
    """`unknown`: fields that no schema has, in the order in which they were met."""

    unknown: list[str] = field(default_factory=list)


def decode(kind: Kind, obj: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the server keeps of the body, and its unknown fields (as `unknown field "spec.x"`). Raises BadRequest."""
    reading = _Reading()
    try:
        decoded = _object(reading, schema_of(kind), obj, kind.kind, "")
    except ValueError as exc:
        raise BadRequest(cannot_be_handled(kind, str(exc))) from None
    return decoded, [f'unknown field "{path}"' for path in reading.unknown]


def cannot_be_handled(kind: Kind, why: str) -> str:
    return f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}'


def _object(reading: _Reading, schema: Schema, obj: dict[str, Any], owner: str, path: str) -> dict[str, Any]:
    known = schema.get("properties", {})
    kept: dict[str, Any] = {}
    for name, value in obj.items():
        where = f"{path}.{name}" if path else name
        if name not in known:
            reading.unknown.append(where)
        elif value is not None:
            kept[name] = _value(reading, known[name], value, owner, where)
    return kept


def _value(reading: _Reading, schema: Schema, value: Any, owner: str, path: str) -> Any:
    if schema.get("$ref") == PREFIX + QUANTITY:
        return _quantity(value)
    name = schema["$ref"].rsplit(".", 1)[-1] if "$ref" in schema else ""
    schema = resolved(schema)
    kind = schema.get("type")
    if kind is None:
        return value
    if kind == "object":
        if not isinstance(value, dict):
            raise _mismatch(value, owner, path, f"v1.{name}" if name else "map[string]string")
        if "properties" in schema:
            return _object(reading, schema, value, name or owner, path)
        inner = schema.get("additionalProperties")
        if inner is None:
            return value
        return {
            key: _value(reading, inner, one, owner, f"{path}.{key}" if "$ref" in inner else path)
            for key, one in value.items()
            if one is not None or inner.get("type") != "object"
        }
    if kind == "array":
        if not isinstance(value, list):
            inner = schema["items"].get("$ref", "").rsplit(".", 1)[-1]
            raise _mismatch(value, owner, path, f"[]v1.{inner}" if inner else "[]string")
        return [_value(reading, schema["items"], one, owner, f"{path}[{index}]") for index, one in enumerate(value)]
    return _scalar(schema, value, owner, path)


def _scalar(schema: Schema, value: Any, owner: str, path: str) -> Any:
    kind, form = schema["type"], schema.get("format")
    if form == "int-or-string":
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return value
        raise _mismatch(value, owner, path, "intstr.IntOrString")
    if isinstance(value, float) and kind == "integer" and value.is_integer():
        value = int(value)
    if value is None and kind == "string":
        return ""  # a map's value
    if type(value) not in _TYPES[kind]:
        raise _mismatch(value, owner, path, _GO_TYPES[kind])
    if kind == "integer" and not -_INT_LIMIT <= value < _INT_LIMIT:
        raise ValueError(f"json: cannot unmarshal number {value} into Go struct field {_go(owner, path)} of type int64")
    if form == "byte":
        _check_base64(value)
    elif form == "date-time" and not _TIME.fullmatch(value):
        raise ValueError(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"')
    return value


def _quantity(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not is_quantity(value):
        raise ValueError(_QUANTITY_RULE)
    return value


def _check_base64(text: str) -> None:
    try:
        base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        wrong = re.search(r"[^A-Za-z0-9+/=\r\n]", text)
        at = wrong.start() if wrong else len(text) - len(text) % 4
        raise ValueError(f"illegal base64 data at input byte {at}") from None


def _mismatch(value: Any, owner: str, path: str, wanted: str) -> ValueError:
    seen = json_type(value)
    return ValueError(f"json: cannot unmarshal {seen} into Go struct field {_go(owner, path)} of type {wanted}")


def json_type(value: Any) -> str:
    """As Go's decoder calls it."""
    return _JSON_TYPES[type(value)] if value is not None else "null"


def _go(owner: str, path: str) -> str:
    return f"{owner}.{_INDEX.sub('', path)}"
