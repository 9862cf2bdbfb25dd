"""Values: what Firestore accepts, how large it is, and a byte encoding that compares and sorts as Firestore does.

Order of types: null, booleans, NaN, numbers, timestamps, strings, bytes, references, geo points, arrays, vectors, maps.
Integers and doubles compare by their exact value; 1 equals 1.0, and -0.0 equals 0. Every encoding is prefix-free, so
concatenated encodings compare component by component, and inverted ones compare the other way round.
"""

import math
import re
import struct

from google.api_core import exceptions

from .messages import Message
from .names import encode as encode_path
from .names import parent as parse_reference

MAX_DEPTH = 20  # nested maps and arrays: cloud.google.com/firestore/quotas#limits
MAX_VALUE_BYTES = 1_048_487  # one field's value: same page
MAX_FIELD_NAME_BYTES = 1500
MAX_DOCUMENT_BYTES = 1_048_576
MIN_SECONDS, MAX_SECONDS = -62_135_596_800, 253_402_300_799  # years 1 to 9999

NULL, BOOLEAN, NAN, NUMBER, TIMESTAMP, STRING, BYTES, REFERENCE, GEO, ARRAY, VECTOR, MAP = range(0x10, 0x70, 8)
_TEXT_END = b"\x00\x01"
_INVERT = bytes(255 - byte for byte in range(256))
_RESERVED = re.compile(r"__.*__", re.DOTALL)


def encode(value: Message) -> bytes:
    """Bytes that order as Firestore orders values; equal bytes are equal values. The first byte is the type."""
    kind = value.WhichOneof("value_type")
    match kind:
        case "string_value":
            return b"%c%b" % (STRING, _text(value.string_value.encode()))
        case "integer_value":
            return _number(value.integer_value)
        case "double_value":
            number = value.double_value
            return bytes([NAN]) if math.isnan(number) else _number(number)
        case "boolean_value":
            return bytes([BOOLEAN, value.boolean_value])
        case "timestamp_value":
            stamp = value.timestamp_value
            return struct.pack(">BQI", TIMESTAMP, stamp.seconds + 2**63, stamp.nanos)
        case "map_value":
            return _map(value.map_value.fields)
        case "array_value":
            return b"%c%b\x00" % (ARRAY, b"".join([encode(item) for item in value.array_value.values]))
        case "reference_value":
            project, database, path = _reference(value.reference_value)
            return b"%c%b%b%b\x00" % (REFERENCE, _text(project), _text(database), path)
        case "bytes_value":
            return b"%c%b" % (BYTES, _text(value.bytes_value))
        case "geo_point_value":
            point = value.geo_point_value
            return bytes([GEO]) + _double(point.latitude) + _double(point.longitude)
    return bytes([NULL])


def invert(encoded: bytes) -> bytes:
    """The encoding for a descending order."""
    return encoded.translate(_INVERT)


def is_vector(fields: Message) -> bool:
    return "__type__" in fields and fields["__type__"].string_value == "__vector__"


def _number(number: float) -> bytes:
    """The nearest double, then how far an integer is from it (at most 512, as doubles near 2**63 are 1024 apart)."""
    nearest = float(number)
    offset = int(number) - int(nearest) if isinstance(number, int) else 0
    return b"%c%b%b" % (NUMBER, _double(nearest), struct.pack(">H", offset + 0x8000))


def _double(number: float) -> bytes:
    (bits,) = struct.unpack(">Q", struct.pack(">d", number + 0.0))  # + 0.0 turns -0.0 into 0.0
    return struct.pack(">Q", bits ^ (2**64 - 1) if bits >> 63 else bits | 1 << 63)


def _text(raw: bytes) -> bytes:
    return raw.replace(b"\x00", b"\x00\xff") + _TEXT_END


def _map(fields: Message) -> bytes:
    if is_vector(fields):
        numbers = [encode(item) for item in fields["value"].array_value.values]
        return struct.pack(">BI", VECTOR, len(numbers)) + b"".join(numbers)
    return b"%c%b\x00" % (
        MAP,
        b"".join([b"\x01%b%b" % (_text(name), encode(value)) for name, value in _sorted(fields)]),
    )


def _sorted(fields: Message) -> list[tuple[bytes, Message]]:
    return sorted(((name.encode(), value) for name, value in fields.items()), key=lambda entry: entry[0])


