"""Label and field selectors: what a list or a watch leaves out."""

import re
from collections.abc import Callable
from typing import Any

from infra.emulators.kubernetes.kinds import EVENTS, NAMESPACES, NODES, PODS, SECRETS, Kind
from infra.emulators.kubernetes.labels import label_value_faults, qualified_name_faults
from infra.emulators.kubernetes.statuses import BadRequest

Selects = Callable[[dict[str, Any]], bool]

_SET = re.compile(r"(?P<key>[^\s,!=()<>]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)")
_COMPARED = re.compile(r"(?P<key>[^\s,!=()<>]+)\s*(?P<op>==|!=|=|<|>)\s*(?P<value>[^\s,=!()<>]*)")
_EXISTS = re.compile(r"(?P<no>!?)\s*(?P<key>[^\s,!=()<>]+)")

_FIELDS = {
    PODS.resource: (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    NAMESPACES.resource: ("status.phase", "name"),
    NODES.resource: ("spec.unschedulable",),
    SECRETS.resource: ("type",),
    EVENTS.resource: (
        *(f"involvedObject.{field}" for field in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")),
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
}


def label_selector(text: str) -> Selects:
    """Of a query parameter. Raises BadRequest."""
    tests: list[Selects] = []
    position = 0
    while position < len(text):
        rest = text[position:]
        stripped = rest.lstrip()
        position += len(rest) - len(stripped)
        match = _SET.match(stripped) or _COMPARED.match(stripped) or _EXISTS.match(stripped)
        if match is None:
            raise _unparsable(text)
        tests.append(_requirement(text, match.groupdict()))
        position += match.end()
        after = text[position:].lstrip()
        if after and not after.startswith(","):
            raise _unparsable(text)
        position = len(text) - len(after) + 1
        if after == ",":
            raise _unparsable(text)
    return lambda obj: all(test(obj) for test in tests)


def _requirement(text: str, parts: dict[str, str | None]) -> Selects:
    key = parts["key"] or ""
    if faults := qualified_name_faults(key):
        raise BadRequest(f'unable to parse requirement: <nil>: Invalid value: "{key}": {"; ".join(faults)}')
    op = parts.get("op")
    if op is None:
        wanted = not parts["no"]
        return lambda obj: (key in _labels(obj)) is wanted
    values = {value.strip() for value in (parts.get("values") or "").split(",")} if "values" in parts else None
    if values is None:
        values = {parts["value"] or ""}
    for value in values:
        if faults := label_value_faults(value):
            why = f'values[0][{key}]: Invalid value: "{value}": {"; ".join(faults)}'
            raise BadRequest(f"unable to parse requirement: {why}")
    if op in ("<", ">"):
        return _ordered(text, key, op, next(iter(values)))
    if op in ("!=", "notin"):
        return lambda obj: _labels(obj).get(key) not in values
    return lambda obj: _labels(obj).get(key) in values


def _ordered(text: str, key: str, op: str, value: str) -> Selects:
    if not re.fullmatch(r"-?\d{1,19}", value):
        raise _unparsable(text)

    def test(obj: dict[str, Any]) -> bool:
        seen = _labels(obj).get(key, "")
        if not re.fullmatch(r"-?\d{1,19}", seen):
            return False
        return int(seen) > int(value) if op == ">" else int(seen) < int(value)

    return test


def _unparsable(text: str) -> BadRequest:
    quoted = "'" + text.replace("'", "\\'") + "'"
    return BadRequest(f"unable to parse requirement: found {quoted}, expected: in, notin, =, ==, !=, gt, lt")


def _labels(obj: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = obj["metadata"].get("labels") or {}
    return labels


def field_selector(kind: Kind, text: str) -> Selects:
    """Of a query parameter. Raises BadRequest: the kind cannot be selected by that field."""
    tests: list[tuple[str, bool, str]] = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"(?P<field>[^=!]+)(?P<op>==|!=|=)(?P<value>.*)", term)
        if match is None:
            raise BadRequest(f"invalid selector: '{text}'; can't understand '{term}'")
        field = match["field"]
        allowed = (
            "metadata.name",
            *(("metadata.namespace",) if kind.namespaced else ()),
            *_FIELDS.get(kind.resource, ()),
        )
        if field not in allowed:
            raise BadRequest(
                f"field label not supported: {field}"
                if kind.custom or kind.resource not in _FIELDS
                else f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
                if kind.resource not in (PODS.resource, NAMESPACES.resource)
                else f"field label not supported: {field}"
            )
        tests.append((field, match["op"] != "!=", match["value"]))
    return lambda obj: all((_field(obj, field) == value) is wanted for field, wanted, value in tests)


def _field(obj: dict[str, Any], path: str) -> str:
    if path == "name":
        path = "metadata.name"
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if path == "source":
        return str((obj.get("source") or {}).get("component", ""))
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "false" if path in ("spec.unschedulable", "spec.hostNetwork") else ""
    return str(value)


def matches(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """A LabelSelector as objects have them: None selects nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or ():
        key, op, values = expression["key"], expression["operator"], expression.get("values") or ()
        if op == "In" and labels.get(key) not in values:
            return False
        if op == "NotIn" and labels.get(key) in values:
            return False
        if (op == "Exists" and key not in labels) or (op == "DoesNotExist" and key in labels):
            return False
    return True
