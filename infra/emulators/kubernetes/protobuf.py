"""Bodies in the API's protobuf: kubectl sends what it makes itself so (create namespace, auth can-i). Answers are JSON.

The tables are of k8s.io/api's generated.proto files: a field's number, its name in JSON, its type. Types: a scalar
(`string`, `int`, `bool`; with "?" one whose zero value counts), a message, "[TYPE]" for a list, "{TYPE}" for a map.
"""

import base64
from datetime import UTC, datetime
from typing import Any, Final

from infra.emulators.kubernetes.moments import timestamp
from infra.emulators.kubernetes.statuses import BadRequest, UnsupportedMediaType

PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\0"

_Message = dict[int, tuple[str, str]]
_META: Final = (1, "metadata", "ObjectMeta")


def _message(*fields: tuple[int, str, str]) -> _Message:
    return {number: (name, kind) for number, name, kind in fields}


_MESSAGES: Final[dict[str, _Message]] = {
    "ObjectMeta": _message(
        (1, "name", "string"),
        (2, "generateName", "string"),
        (3, "namespace", "string"),
        (5, "uid", "string"),
        (6, "resourceVersion", "string"),
        (11, "labels", "{string}"),
        (12, "annotations", "{string}"),
        (13, "ownerReferences", "[OwnerReference]"),
        (14, "finalizers", "[string]"),
    ),
    "OwnerReference": _message(
        (1, "kind", "string"),
        (3, "name", "string"),
        (4, "uid", "string"),
        (5, "apiVersion", "string"),
        (6, "controller", "bool?"),
        (7, "blockOwnerDeletion", "bool?"),
    ),
    "Namespace": _message(_META, (2, "spec", "NamespaceSpec")),
    "NamespaceSpec": _message((1, "finalizers", "[string]")),
    "ConfigMap": _message(_META, (2, "data", "{string}"), (3, "binaryData", "{bytes}"), (4, "immutable", "bool?")),
    "Secret": _message(
        _META, (2, "data", "{bytes}"), (3, "type", "string"), (4, "stringData", "{string}"), (5, "immutable", "bool?")
    ),
    "ServiceAccount": _message(
        _META,
        (2, "secrets", "[ObjectReference]"),
        (3, "imagePullSecrets", "[LocalObjectReference]"),
        (4, "automountServiceAccountToken", "bool?"),
    ),
    "ObjectReference": _message(
        (1, "kind", "string"), (2, "namespace", "string"), (3, "name", "string"), (4, "uid", "string")
    ),
    "LocalObjectReference": _message((1, "name", "string")),
    "ResourceQuota": _message(_META, (2, "spec", "ResourceQuotaSpec")),
    "ResourceQuotaSpec": _message((1, "hard", "{Quantity}"), (2, "scopes", "[string]")),
    "PriorityClass": _message(
        _META,
        (2, "value", "int"),
        (3, "globalDefault", "bool"),
        (4, "description", "string"),
        (5, "preemptionPolicy", "string"),
    ),
    "Service": _message(_META, (2, "spec", "ServiceSpec")),
    "ServiceSpec": _message(
        (1, "ports", "[ServicePort]"),
        (2, "selector", "{string}"),
        (3, "clusterIP", "string"),
        (4, "type", "string"),
        (5, "externalIPs", "[string]"),
        (7, "sessionAffinity", "string"),
        (10, "externalName", "string"),
        (13, "publishNotReadyAddresses", "bool"),
        (18, "clusterIPs", "[string]"),
    ),
    "ServicePort": _message(
        (1, "name", "string"),
        (2, "protocol", "string"),
        (3, "port", "int"),
        (4, "targetPort", "IntOrString"),
        (5, "nodePort", "int"),
        (6, "appProtocol", "string"),
    ),
    "Lease": _message(_META, (2, "spec", "LeaseSpec")),
    "LeaseSpec": _message(
        (1, "holderIdentity", "string"),
        (2, "leaseDurationSeconds", "int"),
        (3, "acquireTime", "Time"),
        (4, "renewTime", "Time"),
        (5, "leaseTransitions", "int?"),
    ),
    "TokenRequest": _message(_META, (2, "spec", "TokenRequestSpec")),
    "TokenRequestSpec": _message(
        (1, "audiences", "[string]"), (3, "boundObjectRef", "BoundObjectReference"), (4, "expirationSeconds", "int?")
    ),
    "BoundObjectReference": _message(
        (1, "kind", "string"), (2, "apiVersion", "string"), (3, "name", "string"), (4, "uid", "string")
    ),
    "SelfSubjectAccessReview": _message(_META, (2, "spec", "SelfSubjectAccessReviewSpec")),
    "SelfSubjectAccessReviewSpec": _message(
        (1, "resourceAttributes", "ResourceAttributes"), (2, "nonResourceAttributes", "NonResourceAttributes")
    ),
    "ResourceAttributes": _message(
        (1, "namespace", "string"),
        (2, "verb", "string"),
        (3, "group", "string"),
        (4, "version", "string"),
        (5, "resource", "string"),
        (6, "subresource", "string"),
        (7, "name", "string"),
    ),
    "NonResourceAttributes": _message((1, "path", "string"), (2, "verb", "string")),
    "SelfSubjectRulesReview": _message(_META, (2, "spec", "SelfSubjectRulesReviewSpec")),
    "SelfSubjectRulesReviewSpec": _message((1, "namespace", "string")),
    "SelfSubjectReview": _message(_META),
    "TokenReview": _message(_META, (2, "spec", "TokenReviewSpec")),
    "TokenReviewSpec": _message((1, "token", "string"), (2, "audiences", "[string]")),
    "Eviction": _message(_META, (2, "deleteOptions", "DeleteOptions")),
    "DeleteOptions": _message(
        (1, "gracePeriodSeconds", "int?"),
        (2, "preconditions", "Preconditions"),
        (3, "orphanDependents", "bool?"),
        (4, "propagationPolicy", "string"),
        (5, "dryRun", "[string]"),
    ),
    "Preconditions": _message((1, "uid", "string"), (2, "resourceVersion", "string")),
    "Quantity": _message((1, "string", "string")),
    "IntOrString": _message((1, "type", "int"), (2, "intVal", "int"), (3, "strVal", "string")),
    "Time": _message((1, "seconds", "int"), (2, "nanos", "int")),
}


