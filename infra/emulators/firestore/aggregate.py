"""Aggregations over the result of a query: count, sum and average, with Firestore's arithmetic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from google.api_core import exceptions

from . import fields as paths
from .fields import NAME, FieldPath
from .messages import Message, Value

MAX_AGGREGATIONS = 5  # cloud.google.com/firestore/docs/query-data/aggregation-queries#limitations
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One number about a result. `path` is None for a count."""

    alias: str
    kind: str  # "count", "sum" or "avg"
    path: FieldPath | None
    up_to: int | None


def read(aggregations: Sequence[Message]) -> list[Aggregation]:
    """Check what is asked for; nameless ones become field_1, field_2, … Raises InvalidArgument."""
    if not aggregations:
        raise exceptions.InvalidArgument("Aggregations can not be empty.")
    if len(aggregations) > MAX_AGGREGATIONS:
        raise exceptions.InvalidArgument(f"The maximum number of aggregations in a query is {MAX_AGGREGATIONS}.")
    taken = {aggregation.alias for aggregation in aggregations}
    fresh = (name for index in range(1, 2 * MAX_AGGREGATIONS + 1) if (name := f"field_{index}") not in taken)
    found: list[Aggregation] = []
    for aggregation in aggregations:
        alias = aggregation.alias or next(fresh)
        if any(alias == other.alias for other in found):
            raise exceptions.InvalidArgument(f"Aggregation aliases contain duplicate alias: {alias}.")
        if alias.startswith("__") and alias.endswith("__"):
            raise exceptions.InvalidArgument(f'The property.name "{alias}" is reserved.')
        found.append(_read_one(alias, aggregation))
    return found


def _read_one(alias: str, aggregation: Message) -> Aggregation:
    kind = aggregation.WhichOneof("operator")
    if kind is None:
        raise exceptions.InvalidArgument("Operator field in Aggregation is not set.")
    if kind == "count":
        up_to = aggregation.count.up_to.value if aggregation.count.HasField("up_to") else None
        if up_to is not None and up_to < 0:
            raise exceptions.InvalidArgument(
                "The `up_to` value in a COUNT aggregation must be greater than or equal to zero."
            )
        return Aggregation(alias, kind, None, up_to)
    path = paths.parse(getattr(aggregation, kind).field.field_path)
    if path == NAME:
        raise exceptions.InvalidArgument("Aggregations are not supported for the property: __key__")
    return Aggregation(alias, kind, path, None)


def fields(aggregations: Sequence[Aggregation]) -> tuple[FieldPath, ...]:
    """The fields a document must have to take part, in the counts too."""
    return tuple(sorted({aggregation.path for aggregation in aggregations if aggregation.path is not None}))


def compute(aggregations: Sequence[Aggregation], documents: Sequence[Message]) -> dict[str, Message]:
    """The values by alias."""
    return {aggregation.alias: _value(aggregation, documents) for aggregation in aggregations}


def _value(aggregation: Aggregation, documents: Sequence[Message]) -> Message:
    if aggregation.path is None:
        count = len(documents)
        return Value(integer_value=count if aggregation.up_to is None else min(count, aggregation.up_to))
    numbers: list[int | float] = []
    for document in documents:
        value = paths.lookup(document.fields, aggregation.path)
        kind = None if value is None else value.WhichOneof("value_type")
        if kind in ("integer_value", "double_value"):
            numbers.append(getattr(value, kind))
    if aggregation.kind == "avg":
        return Value(double_value=_double_sum(numbers) / len(numbers)) if numbers else Value(null_value=0)
    exact = sum(number for number in numbers if isinstance(number, int))
    if exact in _INT64 and all(isinstance(number, int) for number in numbers):
        return Value(integer_value=exact)
    return Value(double_value=_double_sum(numbers))


def _double_sum(numbers: Sequence[int | float]) -> float:
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):  # infinities, or sums beyond doubles: plain addition has an answer for each
        return float(sum(float(number) for number in numbers))