def _reference(name: str) -> tuple[bytes, bytes, bytes]:
    parts = name.split("/", 5)
    path = tuple(parts[5].split("/")) if len(parts) == 6 else ()
    return parts[1].encode(), parts[3].encode(), encode_path(path)


def check_fields(fields: Message) -> None:
    """Refuse what Firestore does not store and cut timestamps to microseconds, in place. Raises InvalidArgument."""
    for name, value in fields.items():
        _check_field_name(name)
        _check(value, name, depth=0)


def _check_field_name(name: str) -> None:
    if not name:
        raise exceptions.InvalidArgument("The property.name is the empty string.")
    if len(name) > MAX_FIELD_NAME_BYTES // 4 and len(name.encode()) > MAX_FIELD_NAME_BYTES:
        raise exceptions.InvalidArgument(f"The property.name is longer than {MAX_FIELD_NAME_BYTES} bytes.")
    if name.startswith("__") and _RESERVED.fullmatch(name):
        raise exceptions.InvalidArgument(f"field name {name} is reserved")


def check_value(value: Message, field: str) -> None:
    """`check_fields` for one value. Raises InvalidArgument."""
    _check(value, field, depth=0)


def _check(value: Message, field: str, depth: int) -> None:
    kind = value.WhichOneof("value_type")
    match kind:
        case None:
            raise exceptions.InvalidArgument(f'The value of property "{field}" has no type.')
        case "string_value" | "bytes_value":
            if text_size(getattr(value, kind)) > MAX_VALUE_BYTES:
                raise exceptions.InvalidArgument(
                    f'The value of property "{field}" is longer than {MAX_VALUE_BYTES} bytes.'
                )
        case "timestamp_value":
            stamp = value.timestamp_value
            if not (MIN_SECONDS <= stamp.seconds <= MAX_SECONDS and 0 <= stamp.nanos < 1_000_000_000):
                raise exceptions.InvalidArgument(f'The timestamp in property "{field}" is out of range.')
            stamp.nanos -= stamp.nanos % 1000
        case "reference_value":
            if not parse_reference(value.reference_value, what="Resource name").path:
                raise exceptions.InvalidArgument(f'Resource name "{value.reference_value}" names no document.')
        case "geo_point_value":
            point = value.geo_point_value
            if not (-90 <= point.latitude <= 90 and -180 <= point.longitude <= 180):
                raise exceptions.InvalidArgument(f'The geo point in property "{field}" is out of range.')
        case "array_value" | "map_value":
            if depth == MAX_DEPTH:
                raise exceptions.InvalidArgument(f"Property {field} contains an invalid nested entity.")
            if kind == "map_value":
                _check_map(value.map_value.fields, field, depth + 1)
                return
            for item in value.array_value.values:
                if item.WhichOneof("value_type") == "array_value":
                    raise exceptions.InvalidArgument("Cannot convert an array value in an array value.")
                _check(item, field, depth + 1)


def _check_map(fields: Message, field: str, depth: int) -> None:
    if "__type__" in fields:
        items = fields["value"].array_value.values if "value" in fields else []
        if not is_vector(fields) or len(fields) != 2 or not items:
            raise exceptions.InvalidArgument(f"Property {field} contains an invalid nested entity.")
        if any(item.WhichOneof("value_type") != "double_value" for item in items):
            raise exceptions.InvalidArgument("Vector must only contain values of type 'double'")
        return
    for name, value in fields.items():
        _check_field_name(name)
        _check(value, field, depth)


def text_size(text: str | bytes) -> int:
    return len(text.encode()) if isinstance(text, str) else len(text)


def document_size(path: tuple[str, ...], fields: Message) -> int:
    """Bytes as Firestore counts them: cloud.google.com/firestore/docs/storage-size."""
    return sum(text_size(segment) + 1 for segment in path) + 16 + 32 + _fields_size(fields)


def _fields_size(fields: Message) -> int:
    return sum(text_size(name) + 1 + _size(value) for name, value in fields.items())


def _size(value: Message) -> int:
    match value.WhichOneof("value_type"):
        case "string_value":
            return text_size(value.string_value) + 1
        case "bytes_value":
            return len(value.bytes_value)
        case "array_value":
            return sum(_size(item) for item in value.array_value.values)
        case "map_value":
            return _fields_size(value.map_value.fields)
        case "reference_value":
            return sum(text_size(segment) + 1 for segment in value.reference_value.split("/")[5:]) + 16
        case "geo_point_value":
            return 16
        case "null_value" | "boolean_value":
            return 1
    return 8
