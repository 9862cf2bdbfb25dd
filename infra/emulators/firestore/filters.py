"""The `where` of a query: read, checked as Firestore checks it, and reduced to four kinds of condition over encodings.

What looks odd is Firestore's: null and NaN match no comparison, `!=` and NOT_IN skip null, a range stays in its type.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from google.api_core import exceptions

from . import fields as paths
from . import names, values
from .fields import NAME, FieldPath
from .messages import Message, StructuredQuery

MAX_DISJUNCTIONS = 30  # cloud.google.com/firestore/docs/query-data/queries#limitations
MAX_NOT_IN = 10  # same page

_COMPOSITE = StructuredQuery.CompositeFilter
_FIELD = StructuredQuery.FieldFilter
_UNARY = StructuredQuery.UnaryFilter
_NULL = bytes([values.NULL])
_NAN = bytes([values.NAN])
_NEVER = b""  # no value encodes to this: what null and NaN are compared as


@dataclass(frozen=True, slots=True)
class Equal:
    path: FieldPath
    value: bytes

    def holds(self, document: Message) -> bool:
        return encoded_field(document, self.path) == self.value


@dataclass(frozen=True, slots=True)
class Range:
    """lower <= encoding < upper; without `upper`, everything from `lower` on."""

    path: FieldPath
    lower: bytes
    upper: bytes | None

    def holds(self, document: Message) -> bool:
        value = encoded_field(document, self.path)
        return value is not None and self.lower <= value and (self.upper is None or value < self.upper)


@dataclass(frozen=True, slots=True)
class Other:
    """The field is there and has none of these values."""

    path: FieldPath
    excluded: frozenset[bytes]

    def holds(self, document: Message) -> bool:
        value = encoded_field(document, self.path)
        return value is not None and value not in self.excluded


@dataclass(frozen=True, slots=True)
class Contains:
    path: FieldPath
    value: bytes

    def holds(self, document: Message) -> bool:
        array = paths.lookup(document.fields, self.path)
        return array is not None and any(values.encode(item) == self.value for item in array.array_value.values)


Condition = Equal | Range | Other | Contains
Conjunction = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Where:
    """The filter as alternatives; a document matches when all conditions of one of them hold."""

    alternatives: tuple[Conjunction, ...]
    fields: frozenset[FieldPath]
    inequalities: tuple[FieldPath, ...]  # what the result is ordered by if the query does not say; sorted

    def holds(self, document: Message) -> bool:
        return any(all(condition.holds(document) for condition in alternative) for alternative in self.alternatives)


EVERYTHING = Where(((),), frozenset(), ())


def encoded_field(document: Message, path: FieldPath) -> bytes | None:
    """The encoding of a field, or of the document's own path for `__name__`; None: no such field."""
    if path == NAME:
        return names.encode(path_of(document))
    value = paths.lookup(document.fields, path)
    return None if value is None else values.encode(value)


def path_of(document: Message) -> names.Path:
    return tuple(document.name.split("/", 5)[5].split("/"))


def reference_path(value: Message, message: str) -> bytes:
    """The encoded path that a `__name__` operand names. Raises InvalidArgument with `message`: it is no reference."""
    if value.WhichOneof("value_type") != "reference_value":
        raise exceptions.InvalidArgument(message)
    return names.document(value.reference_value).key


def read(where: Message) -> Where:
    """Check and reduce a filter. Raises InvalidArgument."""
    reader = _Reader()
    alternatives = tuple(reader.alternatives(where))
    reader.check_combination()
    for alternative in alternatives:
        if sum(isinstance(condition, Contains) for condition in alternative) > 1:
            raise exceptions.InvalidArgument("A maximum of 1 'ARRAY_CONTAINS' filter is allowed per disjunction.")
    possible = tuple(alternative for alternative in alternatives if not any(map(_is_never, alternative)))
    return Where(possible, frozenset(reader.fields), tuple(sorted(reader.inequalities)))