def decoded(body: bytes) -> dict[str, Any]:
    """The object as JSON has it. Raises BadRequest, UnsupportedMediaType: a kind that the tables do not have."""
    if not body.startswith(_MAGIC):
        raise BadRequest("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        envelope = _fields(body[len(_MAGIC) :])
        about = _fields(envelope[1][0])
        api_version, kind = about[1][0].decode(), about[2][0].decode()
        if kind not in _MESSAGES:
            raise UnsupportedMediaType(("application/json", "application/yaml"))
        return {"apiVersion": api_version, "kind": kind, **_decoded(_MESSAGES[kind], envelope[2][0])}
    except (LookupError, ValueError, TypeError, AttributeError):
        raise BadRequest("proto: illegal wireType or unexpected EOF") from None


def _decoded(message: _Message, body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, values in _fields(body).items():
        name, kind = message.get(number, ("", ""))
        if not name:
            continue
        if kind.startswith("["):
            found[name] = [_value(kind[1:-1], value) for value in values]
        elif kind.startswith("{"):
            pairs = [_fields(value) for value in values]
            found[name] = {pair[1][0].decode(): _value(kind[1:-1], pair.get(2, [b""])[0]) for pair in pairs}
        else:
            value = _value(kind.rstrip("?"), values[-1])
            if value not in ("", 0, False, None, {}) or kind.endswith("?"):
                found[name] = value
    return found


def _value(kind: str, raw: Any) -> Any:
    if kind == "string":
        return raw.decode()
    if kind == "bytes":
        return base64.b64encode(raw).decode()
    if kind == "int":
        return raw - (1 << 64) if raw >= 1 << 63 else int(raw)
    if kind == "bool":
        return bool(raw)
    value = _decoded(_MESSAGES[kind], raw)
    if kind == "Quantity":
        return value.get("string", "0")
    if kind == "IntOrString":
        return value.get("strVal", "") if value.get("type") else value.get("intVal", 0)
    if kind == "Time":
        return timestamp(datetime.fromtimestamp(value["seconds"], UTC)) if value else None
    return value


def _fields(body: bytes) -> dict[int, list[Any]]:
    """Of one message: by number, an int or bytes for each occurrence. Raises ValueError, IndexError."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(body):
        key, at = _varint(body, at)
        number, wire = key >> 3, key & 7
        value: Any
        if wire == 0:
            value, at = _varint(body, at)
        elif wire == 2:
            size, at = _varint(body, at)
            if at + size > len(body):
                raise ValueError("unexpected end")
            value, at = body[at : at + size], at + size
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = int.from_bytes(body[at : at + size], "little"), at + size
        else:
            raise ValueError(f"wire type {wire}")
        found.setdefault(number, []).append(value)
    return found


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint overflow")
