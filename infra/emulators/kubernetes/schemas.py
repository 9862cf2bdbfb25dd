"""The schemas of built-in kinds: what bodies are decoded, patched, merged and explained by."""

from functools import cache
from importlib.metadata import version
from typing import Any, Final

from infra.emulators.kubernetes import kinds, model_schemas
from infra.emulators.kubernetes.derived import kept
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.model_schemas import PREFIX, QUANTITY, Schema, definition_name

__all__ = ["PREFIX", "QUANTITY", "Schema", "definition_name", "definitions", "key_default", "resolved", "schema_of"]

_MADE_WITH: Final = ("kubernetes", "pydantic")
_KEY_DEFAULTS: Final = {"protocol": "TCP"}


@cache
def definitions() -> dict[str, Schema]:
    """By name, as an OpenAPI v2 document has them. The first time on a machine this takes more than a second."""
    versions = tuple(f"{name} {version(name)}" for name in _MADE_WITH)
    found: dict[str, Schema] = kept("kubernetes-schemas", (model_schemas, kinds), versions, model_schemas.made)
    return found


def schema_of(kind: Kind) -> Schema:
    """Of a built-in kind."""
    return definitions()[definition_name(kind)]


def resolved(schema: Schema) -> Schema:
    """What a reference stands for, with what is said beside it."""
    while "$ref" in schema:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**definitions()[schema["$ref"].removeprefix(PREFIX)], **beside}
    return schema


def key_default(key: str) -> Any:
    """The value that a list's key has where an item leaves it out."""
    return _KEY_DEFAULTS.get(key)