class _Reader:
    def __init__(self) -> None:
        self.fields: set[FieldPath] = set()
        self.inequalities: set[FieldPath] = set()
        self._negations = 0
        self._not_in = False
        self._disjunctive = False

    def check_combination(self) -> None:
        if self._negations > 1:
            raise exceptions.InvalidArgument(
                "Only a single 'NOT_EQUAL', 'NOT_IN', 'IS_NOT_NAN', or 'IS_NOT_NULL' filter allowed per query."
            )
        if self._not_in and self._disjunctive:
            raise exceptions.InvalidArgument(
                "'NOT_IN' cannot be used in the same query with 'IN', 'ARRAY_CONTAINS_ANY' or 'OR'."
            )

    def alternatives(self, node: Message) -> list[Conjunction]:
        match node.WhichOneof("filter_type"):
            case "composite_filter":
                return self._composite(node.composite_filter)
            case "field_filter":
                return [(condition,) for condition in self._field(node.field_filter)]
            case "unary_filter":
                return [(self._unary(node.unary_filter),)]
        raise exceptions.InvalidArgument("A filter is empty.")

    def _composite(self, node: Message) -> list[Conjunction]:
        if node.op not in (_COMPOSITE.AND, _COMPOSITE.OR):
            raise exceptions.InvalidArgument("Unsupported CompositeFilter operator.")
        if not node.filters and node.op == _COMPOSITE.OR:
            raise exceptions.InvalidArgument("An OR has no filters.")
        # each is read, as it counts for what may be combined; but repeated ones are one alternative
        read = {part.SerializeToString(deterministic=True): self.alternatives(part) for part in node.filters}
        parts = list(read.values())
        if node.op == _COMPOSITE.OR:
            self._disjunctive = True
            return _bounded(itertools.chain.from_iterable(parts))
        product: list[Conjunction] = [()]
        for part in parts:
            product = _bounded(left + right for left in product for right in part)
        return product

    def _field(self, node: Message) -> Iterable[Condition]:
        """The alternatives that a field filter stands for."""
        path = paths.parse(node.field.field_path)
        self.fields.add(path)
        match node.op:
            case _FIELD.EQUAL:
                return [Equal(path, _comparable(_operand(path, node.value)))]
            case _FIELD.IN:
                self._disjunctive = True
                listed = _list(path, node, "IN", MAX_DISJUNCTIONS)
                return [Equal(path, value) for value in dict.fromkeys(map(_comparable, listed))]
            case _FIELD.ARRAY_CONTAINS:
                _no_name(path)
                return [Contains(path, _comparable(_operand(path, node.value)))]
            case _FIELD.ARRAY_CONTAINS_ANY:
                _no_name(path)
                self._disjunctive = True
                listed = _list(path, node, "ARRAY_CONTAINS_ANY", MAX_DISJUNCTIONS)
                return [Contains(path, value) for value in dict.fromkeys(map(_comparable, listed))]
            case _FIELD.NOT_EQUAL | _FIELD.NOT_IN:
                self._negations += 1
                self.inequalities.add(path)
                if node.op == _FIELD.NOT_IN:
                    self._not_in = True
                    excluded = _list(path, node, "NOT_IN", MAX_NOT_IN)
                else:
                    excluded = [_operand(path, node.value)]
                if _NULL in excluded:
                    return [Equal(path, _NEVER)]
                return [Other(path, frozenset((_NULL, *(value for value in excluded if value != _NAN))))]
            case _FIELD.LESS_THAN | _FIELD.LESS_THAN_OR_EQUAL | _FIELD.GREATER_THAN | _FIELD.GREATER_THAN_OR_EQUAL:
                self.inequalities.add(path)
                return [_range(path, node.op, _comparable(_operand(path, node.value)))]
        raise exceptions.InvalidArgument("Unknown FieldFilter operator.")

    def _unary(self, node: Message) -> Condition:
        path = paths.parse(node.field.field_path)
        if path == NAME:
            raise exceptions.InvalidArgument("__key__ filter value must be a Key")
        self.fields.add(path)
        match node.op:
            case _UNARY.IS_NULL:
                return Equal(path, _NULL)
            case _UNARY.IS_NAN:
                return Equal(path, _NAN)
            case _UNARY.IS_NOT_NULL | _UNARY.IS_NOT_NAN:
                self._negations += 1
                self.inequalities.add(path)
                return Other(path, frozenset((_NULL, _NAN) if node.op == _UNARY.IS_NOT_NAN else (_NULL,)))
        raise exceptions.InvalidArgument("Unknown UnaryFilter operator.")


def _is_never(condition: Condition) -> bool:
    return isinstance(condition, Equal | Contains) and condition.value == _NEVER


def _comparable(value: bytes) -> bytes:
    return _NEVER if value in (_NULL, _NAN) else value


def _range(path: FieldPath, op: int, value: bytes) -> Condition:
    if value == _NEVER:
        return Equal(path, _NEVER)
    if path == NAME:
        first, after, end = b"", value + b"\x00", None  # children of a document come right after it
    else:
        first, after, end = value[:1], names.after_prefix(value) or b"\xff", bytes([value[0] + 1])
    match op:
        case _FIELD.LESS_THAN:
            return Range(path, first, value)
        case _FIELD.LESS_THAN_OR_EQUAL:
            return Range(path, first, after)
        case _FIELD.GREATER_THAN:
            return Range(path, after, end)
    return Range(path, value, end)


def _operand(path: FieldPath, value: Message) -> bytes:
    if path == NAME:
        return reference_path(value, "__key__ filter value must be a Key")
    values.check_value(value, ".".join(path))
    return values.encode(value)


def _list(path: FieldPath, node: Message, operator: str, limit: int) -> list[bytes]:
    if node.value.WhichOneof("value_type") != "array_value" or not node.value.array_value.values:
        raise exceptions.InvalidArgument(f"'{operator}' requires a non-empty ArrayValue.")
    listed = node.value.array_value.values
    if len(listed) > limit:
        raise exceptions.InvalidArgument(f"'{operator}' supports up to {limit} comparison values.")
    return [_operand(path, value) for value in listed]


def _no_name(path: FieldPath) -> None:
    if path == NAME:
        raise exceptions.InvalidArgument("the name __key__ is reserved")


def _bounded(alternatives: Iterable[Conjunction]) -> list[Conjunction]:
    found = list(itertools.islice(alternatives, MAX_DISJUNCTIONS + 1))
    if len(found) > MAX_DISJUNCTIONS:
        raise exceptions.InvalidArgument(
            f"Too many disjunctions after normalization, the maximum is {MAX_DISJUNCTIONS}"
        )
    return found
