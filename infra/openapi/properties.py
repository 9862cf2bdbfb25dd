"""marshmallow's schemas to the document's definitions: each field says for itself what it takes."""

from typing import Any, Protocol, runtime_checkable

from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import resolve_schema_instance
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields

from shared.answer_schema import Answer


@runtime_checkable
class Described(Protocol):
    """A field of ours."""

    def json_schema(self) -> dict[str, Any]:
        """What it takes, in OpenAPI's words."""


class Converter(OpenAPIConverter):
    """apispec's, with what our fields say of themselves laid over it, and without what Swagger 2.0 has no words for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.add_attribute_function(_said_by_the_field)  # type: ignore[no-untyped-call]

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        """An answer may have more fields one day; a request may not."""
        definition: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        kind = type(resolve_schema_instance(schema))
        definition["description"] = (kind.__doc__ or "").partition("\n")[0]
        if issubclass(kind, Answer):
            definition.pop("additionalProperties", None)
        return definition

    def nested2properties(self, field: fields.Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
        """A plain reference. Nothing may stand beside one, so what may be null is written out in its place."""
        if not isinstance(field, fields.Nested):
            return ret
        ret.clear()
        if field.allow_none:
            return self.schema2jsonschema(field.schema)
        reference: dict[str, Any] = self.resolve_nested_schema(field.schema)  # type: ignore[no-untyped-call]
        return reference

    def _field2parameter(self, field: fields.Field[Any], *, name: str, location: str) -> dict[str, Any]:
        """A parameter is there or not: it is never null."""
        parameter: dict[str, Any] = super()._field2parameter(field, name=name, location=location)
        parameter.pop("x-nullable", None)
        return parameter


class Plugin(MarshmallowPlugin):
    """apispec's, with that converter. A definition is named as its schema's class, without what that ends in."""

    Converter = Converter

    def __init__(self) -> None:
        super().__init__(schema_name_resolver=definition_name)


def _said_by_the_field(_: OpenAPIConverter, field: fields.Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
    if ret.get("default", ...) is None:
        del ret["default"]
    return field.json_schema() if isinstance(field, Described) else {}


def definition_name(schema: type[Schema] | Schema) -> str:
    """What a schema is called in the document."""
    name = type(resolve_schema_instance(schema)).__name__
    return name.removesuffix("Schema").removesuffix("Answer")
