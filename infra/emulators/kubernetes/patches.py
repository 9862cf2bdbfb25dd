"""JSON patches, merge patches and strategic merge patches: RFC 6902, RFC 7386, and the API server's own."""

from typing import Any, Final

from infra.emulators.kubernetes.objects import copied
from infra.emulators.kubernetes.schemas import Schema, resolved
from infra.emulators.kubernetes.statuses import BadRequest, NoMergeKey, TooLarge, Unprocessable

MOST_OPERATIONS: Final = 10_000  # the real server's limit
_DIRECTIVE, _ORDER, _REMOVED, _RETAINED = "$patch", "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def json_patch(document: Any, operations: Any) -> Any:
    """Raises BadRequest, TooLarge, Unprocessable (a path that is not there, a test that fails)."""
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise BadRequest("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(operations) > MOST_OPERATIONS:
        told = f"The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {len(operations)}"
        raise TooLarge(f"Request entity too large: {told}")
    document = copied(document)
    for operation in operations:
        op, path = operation.get("op"), operation.get("path")
        if op not in ("add", "remove", "replace", "move", "copy", "test") or not isinstance(path, str):
            raise Unprocessable
        if op in ("add", "replace", "test") and "value" not in operation:
            raise Unprocessable
        if op in ("move", "copy"):
            source = str(operation.get("from", ""))
            value = copied(_found(document, source, op))
            if op == "move":
                document = _removed(document, source, op)
            document = _added(document, path, value, op)
        elif op == "test":
            if _found(document, path, op) != operation["value"]:
                raise Unprocessable
        elif op == "remove":
            document = _removed(document, path, op)
        else:
            if op == "replace":
                _found(document, path, op)
                document = _removed(document, path, op) if path else document
            document = _added(document, path, operation["value"], op)
    return document


def _tokens(path: str, op: str) -> list[str]:
    if path and not path.startswith("/"):
        raise Unprocessable
    return [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]


def _found(document: Any, path: str, op: str) -> Any:
    for token in _tokens(path, op):
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, list) and token.isdecimal() and int(token) < len(document):
            document = document[int(token)]
        else:
            raise Unprocessable
    return document


def _parent(document: Any, path: str, op: str) -> tuple[Any, str]:
    tokens = _tokens(path, op)
    return _found(document, "/".join(path.split("/")[:-1]), op), tokens[-1]


def _removed(document: Any, path: str, op: str) -> Any:
    _found(document, path, op)
    if not path:
        return None
    parent, token = _parent(document, path, op)
    del parent[int(token) if isinstance(parent, list) else token]
    return document


def _added(document: Any, path: str, value: Any, op: str) -> Any:
    if not path:
        return value
    parent, last = _parent(document, path, op)
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list) and last == "-":
        parent.append(value)
    elif isinstance(parent, list) and last.isdecimal() and int(last) <= len(parent):
        parent.insert(int(last), value)
    else:
        raise Unprocessable
    return document


def merge_patch(document: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def strategic_merge_patch(document: Any, patch: dict[str, Any], schema: Schema) -> Any:
    """Lists merge by the key that `schema` gives them. Raises NoMergeKey: an item without its key."""
    schema = resolved(schema)
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    merged = dict(document) if isinstance(document, dict) else {}
    if _RETAINED in patch:
        merged = {key: value for key, value in merged.items() if key in patch[_RETAINED]}
    for key, value in patch.items():
        if key in (_DIRECTIVE, _RETAINED) or key.startswith(_ORDER):
            continue
        if key.startswith(_REMOVED):
            name = key.removeprefix(_REMOVED)
            merged[name] = [one for one in merged.get(name) or [] if one not in value]
            continue
        inner = _inner(schema, key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = strategic_merge_patch(merged.get(key), value, inner)
        elif isinstance(value, list) and "merge" in inner.get("x-kubernetes-patch-strategy", ""):
            merged[key] = _merged_list(merged.get(key) or [], value, inner, key)
        else:
            merged[key] = value
        if isinstance(merged.get(key), list):
            merged[key] = _in_order(merged[key], patch.get(_ORDER + key), inner)
    for key, order in patch.items():
        name = key.removeprefix(_ORDER)
        if key.startswith(_ORDER) and name not in patch and isinstance(merged.get(name), list):
            merged[name] = _in_order(merged[name], order, _inner(schema, name))
    return merged


def _inner(schema: Schema, key: str) -> Schema:
    known = schema.get("properties", {})
    if key in known:
        return resolved(known[key])
    beyond = schema.get("additionalProperties")
    return resolved(beyond) if isinstance(beyond, dict) else {}


def _merged_list(old: list[Any], patch: list[Any], schema: Schema, where: str) -> list[Any]:
    key = schema.get("x-kubernetes-patch-merge-key")
    if key is None:
        return [*old, *(one for one in patch if one not in old)]
    if any(isinstance(one, dict) and one.get(_DIRECTIVE) == "replace" for one in patch):
        return [one for one in patch if one != {_DIRECTIVE: "replace"}]
    merged = list(old)
    for one in patch:
        if not isinstance(one, dict) or key not in one:
            raise NoMergeKey(one, key)
        at = next((index for index, had in enumerate(merged) if had.get(key) == one[key]), None)
        if one.get(_DIRECTIVE) == "delete":
            merged = [had for had in merged if had.get(key) != one[key]]
        elif at is None:
            merged.append(strategic_merge_patch({}, one, schema["items"]))
        else:
            merged[at] = strategic_merge_patch(merged[at], one, schema["items"])
    return merged


def _in_order(items: list[Any], order: list[Any] | None, schema: Schema) -> list[Any]:
    if not order:
        return items
    key = schema.get("x-kubernetes-patch-merge-key")

    def named(one: Any) -> Any:
        return one.get(key) if key and isinstance(one, dict) else one

    places = {named(one): index for index, one in enumerate(order)}
    return sorted(items, key=lambda one: places.get(named(one), len(places)))
