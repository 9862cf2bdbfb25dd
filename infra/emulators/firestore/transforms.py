"""Field transforms: server timestamp, increment, maximum, minimum, array union and removal."""

import math
from collections.abc import Sequence

from google.api_core import exceptions

from . import fields as paths
from . import values
from .messages import Message, Value, timestamp

_INT64 = range(-(2**63), 2**63)
_REQUEST_TIME = 1
_NULL = 0


def transform(fields: Message, transforms: Sequence[Message], time_us: int) -> list[Message]:
    """Apply the transforms in order, in place; answers a Value for each. Raises InvalidArgument."""
    targets = [paths.parse(step.field_path) for step in transforms]
    for path in targets:
        if any(path != other and other[: len(path)] == path for other in targets):
            raise exceptions.InvalidArgument(
                f"Cannot transform property {'.'.join(path)} and its nested property at the same time."
            )
    return [_apply(fields, path, step, time_us) for path, step in zip(targets, transforms, strict=True)]


def _apply(fields: Message, path: paths.FieldPath, step: Message, time_us: int) -> Message:
    kind = step.WhichOneof("transform_type")
    found = paths.lookup(fields, path)
    match kind:
        case "set_to_server_value":
            if step.set_to_server_value != _REQUEST_TIME:
                raise exceptions.InvalidArgument("ServerValue type must be specified for set_to_server_value.")
            # the time of the request has milliseconds, in production too
            result = Value(timestamp_value=timestamp(time_us - time_us % 1000))
        case "increment":
            result = _increment(found, _numeric(step.increment))
        case "maximum" | "minimum":
            result = _extreme(found, _numeric(getattr(step, kind)), largest=kind == "maximum")
        case "append_missing_elements":
            _union(paths.ensure(fields, path), step.append_missing_elements.values)
            return Value(null_value=_NULL)
        case "remove_all_from_array":
            _difference(paths.ensure(fields, path), step.remove_all_from_array.values)
            return Value(null_value=_NULL)
        case _:
            raise exceptions.InvalidArgument("Operation type must be specified for field transformation.")
    paths.ensure(fields, path).CopyFrom(result)
    return result


def _is_number(value: Message) -> bool:
    return value.WhichOneof("value_type") in ("integer_value", "double_value")


def _numeric(operand: Message) -> Message:
    if not _is_number(operand):
        raise exceptions.InvalidArgument("Input must be int64 or double.")
    return operand


def _number(value: Message) -> int | float:
    found: int | float = getattr(value, value.WhichOneof("value_type"))
    return found


def _increment(found: Message | None, operand: Message) -> Message:
    """A sum of integers stays in 64 bits, at its nearest end."""
    if found is None or not _is_number(found):
        return operand
    total = _number(found) + _number(operand)
    if isinstance(total, int):
        return Value(integer_value=min(max(total, _INT64[0]), _INT64[-1]))
    return Value(double_value=total)


def _extreme(found: Message | None, operand: Message, *, largest: bool) -> Message:
    """The larger or smaller; the stored one when they are equal; NaN when either is."""
    if found is None or not _is_number(found):
        return operand
    for value in (found, operand):
        if math.isnan(_number(value)):
            return value
    one, other = _number(found), _number(operand)
    return operand if (other > one if largest else other < one) else found


def _union(value: Message, elements: Sequence[Message]) -> None:
    array = _as_array(value)
    present = {values.encode(item) for item in array.values}
    for element in elements:
        encoded = values.encode(element)
        if encoded not in present:
            present.add(encoded)
            array.values.append(element)


def _difference(value: Message, elements: Sequence[Message]) -> None:
    array = _as_array(value)
    unwanted = {values.encode(element) for element in elements}
    kept = [item for item in array.values if values.encode(item) not in unwanted]
    if len(kept) < len(array.values):
        copies = [Value.FromString(item.SerializeToString()) for item in kept]
        del array.values[:]
        array.values.extend(copies)


def _as_array(value: Message) -> Message:
    if value.WhichOneof("value_type") != "array_value":
        value.Clear()
        value.array_value.SetInParent()
    return value.array_value
