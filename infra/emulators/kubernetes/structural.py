"""Custom resources against the openAPIV3Schema of their definition: defaults, unknown fields, types, limits."""

import json
import re
from collections.abc import Iterator
from typing import Any

from infra.emulators.kubernetes.objects import copied
from infra.emulators.kubernetes.schemas import Schema
from infra.emulators.kubernetes.statuses import FieldError, duplicate, invalid, required, unsupported, wrong_type

_PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
_FREE = "x-kubernetes-preserve-unknown-fields"


def pruned(value: Any, schema: Schema, path: str = "") -> tuple[Any, list[str]]:
    """Without the fields that the schema does not have, and their paths. Nulls that may not be go too."""
    unknown: list[str] = []

    def walk(at: Any, known: Schema, where: str) -> Any:
        if isinstance(at, list):
            items = known.get("items", {_FREE: True} if known.get(_FREE) else {})
            return [walk(one, items, f"{where}[{index}]") for index, one in enumerate(at)]
        if not isinstance(at, dict):
            return at
        properties, beyond = known.get("properties", {}), known.get("additionalProperties")
        kept = {}
        for key, one in at.items():
            inside = f"{where}.{key}" if where else key
            if key in properties:
                if one is not None or properties[key].get("nullable") or "default" not in properties[key]:
                    kept[key] = walk(one, properties[key], inside)
            elif known.get("x-kubernetes-embedded-resource") and key in ("apiVersion", "kind", "metadata"):
                kept[key] = one
            elif isinstance(beyond, dict) or beyond is True:
                kept[key] = walk(one, beyond if isinstance(beyond, dict) else {_FREE: True}, inside)
            elif known.get(_FREE):
                kept[key] = one
            else:
                unknown.append(inside)
        return kept

    return walk(value, schema, path), unknown


def defaulted(value: Any, schema: Schema) -> Any:
    """With the defaults of the schema."""
    if isinstance(value, list):
        return [defaulted(one, schema.get("items", {})) for one in value]
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for key, known in schema.get("properties", {}).items():
        if key not in filled and "default" in known:
            filled[key] = copied(known["default"])
        if key in filled:
            filled[key] = defaulted(filled[key], known)
    if isinstance(beyond := schema.get("additionalProperties"), dict):
        for key in filled.keys() - schema.get("properties", {}).keys():
            filled[key] = defaulted(filled[key], beyond)
    return filled


def errors(value: Any, schema: Schema, path: str) -> Iterator[FieldError]:
    if value is None and schema.get("nullable"):
        return
    kind = schema.get("type", "")
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            yield wrong_type(path, _json_type(value), "integer,string")
            return
    elif kind in _PYTHON and not _is(value, kind):
        yield wrong_type(path, _json_type(value), kind)
        return
    if "enum" in schema and value not in schema["enum"]:
        yield unsupported(path, value, schema["enum"])
    if isinstance(value, str):
        yield from _string_errors(value, schema, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number_errors(value, schema, path)
    elif isinstance(value, list):
        yield from _list_errors(value, schema, path)
    elif isinstance(value, dict):
        yield from _object_errors(value, schema, path)
    yield from _logic_errors(value, schema, path)


def _object_errors(value: dict[str, Any], schema: Schema, path: str) -> Iterator[FieldError]:
    properties, beyond = schema.get("properties", {}), schema.get("additionalProperties")
    for key in schema.get("required", ()):
        if key not in value:
            yield required(f"{path}.{key}" if path else key)
    if len(value) > schema.get("maxProperties", len(value)):
        yield FieldError(
            "FieldValueTooMany", path, "Too many", f"must have at most {schema['maxProperties']} items", str(len(value))
        )
    if len(value) < schema.get("minProperties", 0):
        yield invalid(path, len(value), f"{path} in body should have at least {schema['minProperties']} properties")
    for key, one in value.items():
        inside = f"{path}.{key}" if path else key
        if key in properties:
            yield from errors(one, properties[key], inside)
        elif isinstance(beyond, dict):
            yield from errors(one, beyond, inside)


def _list_errors(value: list[Any], schema: Schema, path: str) -> Iterator[FieldError]:
    if len(value) > schema.get("maxItems", len(value)):
        yield FieldError(
            "FieldValueTooMany", path, "Too many", f"must have at most {schema['maxItems']} items", str(len(value))
        )
    if len(value) < schema.get("minItems", 0):
        yield invalid(path, len(value), f"{path} in body should have at least {schema['minItems']} items")
    for index, one in enumerate(value):
        yield from errors(one, schema.get("items", {}), f"{path}[{index}]")
    kind, seen = schema.get("x-kubernetes-list-type"), set()
    for index, one in enumerate(value):
        if kind == "set":
            key = one
        elif kind == "map" and isinstance(one, dict):
            key = {name: one.get(name) for name in schema.get("x-kubernetes-list-map-keys", ())}
        else:
            break
        if (text := json.dumps(key, sort_keys=True)) in seen:
            yield duplicate(f"{path}[{index}]", key)
        seen.add(text)


def _string_errors(value: str, schema: Schema, path: str) -> Iterator[FieldError]:
    if len(value) > schema.get("maxLength", len(value)):
        yield FieldError("FieldValueTooLong", path, "Too long", f"may not be more than {schema['maxLength']} bytes")
    if len(value) < schema.get("minLength", 0):
        yield invalid(path, value, f"{path} in body should be at least {schema['minLength']} chars long")
    pattern = schema.get("pattern")
    if pattern:
        try:
            matched = re.search(pattern, value)
        except re.error:  # RE2 knows what Python does not
            return
        if not matched:
            yield invalid(path, value, f"{path} in body should match '{pattern}'")
    if schema.get("format") == "date-time" and not re.fullmatch(
        r"\d{4}-\d\d-\d\d[Tt ][\d:.]+([Zz]|[+-]\d\d:\d\d)", value
    ):
        yield invalid(path, value, f'{path} in body must be of type date-time: "{value}"')


def _number_errors(value: float, schema: Schema, path: str) -> Iterator[FieldError]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and (value < least or (schema.get("exclusiveMinimum") and value == least)):
        rule = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield invalid(path, value, f"{path} in body should be {rule} {least}")
    if most is not None and (value > most or (schema.get("exclusiveMaximum") and value == most)):
        rule = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield invalid(path, value, f"{path} in body should be {rule} {most}")


def _logic_errors(value: Any, schema: Schema, path: str) -> Iterator[FieldError]:
    for one in schema.get("allOf", ()):
        yield from errors(value, one, path)
    for rule, most in (("anyOf", None), ("oneOf", 1)):
        count = sum(not any(errors(value, one, path)) for one in schema.get(rule, ()))
        if rule in schema and (not count or (most and count > most)):
            word = "at least one" if rule == "anyOf" else "one and only one"
            yield invalid(path, value, f'"{path}" must validate {word} schema ({rule})')
    if "not" in schema and not any(errors(value, schema["not"], path)):
        yield invalid(path, value, f'"{path}" must not validate the schema (not)')


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number") and isinstance(value, bool):
        return False
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _PYTHON[kind])


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]
